// Each channel through windows by itself: pools, what wins in them, and convolutions that keep channels apart. Rows lie channels last.
//
// A target takes the taps of its phase, which its position's remainder by the step decides; only those inside the source are
// visited, in row-major order of the window, or of what it covers on the way back.
{% import "lib/chain.wgsl" as lib %}
{% include "lib/step.wgsl" %}
{% include "lib/functions.wgsl" %}
{% include "lib/part.wgsl" %}

{% if weighted %}
@group(0) @binding(2) var<storage, read> weight: array<{{ lib.element_type(work == "convolve") }}>;
{% elif work == "unpool" %}
@group(0) @binding(2) var<storage, read> winners: array<{{ lib.element_type(aligned) }}>;
{% endif %}
@group(0) @binding(4) var<storage, read> source: array<{{ lib.element_type(aligned) }}>;
// For each remainder along each axis: the source at i = 0 and the first tap, how many taps, and that tap's part of the window's position.
@group(0) @binding(6) var<storage, read> table: array<vec4<i32>>;
{% for o in operands %}{{ lib.operand(o) }}{% endfor %}
{% if parameters %}{{ lib.parameters(5, aligned) }}{% endif %}
{{ lib.chain("epilogue", epilogue) }}
{{ lib.store(3, aligned, outputs) }}

fn fetch(element: u32) -> vec4<f32> {
    let x = {{ lib.four("source", aligned) }};
    return {{ source.through }};
}

// The taps that lie inside: the first, and one behind the last.
fn taps_inside(start: i32, spread: i32, extent: i32, taps: i32) -> vec2<i32> {
    let distance = abs(spread);
    // Where taps go down, counted from the other end.
    let at = select(start, extent - 1 - start, spread < 0);
    let first = max(0, (distance - 1 - at) / distance);
    let end = select(0, min(taps, (extent - 1 - at) / distance + 1), at < extent);
    return vec2(first, end);
}

@compute @workgroup_size({{ lanes }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let cell = (group.y * groups.x + group.x) * {{ lanes }}u + local;
    let cells = (step.columns + 3u) / 4u;
    let row = cell / cells;
    if row >= rows() {
        return;
    }
    let column = 4u * (cell % cells);
    let extents = step.window[0];
    let targets = step.window[1];
    let pixel = i32(row % step.parts);
    let line = pixel / targets.z;
    let at = vec3(line / targets.y, line % targets.y, pixel % targets.z);
    let steps = step.window[2].xyz;
    let remainders = at % steps + step.window[6].xyz;
    let entry0 = table[remainders.x];
    let entry1 = table[remainders.y];
    let entry2 = table[remainders.z];
    let start = at / steps * step.window[3].xyz + vec3(entry0.x, entry1.x, entry2.x);
    let spread = step.window[4].xyz;
    let moves = step.window[5].xyz;
    let first_position = entry0.z + entry1.z + entry2.z;
    let taps0 = taps_inside(start.x, spread.x, extents.x, entry0.y);
    let taps1 = taps_inside(start.y, spread.y, extents.y, entry1.y);
    let taps2 = taps_inside(start.z, spread.z, extents.z, entry2.y);
    let pixels = extents.x * extents.y * extents.z;
    let first = row / step.parts * u32(pixels) * step.columns + column;
{% if work == "unpool" %}
    let first_winner = row / step.parts{% if of_sample %} / step.targets{% endif %} * u32(pixels) * step.columns + column;
{% endif %}

{% if work == "greatest" %}
    // A window of nothing but padding gives what is below everything. The text of a shader may not name infinity.
    var lowest = 0xff800000u;
    var v = vec4(bitcast<f32>(lowest));
{% else %}
    var v = vec4(0.0);
{% endif %}
{% if work == "winners" %}
    var best = vec4(0.0);
{% endif %}
{% if work == "greatest" or work == "winners" %}
    var is_first = true;
{% endif %}
    for (var t0 = taps0.x; t0 < taps0.y; t0++) {
        for (var t1 = taps1.x; t1 < taps1.y; t1++) {
            for (var t2 = taps2.x; t2 < taps2.y; t2++) {
                let moved = start + spread * vec3(t0, t1, t2);
                let reached = u32((moved.x * extents.y + moved.y) * extents.z + moved.z);
                let x = fetch(first + reached * step.columns);
{% if work != "average" and work != "greatest" and work != "spread" %}
                let position = first_position + moves.x * t0 + moves.y * t1 + moves.z * t2;
{% endif %}
{% if work == "convolve" %}
                v = fma(x, part(weight[u32(position) * step.stride + column / 4u]), v);
{% elif work == "average" %}
                v += x;
{% elif work == "spread" %}
                v = fma(x, part(vec4(weight[reached])), v);
{% elif work == "unpool" %}
                let element = first_winner + reached * step.columns;
                v += select(vec4(0.0), x, {{ lib.four("winners", aligned) }} == vec4(f32(position)));
{% elif work == "greatest" %}
                v = select(v, x, vec4(is_first) | (x > v) | (is_nan(x) & !is_nan(v)));
                is_first = false;
{% elif work == "winners" %}
                let wins = vec4(is_first) | (x > best) | (is_nan(x) & !is_nan(best));
                best = select(best, x, wins);
                v = select(v, vec4(f32(position)), wins);
                is_first = false;
{% endif %}
            }
        }
    }
{% if work == "average" %}
    v *= part(vec4(weight[pixel]));
{% endif %}
    finish(row, column, v);
}
