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
{# What a load of one vec4 along k by every invocation covers: quads of rows or columns. And along n: rows of W. #}
{% set quads_loaded = threads // depth_quads // 4 %}
{% set deep_loaded = threads * 4 // columns %}
{% set source_loads = rows // 4 // quads_loaded %}
{% set weight_loads = depth // deep_loaded if backward else columns // 4 // quads_loaded %}

// The tiles lie as [k][quad of rows or columns], so that the steps read whole vectors. They are nested arrays because naga clamps
// every index that is not a constant: in the steps k is one, and in the transposing stores k % 4 is. The spare quad of each row
// keeps those stores off each other's banks.
var<workgroup> source_tile: array<array<array<vec4<f32>, {{ rows // 4 + 1 }}>, 4>, {{ depth_quads }}>;
{% if backward %}
var<workgroup> weight_tile: array<array<vec4<f32>, {{ columns // 4 }}>, {{ depth }}>;
{% else %}
var<workgroup> weight_tile: array<array<array<vec4<f32>, {{ columns // 4 + 1 }}>, 4>, {{ depth_quads }}>;
{% endif %}

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
    let depth_quad = local % {{ depth_quads }}u;
    let quad = local / {{ depth }}u;
    let component = local / {{ depth_quads }}u % 4u;
{% for i in range(source_loads) %}
    let source_row{{ i }} = min(first_row + quad * 4u + component + {{ i * quads_loaded * 4 }}u, rows() - 1u);
{% endfor %}
{% if backward %}
    let weight_depth = local / {{ columns // 4 }}u;
    let weight_quad = local % {{ columns // 4 }}u;
    let weight_at = min(first_column / 4u + weight_quad, step.stride - 1u);
{% else %}
{% for i in range(weight_loads) %}
    let weight_at{{ i }} = min(first_column + quad * 4u + component + {{ i * quads_loaded * 4 }}u, step.columns - 1u) * step.stride;
{% endfor %}
{% endif %}

    // Quads of rows and columns are dealt out in turn, so that neighbours read neighbouring vectors and store them side by side.
    let x = local % {{ across }}u;
    let y = local / {{ across }}u;
{% for r in range(thread_rows) %}
{% for c in range(column_quads) %}
    var sum{{ r }}_{{ c }} = vec4<f32>();
{% endfor %}
{% endfor %}

{% for i in range(source_loads) %}
    var source{{ i }} = source4(source_row{{ i }}, depth_quad * 4u);
{% endfor %}
{% for i in range(weight_loads) %}
{% if backward %}
    var weight{{ i }} = weight[min(weight_depth + {{ i * deep_loaded }}u, step.depth - 1u) * step.stride + weight_at];
{% else %}
    var weight{{ i }} = weight[weight_at{{ i }} + min(depth_quad, step.stride - 1u)];
{% endif %}
{% endfor %}
    for (var k = 0u; k < step.depth; k += {{ depth }}u) {
        workgroupBarrier();
{% for i in range(source_loads) %}
{% for c in range(4) %}
        source_tile[depth_quad][{{ c }}][quad + {{ i * quads_loaded }}u][component] = source{{ i }}[{{ c }}];
{% endfor %}
{% endfor %}
{% for i in range(weight_loads) %}
{% if backward %}
        weight_tile[weight_depth + {{ i * deep_loaded }}u][weight_quad] = part(weight{{ i }});
{% else %}
        let part{{ i }} = part(weight{{ i }});
{% for c in range(4) %}
        weight_tile[depth_quad][{{ c }}][quad + {{ i * quads_loaded }}u][component] = part{{ i }}[{{ c }}];
{% endfor %}
{% endif %}
{% endfor %}
        workgroupBarrier();

        // The next tile is on its way while this one is worked on. Past the end it is zeros times any weights.
        let next = k + {{ depth }}u;
{% for i in range(source_loads) %}
        source{{ i }} = source4(source_row{{ i }}, next + depth_quad * 4u);
{% endfor %}
{% for i in range(weight_loads) %}
{% if backward %}
        weight{{ i }} = weight[min(next + weight_depth + {{ i * deep_loaded }}u, step.depth - 1u) * step.stride + weight_at];
{% else %}
        weight{{ i }} = weight[weight_at{{ i }} + min(next / 4u + depth_quad, step.stride - 1u)];
{% endif %}
{% endfor %}

{% for k in range(depth) %}
        {
{% for i in range(row_quads) %}
            let a{{ i }} = source_tile[{{ k // 4 }}][{{ k % 4 }}][y + {{ i * down }}u];
{% endfor %}
{% for i in range(column_quads) %}
            let b{{ i }} = weight_tile{{ "[" ~ k ~ "]" if backward else "[" ~ k // 4 ~ "][" ~ k % 4 ~ "]" }}[x + {{ i * across }}u];
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
