// target[row, n] = sum over k of source(row, k) * B(k, n) without workgroup memory, for adapters that are software: they serve
// every lane's memory access one by one, so that only loads per multiply-add count. B is W backward and its transpose forward:
// linear_block.wgsl.
//
// An invocation makes {{ rows }} rows by {{ columns }} columns; the {{ lanes }} of a workgroup share the rows and take quads of columns in turn. Every output
// is one chain of multiply-adds from k = 0 upwards, as in linear_tiled.wgsl.
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

    // The rows move up to where the first one was: with a copy of `finish` for each, the adapter's compiler takes twice as long.
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
