// target[row, n] = sum over k of source(row, k) * B(k, n) for whole tiles: a workgroup makes {{ rows }} rows by {{ columns }} columns,
// an invocation {{ thread_rows }} by {{ thread_columns }} of them, {{ depth }} steps of k at a time.
// {{ "Backward: B(k, n) = W[k][n]" if backward else "Forward: B(k, n) = W[n][k]" }}.{{ " No slice of k leaves a tap of the window." if within_taps else "" }}
//
// Every output is a sum of slices of k in order, each one chain of multiply-adds, as in every shape of this kernel and in free.wgsl.
{% set across = columns // thread_columns %}
{% set down = rows // thread_rows %}
{% set threads = across * down %}
{% set row_quads = thread_rows // 4 %}
{% set column_quads = thread_columns // 4 %}
{% set depth_quads = depth // 4 %}
{% set source_blocks = rows // 4 * depth_quads %}
{% set weight_blocks = columns // 4 * depth_quads %}
{# Some invocations bring a block of the source and others one of the weight; of few columns each brings several of the source, and some one of
   the weight besides. #}
{% set apart = source_blocks < threads %}
{% set blocks = 1 if apart else source_blocks // threads %}
{% set of_weight = "fetched0_" if apart else "fetched_weight" %}

// The tiles lie as [k][quad of rows or columns], so that the steps read whole vectors, and they are written as whole vectors too:
// two invocations that write components of one vector race on Metal and Direct3D. They are nested arrays because naga clamps
// every index that is not a constant: in the steps k is one, and in the stores k % 4 is. The spare quad of each row keeps the
// stores off each other's banks.
var<workgroup> source_tile: array<array<array<vec4<f32>, {{ rows // 4 + 1 }}>, 4>, {{ depth_quads }}>;
var<workgroup> weight_tile: array<array<array<vec4<f32>, {{ columns // 4 + 1 }}>, 4>, {{ depth_quads }}>;
{% if windowed %}
// Where each row begins in the source: registers that are needed at the next tap only would cost the steps waves.
var<workgroup> leads: array<Lead, {{ rows }}>;
{% if within_taps %}

fn reach_four(quad: u32, tap: u32) -> vec4<u32> {
    return vec4(
{% for i in range(4) %}
        reach(leads[quad * 4u + {{ i }}u], tap),
{% endfor %}
    );
}
{% endif %}
{% endif %}
{# The first quad of rows of each block of the source that an invocation brings. #}
{% macro quad_of(block) -%}
quad{% if block > 0 %} + {{ block * (threads // depth_quads) }}u{% endif %}
{%- endmacro %}
{% macro lead_of(block, i) -%}
{% if windowed %}leads[({{ quad_of(block) }}) * 4u + {{ i }}u]{% else %}lead{{ block }}_{{ i }}{% endif %}
{%- endmacro %}

@compute @workgroup_size({{ threads }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = tile_of(group.y * groups.x + group.x, (step.columns + {{ columns - 1 }}u) / {{ columns }}u);
    let first_row = tile.y * {{ rows }}u;
    let first_column = tile.x * {{ columns }}u;
    if first_row >= rows() {
        return;
    }

    // What this invocation brings into the tiles: 4 steps of k for 4 rows, or for 4 columns. Rows and columns past the end repeat
    // the last one: nothing stores their sums.
{% if apart %}
    let brings_source = local < {{ source_blocks }}u;
    let brings_weight = !brings_source{% if source_blocks + weight_blocks < threads %} && local < {{ source_blocks + weight_blocks }}u{% endif %};
    let loader = select(local - {{ source_blocks }}u, local, brings_source);
{% else %}
    let brings_weight = local < {{ weight_blocks }}u;
    let loader = local;
{% endif %}
    let depth_quad = loader % {{ depth_quads }}u;
    let quad = loader / {{ depth_quads }}u;
{% if windowed %}
{% for r in range(0, rows, threads) %}
    if local < {{ rows - r }}u {
        leads[local + {{ r }}u] = lead(min(first_row + local + {{ r }}u, rows() - 1u));
    }
{% endfor %}
    workgroupBarrier();
{% else %}
{% for b in range(blocks) %}
{% for i in range(4) %}
    let lead{{ b }}_{{ i }} = lead(min(first_row + ({{ quad_of(b) }}) * 4u + {{ i }}u, rows() - 1u));
{% endfor %}
{% endfor %}
{% endif %}
{% if added %}
    let own_end = depth(tile.z);
    let second = (own_end + {{ deepest - 1 }}u) / {{ deepest }}u * {{ deepest }}u;
    let end = second + own_end;
{% else %}
    let end = depth(tile.z);
{% endif %}
{% macro reach_all() %}
{% for b in range(blocks) %}
    pixels{{ b }} = reach_four({{ quad_of(b) }}, tap);
{% endfor %}
{% endmacro %}
{% if windowed %}
    var channel = depth_quad * 4u;
{% for b in range(blocks) %}
    var pixels{{ b }} = vec4<u32>();
{% endfor %}
{% endif %}
{% if within_taps %}
    var tap = 0u;
    var weights = weights_of(tap);
    {{ "if brings_source {" if apart else "{" }}
    {{ reach_all() }}
    }
{% else %}
    let last_quad = ({{ "own_end" if added else "end" }} - 1u) / 4u;
    var own_k = 0u;
{% endif %}

    // Quads of rows and columns are dealt out in turn, so that neighbours read neighbouring vectors and store them side by side.
    let x = local % {{ across }}u;
    let y = local / {{ across }}u;
{% for r in range(thread_rows) %}
{% for c in range(column_quads) %}
    var sum{{ r }}_{{ c }} = vec4<f32>();
{% endfor %}
{% endfor %}

    // Blocks are fetched as they lie in memory, and made into what the product takes when they are stored: whatever was done with them at
    // once, the steps would wait for.
{% for b in range(blocks) %}
{% for i in range(4) %}
    var fetched{{ b }}_{{ i }} = vec4<u32>();
{% endfor %}
{% endfor %}
{% if not apart %}
{% for i in range(4) %}
    var fetched_weight{{ i }} = vec4<u32>();
{% endfor %}
{% endif %}
{% macro fetch(at) %}
{% if not within_taps %}
{% if added %}
            is_second = {{ at }} >= second;
            own_k = {{ at }} - select(0u, second, is_second);
{% else %}
            own_k = {{ at }};
{% endif %}
{% if windowed %}
            channel = own_k % u32(step.window[1].w);
{% endif %}
{% endif %}
            {{ "if brings_source {" if apart else "{" }}
{% if windowed and not within_taps %}
{% for b in range(blocks) %}
                pixels{{ b }} = vec4(
{% for i in range(4) %}
                    pixel_of({{ lead_of(b, i) }}, own_k),
{% endfor %}
                );
{% endfor %}
{% endif %}
{% for b in range(blocks) %}
{% for i in range(4) %}
                fetched{{ b }}_{{ i }} = bitcast<vec4<u32>>({{ "stored(pixels" ~ b ~ "[" ~ i ~ "], channel)" if windowed else "stored4(" ~ lead_of(b, i) ~ ", own_k)" }});
{% endfor %}
{% endfor %}
            }
            {{ "else " if apart }}if brings_weight {
{% for i in range(4) %}
                {{ of_weight }}{{ i }} = {{ "stored_weights(first_column + quad * 4u, channel, weights, " ~ i ~ "u)" if within_taps else "stored_weights4(first_column + quad * 4u, min(own_k, last_quad * 4u), " ~ i ~ "u)" }};
{% endfor %}
            }
{% endmacro %}
    {{ fetch("depth_quad * 4u") }}
    let column = first_column + x * 4u;
    let row = first_row + y * 4u;
{% macro place_of(r, c) -%}
row + {{ r // 4 * down * 4 + r % 4 }}u, column + {{ c * across * 4 }}u
{%- endmacro %}
    for (var begin = 0u; begin < end; begin += step.slice) {
        let until = min(begin + step.slice, end);
        for (var k = begin; k < until; k += {{ depth }}u) {
            workgroupBarrier();
            {{ "if brings_source {" if apart else "{" }}
{% for b in range(blocks) %}
                let block{{ b }} = transpose(mat4x4(
{% for i in range(4) %}
                    {{ "taken(bitcast<vec4<f32>>(fetched" ~ b ~ "_" ~ i ~ "), pixels" ~ b ~ "[" ~ i ~ "], channel)" if windowed else "taken4(bitcast<vec4<f32>>(fetched" ~ b ~ "_" ~ i ~ "), " ~ lead_of(b, i) ~ ", own_k)" }},
{% endfor %}
                ));
{% for c in range(4) %}
                source_tile[depth_quad][{{ c }}][{{ quad_of(b) }}] = block{{ b }}[{{ c }}];
{% endfor %}
{% endfor %}
            }
            {{ "else " if apart }}if brings_weight {
                let block = block_from({{ of_weight }}0, {{ of_weight }}1, {{ of_weight }}2, {{ of_weight }}3);
{% for c in range(4) %}
                weight_tile[depth_quad][{{ c }}][quad] = block[{{ c }}];
{% endfor %}
            }
            workgroupBarrier();

            // The next tile is on its way while this one is worked on. Past the end {{ "nothing reads it" if within_taps else "it is zeros times any weights" }}.
{% if within_taps %}
            channel += {{ depth }}u;
            if channel >= step.depth {
                channel = depth_quad * 4u;
                tap += 1u;
{% if added %}
                if tap == phase.taps {
                    tap = 0u;
                    is_second = true;
                }
{% endif %}
                weights = weights_of(tap);
                {{ "if brings_source {" if apart else "{" }}
                {{ reach_all() }}
                }
            }
{% endif %}
            {{ fetch("k + " ~ depth ~ "u + depth_quad * 4u") }}
{% for k in range(depth) %}
            {
{% for i in range(row_quads) %}
                let a{{ i }} = source_tile[{{ k // 4 }}][{{ k % 4 }}][y + {{ i * down }}u];
{% endfor %}
{% for i in range(column_quads) %}
                let b{{ i }} = weight_tile[{{ k // 4 }}][{{ k % 4 }}][x + {{ i * across }}u];
{% endfor %}
{% for r in range(thread_rows) %}
{% for c in range(column_quads) %}
                sum{{ r }}_{{ c }} = fma(vec4(a{{ r // 4 }}[{{ r % 4 }}]), b{{ c }}, sum{{ r }}_{{ c }});
{% endfor %}
{% endfor %}
            }
{% endfor %}
        }
        if until < end {
{% for r in range(thread_rows) %}
{% for c in range(column_quads) %}
            carry({{ place_of(r, c) }}, begin, sum{{ r }}_{{ c }});
            sum{{ r }}_{{ c }} = vec4<f32>();
{% endfor %}
{% endfor %}
        }
    }

{% for r in range(thread_rows) %}
{% for c in range(column_quads) %}
    conclude({{ place_of(r, c) }}, end, sum{{ r }}_{{ c }});
{% endfor %}
{% endfor %}
}
