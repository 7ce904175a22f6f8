// target[row, n] = sum over k of source(row, k) * B(k, n) for {{ rows }} row(s) a workgroup, where reading the weights is all the work.
// {{ "Backward: B(k, n) = W[k][n]" if backward else "Forward: B(k, n) = W[n][k]" }}.
{# Forward, W runs along k, and so do the lanes; backward it runs along n, and eight quads make a stretch of 128 bytes. #}
{% set lanes = 32 if backward else 64 %}
{% set quads = 256 // lanes %}
//
// {{ lanes }} lanes share a quad of columns: each takes every {{ lanes }}th quad of k, and a tree adds up what they have. The order of that
// sum depends on the depth alone, but is not the order of the other kernels.

var<workgroup> sums: array<array<vec4<f32>, 128>, {{ rows }}>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = group.y * groups.x + group.x;
    let tiles_across = (step.columns + {{ quads * 4 - 1 }}u) / {{ quads * 4 }}u;
    let first_row = tile / tiles_across * {{ rows }}u;
    if first_row >= rows() {
        return;
    }

    // Neighbours read neighbouring vectors of the weights.
{% if backward %}
    let quad = local % {{ quads }}u;
    let lane = local / {{ quads }}u;
{% else %}
    let quad = local / {{ lanes }}u;
    let lane = local % {{ lanes }}u;
{% endif %}
    let column = (tile % tiles_across * {{ quads }}u + quad) * 4u;
{% for r in range(rows) %}
    let row{{ r }} = min(first_row + {{ r }}u, rows() - 1u);
    var sum{{ r }} = vec4<f32>();
{% endfor %}

    for (var k = lane * 4u; k < step.depth; k += {{ lanes * 4 }}u) {
        let b = block(column, k);
{% for r in range(rows) %}
        let a{{ r }} = source4(row{{ r }}, k);
{% for c in range(4) %}
        sum{{ r }} = fma(vec4(a{{ r }}[{{ c }}]), b[{{ c }}], sum{{ r }});
{% endfor %}
{% endfor %}
    }

    // At each level the upper half of the lanes hands over to the lower. A lane hands over in the slot that it alone has read
    // before, so that one barrier a level is enough.
    let slot = quad * {{ lanes // 2 }}u;
{% for halving in range(6 if lanes == 64 else 5) %}
{% set half = lanes // 2 ** (halving + 1) %}
    if lane >= {{ half }}u && lane < {{ half * 2 }}u {
{% for r in range(rows) %}
        sums[{{ r }}][slot + lane % {{ lanes // 2 }}u] = sum{{ r }};
{% endfor %}
    }
    workgroupBarrier();
    if lane < {{ half }}u {
{% for r in range(rows) %}
        sum{{ r }} += sums[{{ r }}][slot + (lane + {{ half }}u) % {{ lanes // 2 }}u];
{% endfor %}
    }
{% endfor %}

    if lane == 0u {
{% for r in range(rows) %}
        if first_row + {{ r }}u < rows() {
            finish(first_row + {{ r }}u, column, sum{{ r }});
        }
{% endfor %}
    }
}
