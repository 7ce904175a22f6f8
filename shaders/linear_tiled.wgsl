// target[row, n] = sum over k of source(row, k) * B(k, n) for whole tiles: a workgroup makes {{ rows }} rows by {{ columns }} columns,
// an invocation {{ thread_rows }} by {{ thread_columns }} of them, {{ depth }} steps of k at a time.
// {{ "Backward: B(k, n) = W[k][n]" if backward else "Forward: B(k, n) = W[n][k]" }}.
//
// Every output is one chain of multiply-adds from k = 0 upwards, as in every shape of this kernel and in linear_free.wgsl.
{% set across = columns // thread_columns %}
{% set down = rows // thread_rows %}
{% set threads = across * down %}
{% set row_quads = thread_rows // 4 %}
{% set column_quads = thread_columns // 4 %}
{% set depth_quads = depth // 4 %}
{% set source_loads = rows * depth_quads // threads %}
{% set weight_loads = columns * depth_quads // threads %}

// Both tiles lie as [k][quad of rows or columns], so that the steps read whole vectors. The arrays are nested because naga clamps
// every index that is not a constant: k is one, and what is left is clamped once for all steps. The spare quad in each
// row keeps the transposing stores off each other's banks.
var<workgroup> source_tile: array<array<vec4<f32>, {{ rows // 4 + 1 }}>, {{ depth }}>;
var<workgroup> weight_tile: array<array<vec4<f32>, {{ columns // 4 + 1 }}>, {{ depth }}>;

@compute @workgroup_size({{ threads }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = group.y * groups.x + group.x;
    let tiles_across = (step.columns + {{ columns - 1 }}u) / {{ columns }}u;
    let first_row = tile / tiles_across * {{ rows }}u;
    let first_column = tile % tiles_across * {{ columns }}u;
    if first_row >= rows() {
        return;
    }

    // What this invocation brings into the tiles. Rows and columns past the end repeat the last one: nothing stores their sums.
{% for i in range(source_loads) %}
    let source_at{{ i }} = local / {{ depth_quads }}u + {{ i * threads // depth_quads }}u;
    let source_row{{ i }} = min(first_row + source_at{{ i }}, rows() - 1u);
{% endfor %}
    let depth_at = local % {{ depth_quads }}u * 4u;
{% for i in range(weight_loads) %}
{% if backward %}
    let weight_at{{ i }} = local / {{ columns // 4 }}u + {{ i * threads * 4 // columns }}u;
{% else %}
    let weight_at{{ i }} = local / {{ depth_quads }}u + {{ i * threads // depth_quads }}u;
    let weight_row{{ i }} = min(first_column + weight_at{{ i }}, step.columns - 1u) * step.stride;
{% endif %}
{% endfor %}
{% if backward %}
    let quad_at = local % {{ columns // 4 }}u;
    let quad = min(first_column / 4u + quad_at, step.stride - 1u);
{% endif %}

    // Quads of rows and columns are dealt out in turn, so that neighbours read neighbouring vectors and store them side by side.
    let x = local % {{ across }}u;
    let y = local / {{ across }}u;
{% for r in range(thread_rows) %}
{% for c in range(column_quads) %}
    var sum{{ r }}_{{ c }} = vec4<f32>();
{% endfor %}
{% endfor %}

{% macro load(k) %}
{% for i in range(source_loads) %}
    source_next{{ i }} = source4(source_row{{ i }}, {{ k }} + depth_at);
{% endfor %}
{% for i in range(weight_loads) %}
{% if backward %}
    weight_next{{ i }} = weight[min({{ k }} + weight_at{{ i }}, step.depth - 1u) * step.stride + quad];
{% else %}
    weight_next{{ i }} = weight[weight_row{{ i }} + min(({{ k }} + depth_at) / 4u, step.stride - 1u)];
{% endif %}
{% endfor %}
{% endmacro %}
{% for i in range(source_loads) %}
    var source_next{{ i }}: vec4<f32>;
{% endfor %}
{% for i in range(weight_loads) %}
    var weight_next{{ i }}: vec4<f32>;
{% endfor %}
{{ load("0u") }}
    for (var k = 0u; k < step.depth; k += {{ depth }}u) {
        workgroupBarrier();
{% for i in range(source_loads) %}
{% for c in range(4) %}
        source_tile[depth_at + {{ c }}u][source_at{{ i }} / 4u][source_at{{ i }} % 4u] = source_next{{ i }}[{{ c }}];
{% endfor %}
{% endfor %}
{% for i in range(weight_loads) %}
{% if backward %}
        weight_tile[weight_at{{ i }}][quad_at] = part(weight_next{{ i }});
{% else %}
        let part{{ i }} = part(weight_next{{ i }});
{% for c in range(4) %}
        weight_tile[depth_at + {{ c }}u][weight_at{{ i }} / 4u][weight_at{{ i }} % 4u] = part{{ i }}[{{ c }}];
{% endfor %}
{% endif %}
{% endfor %}
        workgroupBarrier();

        // The next tile is on its way while this one is worked on. Past the end it is zeros times any weights.
{{ load("k + " ~ depth ~ "u") }}
{% for k in range(depth) %}
        {
{% for i in range(row_quads) %}
            let a{{ i }} = source_tile[{{ k }}][y + {{ i * down }}u];
{% endfor %}
{% for i in range(column_quads) %}
            let b{{ i }} = weight_tile[{{ k }}][x + {{ i * across }}u];
{% endfor %}
{% for r in range(thread_rows) %}
{% for c in range(column_quads) %}
            sum{{ r }}_{{ c }} = fma(vec4(a{{ r // 4 }}[{{ r % 4 }}]), b{{ c }}, sum{{ r }}_{{ c }});
{% endfor %}
{% endfor %}
        }
{% endfor %}
    }

    let column = first_column + x * 4u;
{% for r in range(thread_rows) %}
    let row{{ r }} = first_row + y * 4u + {{ r // 4 * down * 4 + r % 4 }}u;
    if row{{ r }} < rows() {
{% for c in range(column_quads) %}
        finish(row{{ r }}, column + {{ c * across * 4 }}u, sum{{ r }}_{{ c }});
{% endfor %}
    }
{% endfor %}
}
