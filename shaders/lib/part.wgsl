// W̃ of four weights.
fn part(w: vec4<f32>) -> vec4<f32> {
{% if added %}
    let scales = select(vec2(step.negative, step.positive), vec2(step.added_negative, step.added_positive), is_second);
    return select(scales.x * w, scales.y * w, w > vec4(0.0));
{% elif weight == "scaled" %}
    return select(step.negative * w, step.positive * w, w > vec4(0.0));
{% elif weight == "squared" %}
    return w * w;
{% elif weight == "one" %}
    return vec4(1.0);
{% else %}
    return w;
{% endif %}
}
