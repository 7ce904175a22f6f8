// target[row, n] = sum over k of source(row, k) * B(k, n) without workgroup memory, for adapters that are software.
// An invocation makes {{ rows }} rows by {{ columns }} columns; the {{ lanes }} of a workgroup lie side by side along the columns.
// {{ "Backward: B(k, n) = W[k][n]" if backward else "Forward: B(k, n) = W[n][k]" }}.
{% set quads = columns // 4 %}

@compute @workgroup_size({{ lanes }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = group.y * groups.x + group.x;
    let tiles_across = (step.columns + {{ columns * lanes - 1 }}u) / {{ columns * lanes }}u;
    let first_row = tile / tiles_across * {{ rows }}u;
    if first_row >= rows() {
        return;
    }
    let column = (tile % tiles_across * {{ quads * lanes }}u + local) * 4u;
{% for r in range(rows) %}
    let row{{ r }} = min(first_row + {{ r }}u, rows() - 1u);
{% for c in range(quads) %}
    var sum{{ r }}_{{ c }} = vec4<f32>();
{% endfor %}
{% endfor %}

    for (var k = 0u; k < step.depth; k += 4u) {
{% for r in range(rows) %}
        let a{{ r }} = source4(row{{ r }}, k);
{% endfor %}
{% for c in range(quads) %}
        let b{{ c }} = block(column + {{ c * lanes * 4 }}u, k);
{% for r in range(rows) %}
{% for i in range(4) %}
        sum{{ r }}_{{ c }} = fma(vec4(a{{ r }}[{{ i }}]), b{{ c }}[{{ i }}], sum{{ r }}_{{ c }});
{% endfor %}
{% endfor %}
{% endfor %}
    }

    // Rows move up into the first one's place: a single copy of 'finish' keeps the adapter's compiler quick.
    let end = min(first_row + {{ rows }}u, rows());
    for (var row = first_row; row < end; row += 1u) {
{% for c in range(quads) %}
        finish(row, column + {{ c * lanes * 4 }}u, sum0_{{ c }});
{% endfor %}
{% for r in range(1, rows) %}
{% for c in range(quads) %}
        sum{{ r - 1 }}_{{ c }} = sum{{ r }}_{{ c }};
{% endfor %}
{% endfor %}
    }
}
