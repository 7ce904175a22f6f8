{% import "lib/chain.wgsl" as lib %}
{# Sums over k come slice by slice, each from zero on: what a chain of roundings loses grows with its length, and where two large sums
   make a small one, it is what is left. Slices that are done wait in the target, which nothing else reads yet: registers for a second set
   of sums would cost the large tile half of its waves. #}
{% macro slices(aligned, first, dropped) %}
fn is_dropped(row: u32, column: u32) -> bool {
    return row >= rows() || column >= step.columns{{ dropped }};
}

// What the slices before have come to.
fn carried(row: u32, column: u32) -> vec4<f32> {
    if is_dropped(row, column) {
        return vec4<f32>();
    }
    let at = place(row, {{ first }} + column, step.width);
{% if aligned %}
    return destination[at.element / 4u];
{% else %}
    var v = vec4<f32>();
    for (var i = 0u; i < min(4u, step.columns - column); i++) {
        v[i] = destination[at.element + i];
    }
    return v;
{% endif %}
}

// Leaves what the slices so far have come to.
fn keep(row: u32, column: u32, v: vec4<f32>) {
    if is_dropped(row, column) {
        return;
    }
    let at = place(row, {{ first }} + column, step.width);
    {{ lib.put("destination", "v", aligned) }}
}

// Stores what the chain makes of the sum.
fn conclude(row: u32, column: u32, sum: vec4<f32>) {
    if is_dropped(row, column) {
        return;
    }
    finish(row, column, sum);
}
{% endmacro %}
