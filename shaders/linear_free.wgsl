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
    let column = (tile % tiles_across * {{ lanes }}u + local) * {{ columns }}u;
{% for r in range(rows) %}
    let row{{ r }} = min(first_row + {{ r }}u, rows() - 1u);
{% for c in range(quads) %}
    var sum{{ r }}_{{ c }} = vec4<f32>();
{% endfor %}
{% endfor %}
{% for c in range(quads) %}
{% if backward %}
    let at{{ c }} = min(column / 4u + {{ c }}u, step.stride - 1u);
{% else %}
{% for i in range(4) %}
    let at{{ c * 4 + i }} = min(column + {{ c * 4 + i }}u, step.columns - 1u) * step.stride;
{% endfor %}
{% endif %}
{% endfor %}

    for (var k = 0u; k < step.depth; k += 4u) {
{% for r in range(rows) %}
        let a{{ r }} = source4(row{{ r }}, k);
{% endfor %}
{% if backward %}
        let k1 = min(k + 1u, step.depth - 1u);
        let k2 = min(k + 2u, step.depth - 1u);
        let k3 = min(k + 3u, step.depth - 1u);
{% endif %}
{% for c in range(quads) %}
        {
{% if backward %}
            let b = mat4x4(
                part(weight[k * step.stride + at{{ c }}]),
                part(weight[k1 * step.stride + at{{ c }}]),
                part(weight[k2 * step.stride + at{{ c }}]),
                part(weight[k3 * step.stride + at{{ c }}]),
            );
{% else %}
            let b = transpose(mat4x4(
                part(weight[at{{ c * 4 }} + k / 4u]),
                part(weight[at{{ c * 4 + 1 }} + k / 4u]),
                part(weight[at{{ c * 4 + 2 }} + k / 4u]),
                part(weight[at{{ c * 4 + 3 }} + k / 4u]),
            ));
{% endif %}
{% for r in range(rows) %}
{% for i in range(4) %}
            sum{{ r }}_{{ c }} = fma(vec4(a{{ r }}[{{ i }}]), b[{{ i }}], sum{{ r }}_{{ c }});
{% endfor %}
{% endfor %}
        }
{% endfor %}
    }

{% for r in range(rows) %}
    if first_row + {{ r }}u < rows() {
{% for c in range(quads) %}
        finish(first_row + {{ r }}u, column + {{ c * 4 }}u, sum{{ r }}_{{ c }});
{% endfor %}
    }
{% endfor %}
}
