{% import "lib/chain.wgsl" as lib %}
{# Sums over k come slice by slice, each from zero on: what a chain of roundings loses grows with its length, and where two large sums
   make a small one, it is what is left. Slices that are done wait in the target, which nothing else reads yet: registers for a second set
   of sums would cost the large tile half of its waves. #}
{% macro slices(aligned, first, dropped) %}
fn carried(column: u32, at: Place) -> vec4<f32> {
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

// Adds the slice that began at `begin`; more come.
fn carry(row: u32, column: u32, begin: u32, sum: vec4<f32>) {
    if row >= rows() || column >= step.columns{{ dropped }} {
        return;
    }
    let at = place(row, {{ first }} + column, step.width);
    var v = sum;
    if begin > 0u {
        v = carried(column, at) + sum;
    }
    {{ lib.put("destination", "v", aligned) }}
}

// Adds the last slice, which ends at `end`, and stores what the chain makes of the sum.
fn conclude(row: u32, column: u32, end: u32, sum: vec4<f32>) {
    if row >= rows() || column >= step.columns{{ dropped }} {
        return;
    }
    var v = sum;
    if end > step.slice {
        v = carried(column, place(row, {{ first }} + column, step.width)) + sum;
    }
    finish(row, column, v);
}
{% endmacro %}
