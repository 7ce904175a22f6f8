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
{% set source_loaders = rows // 4 * depth_quads %}
{% set loaders = source_loaders + columns // 4 * depth_quads %}

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
    let brings_source = local < {{ source_loaders }}u;
    let brings_weight = !brings_source{% if loaders < threads %} && local < {{ loaders }}u{% endif %};
    let loader = select(local - {{ source_loaders }}u, local, brings_source);
    let depth_quad = loader % {{ depth_quads }}u;
    let quad = loader / {{ depth_quads }}u;
{% if windowed %}
    if local < {{ rows }}u {
        leads[local] = lead(min(first_row + local, rows() - 1u));
    }
    workgroupBarrier();
{% else %}
{% for i in range(4) %}
    let lead{{ i }} = lead(min(first_row + quad * 4u + {{ i }}u, rows() - 1u));
{% endfor %}
{% endif %}
{% if added %}
    let own_end = depth(tile.z);
    let second = (own_end + {{ deepest - 1 }}u) / {{ deepest }}u * {{ deepest }}u;
    let end = second + own_end;
{% else %}
    let end = depth(tile.z);
{% endif %}
{% if within_taps %}
    var tap = 0u;
    var channel = depth_quad * 4u;
    var weights = weights_of(tap);
    var pixels = vec4<u32>();
    if brings_source {
        pixels = reach_four(quad, tap);
    }
{% else %}
    let last_quad = ({{ "own_end" if added else "end" }} - 1u) / 4u;
{% endif %}

    // Quads of rows and columns are dealt out in turn, so that neighbours read neighbouring vectors and store them side by side.
    let x = local % {{ across }}u;
    let y = local / {{ across }}u;
{% for r in range(thread_rows) %}
{% for c in range(column_quads) %}
    var sum{{ r }}_{{ c }} = vec4<f32>();
{% endfor %}
{% endfor %}

{% macro load(at) %}
{% set k = "k_of_source" if added else at %}
{% if added and not within_taps %}
is_second = {{ at }} >= second;
    let k_of_source = select({{ at }}, {{ at }} - second, is_second);
    {% endif %}
if brings_source {
        next = transpose(mat4x4(
{% for i in range(4) %}
            {{ "fetch(pixels[" ~ i ~ "], channel)" if within_taps else "source4(leads[quad * 4u + " ~ i ~ "u], " ~ k ~ ")" if windowed else "source4(lead" ~ i ~ ", " ~ k ~ ")" }},
{% endfor %}
        ));
    } else if brings_weight {
        next = {{ "block_of(first_column + quad * 4u, channel, weights)" if within_taps else "block(first_column + quad * 4u, min(" ~ k ~ ", last_quad * 4u))" }};
    }
{% endmacro %}
    var next: mat4x4<f32>;
    {{ load("depth_quad * 4u") }}
    let column = first_column + x * 4u;
    let row = first_row + y * 4u;
    for (var begin = 0u; begin < end; begin += step.slice) {
        let until = min(begin + step.slice, end);
        for (var k = begin; k < until; k += {{ depth }}u) {
            workgroupBarrier();
            if brings_source {
{% for c in range(4) %}
                source_tile[depth_quad][{{ c }}][quad] = next[{{ c }}];
{% endfor %}
            } else if brings_weight {
{% for c in range(4) %}
                weight_tile[depth_quad][{{ c }}][quad] = next[{{ c }}];
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
                if brings_source {
                    pixels = reach_four(quad, tap);
                }
            }
{% endif %}
            {{ load("k + " ~ depth ~ "u + depth_quad * 4u") }}
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
            carry(row + {{ r // 4 * down * 4 + r % 4 }}u, column + {{ c * across * 4 }}u, begin, sum{{ r }}_{{ c }});
            sum{{ r }}_{{ c }} = vec4<f32>();
{% endfor %}
{% endfor %}
        }
    }

{% for r in range(thread_rows) %}
{% for c in range(column_quads) %}
    conclude(row + {{ r // 4 * down * 4 + r % 4 }}u, column + {{ c * across * 4 }}u, end, sum{{ r }}_{{ c }});
{% endfor %}
{% endfor %}
}
