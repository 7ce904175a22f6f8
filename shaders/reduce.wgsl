// One number or record a row: a workgroup adds a row up, in an order that only its width decides.
{% import "lib/chain.wgsl" as lib %}
{% include "lib/step.wgsl" %}
{% include "lib/functions.wgsl" %}

const LANES = 64u;

{% for o in operands %}{{ lib.operand(o) }}{% endfor %}
{% if parameters %}{{ lib.parameters(5, aligned) }}{% endif %}
{{ lib.chain("epilogue", epilogue) }}
{% if work == "rms" %}
@group(0) @binding(3) var<storage, read_write> destination: array<f32>;
{% else %}
// A record holds Σ v, Σ |v| and how many v are not finite.
@group(0) @binding(3) var<storage, read_write> destination: array<vec4<f32>>;
{% endif %}

var<workgroup> sums: array<vec4<f32>, LANES>;

// Infinity and NaN by their bits: a comparison with NaN may be compiled away.
fn is_finite(v: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(v) & vec4(0x7fffffffu)) < vec4(0x7f800000u);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= rows() {
        return;
    }
    var sum = vec4(0.0);
    for (var column = 4u * lane; column < step.width; column += 4u * LANES) {
        let at = place(row, column, step.width);
        let is_inside = vec4(column, column + 1u, column + 2u, column + 3u) < vec4(step.width);
        let v = select(vec4(0.0), epilogue(at, {{ source }}), is_inside);
{% if work == "rms" %}
        sum.x += dot(v, v);
{% else %}
        sum += vec4(dot(v, vec4(1.0)), dot(abs(v), vec4(1.0)), dot(select(vec4(1.0), vec4(0.0), is_finite(v)), vec4(1.0)), 0.0);
{% endif %}
    }
    sums[lane] = sum;
    for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
        workgroupBarrier();
        if lane < reach {
            sums[lane] += sums[lane + reach];
        }
    }
    if lane == 0u {
{% if work == "rms" %}
        destination[row] = sqrt(sums[0].x / f32(step.width));
{% else %}
        destination[row] = sums[0];
{% endif %}
    }
}
