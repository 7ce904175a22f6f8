{% macro weight_at(at) %}{{ "unpacked(" if half_weights }}weight[{{ at }}]{{ ")" if half_weights }}{% endmacro %}
{% if half_weights %}
// Four weights that are stored as float16.
fn unpacked(w: vec2<u32>) -> vec4<f32> {
    return vec4(unpack2x16float(w.x), unpack2x16float(w.y));
}
{% endif %}
// Rows k to k + 3 and columns n to n + 3 of B, which is {{ "W: B(k, n) = W[k][n]" if backward else "W's transpose: B(k, n) = W[n][k]" }}, for the W that begins at a vector.
// Past the last row and column the last ones repeat: what they are multiplied by is zero, or their sums are not stored.
// k is less than the depth.
fn block_of(n: u32, k: u32, first: u32) -> mat4x4<f32> {
{% if backward %}
    let last = step.depth - 1u;
    let at = first + min(n / 4u, step.stride - 1u);
    return mat4x4(
        part({{ weight_at("at + k * step.stride") }}),
        part({{ weight_at("at + min(k + 1u, last) * step.stride") }}),
        part({{ weight_at("at + min(k + 2u, last) * step.stride") }}),
        part({{ weight_at("at + min(k + 3u, last) * step.stride") }}),
    );
{% else %}
    let last = step.columns - 1u;
    let at = first + k / 4u;
    return transpose(mat4x4(
        part({{ weight_at("at + min(n, last) * step.stride") }}),
        part({{ weight_at("at + min(n + 1u, last) * step.stride") }}),
        part({{ weight_at("at + min(n + 2u, last) * step.stride") }}),
        part({{ weight_at("at + min(n + 3u, last) * step.stride") }}),
    ));
{% endif %}
}
