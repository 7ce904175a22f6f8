// Rows of a source through a convolution's weight, each through elementwise operations after: a product whose rows are the pixels
// of the target.
//
// target[row, n] = epilogue(Σ_k source(row, k) · W̃(k, n)), where k runs over the taps that the row's pixels have in common, and for each over the
// source's channels. Rows lie channels last. The weight lies as [window position][coarse channel][fine channels, padded to a multiple
// of 4] and serves both directions. Targets that take other taps than their neighbours, as a stride makes them on the way to the
// fine grid, are apart in phases; groups of channels are apart too. Each pair of both is a unit with tiles of its own.
{% import "lib/chain.wgsl" as lib %}
{% import "lib/slices.wgsl" as sums %}
{% include "lib/step.wgsl" %}
{% include "lib/functions.wgsl" %}

@group(0) @binding(2) var<storage, read> weight: array<{{ "vec2<u32>" if half_weights else "vec4<f32>" }}>;
@group(0) @binding(4) var<storage, read> source: array<{{ lib.element_type(source.aligned) }}>;
// Three vectors a phase, then the taps: how far each moves the source along the axes, and its position in the window.
@group(0) @binding(6) var<storage, read> table: array<vec4<i32>>;
{% for o in operands %}{{ lib.operand(o) }}{% endfor %}
{% if parameters %}{{ lib.parameters(5, aligned) }}{% endif %}
{{ lib.chain("epilogue", epilogue) }}
{% set first = "step.first + phase.group * step.columns" %}
{% set dropped = " || !is_target(row)" if lattice else "" %}
{{ lib.store(3, aligned, outputs, first, dropped) }}
{% if sliced %}{{ sums.slices(aligned, first, dropped) }}{% endif %}
{% include "lib/pair.wgsl" %}
{% include "lib/part.wgsl" %}

struct Phase {
    start: vec3<i32>,    // the first target's source at a tap that does not move it
    taps: u32,
    counts: vec3<u32>,   // targets along each axis
    first_tap: u32,      // in the table
    first_pixel: u32,    // of the target
    group: u32,
}

var<private> phase: Phase;

fn begin(unit: u32) {
    let groups = u32(step.window[2].w);
    let of_phase = unit / groups;
    let start = table[of_phase * 3u];
    let counts = table[of_phase * 3u + 1u];
    phase.start = start.xyz;
    phase.taps = u32(start.w);
    phase.counts = vec3<u32>(counts.xyz);
    phase.first_tap = u32(counts.w);
    phase.first_pixel = u32(table[of_phase * 3u + 2u].x);
    phase.group = unit % groups;
}

// The position of a row in its phase's lattice of targets.
fn in_lattice(row: u32) -> vec3<u32> {
    let counts = vec3<u32>(step.window[2].xyz);
    let line = row / counts.z;
    return vec3(line / counts.y % counts.x, line % counts.y, row % counts.z);
}
{% if lattice %}

// The lattices of some phases are smaller than the largest, after which rows are counted.
fn is_target(row: u32) -> bool {
    return all(in_lattice(row) < phase.counts);
}

fn place(row: u32, column: u32, width: u32) -> Place {
    let moved = in_lattice(row) * vec3<u32>(step.window[3].xyz);
    var at: Place;
    at.within = column;
    at.row = row / u32(step.window[3].w);
    at.column = (phase.first_pixel + moved.x + moved.y + moved.z) * width + column;
    at.element = at.row * width * step.parts + at.column;
    at.sample = at.row{% if several %} / step.targets{% endif %};
    at.of_sample = {% if several %}at.sample * width * step.parts + at.column{% else %}at.element{% endif %};
    return at;
}
{% endif %}

// What the loop over k keeps of a row.
struct Lead {
    at: vec3<i32>,  // the source position at a tap that does not move it
    first: u32,     // the sample's first element in the source
}

fn lead(row: u32) -> Lead {
    let extents = vec3<u32>(step.window[0].xyz);
    var kept: Lead;
    kept.first = row / u32(step.window[3].w) * extents.x * extents.y * extents.z * u32(step.window[0].w) + phase.group * step.depth;
    kept.at = vec3<i32>(in_lattice(row)) * step.window[1].xyz + phase.start;
    return kept;
}

const OUTSIDE = 0xffffffffu;

// Where a row's channels lie in the source at a tap.
fn reach(lead: Lead, tap: u32) -> u32 {
    let at = lead.at + table[phase.first_tap + tap].xyz;
    let extents = step.window[0];
    let pixel = (at.x * extents.y + at.y) * extents.z + at.z;
    // Below zero is far beyond any extent.
    let is_inside = all(vec3<u32>(at) < vec3<u32>(extents.xyz));
    return select(OUTSIDE, lead.first + u32(pixel * extents.w), is_inside);
}

// Four channels from `channel` on of what `reach` found, whatever lies there.
fn stored(pixel: u32, channel: u32) -> vec4<f32> {
    let element = pixel + channel;
{{ lib.stored(source, added) }}
}

// What the product takes of them: zeros outside, and beyond the last channel.
fn taken(x: vec4<f32>, pixel: u32, channel: u32) -> vec4<f32> {
{{ lib.through(source, added) }}
{% if source.aligned %}
    return select(vec4(0.0), v, pixel != OUTSIDE);
{% else %}
    let is_inside = vec4(channel, channel + 1u, channel + 2u, channel + 3u) < vec4(step.depth);
    return select(vec4(0.0), v, is_inside & vec4(pixel != OUTSIDE));
{% endif %}
}

fn fetch(pixel: u32, channel: u32) -> vec4<f32> {
    return taken(stored(pixel, channel), pixel, channel);
}

// Where the weights of a tap begin.
fn weights_of(tap: u32) -> u32 {
    let rows = table[phase.first_tap + tap].w * step.window[4].x + i32(phase.group) * step.window[4].y;
    return u32(rows) * step.stride;
}

{% include "block.wgsl" %}

// k counts each tap's channels filled up to whole vectors. Barriers stand in a loop up to this, so it is read where all
// invocations are known to read the same.
fn depth(unit: u32) -> u32 {
    return u32(table[unit / u32(step.window[2].w) * 3u].w * step.window[1].w);
}

fn pixel_of(lead: Lead, k: u32) -> u32 {
    let tap = k / u32(step.window[1].w);
    return select(OUTSIDE, reach(lead, tap), tap < phase.taps);
}

fn source4(lead: Lead, k: u32) -> vec4<f32> {
    return fetch(pixel_of(lead, k), k % u32(step.window[1].w));
}

fn block(n: u32, k: u32) -> mat4x4<f32> {
    let channels = u32(step.window[1].w);
    return block_of(n, k % channels, weights_of(k / channels));
}

fn stored_weights4(n: u32, k: u32, i: u32) -> vec4<u32> {
    let channels = u32(step.window[1].w);
    return stored_weights(n, k % channels, weights_of(k / channels), i);
}

{% include "lib/tile.wgsl" %}
{% include body %}
