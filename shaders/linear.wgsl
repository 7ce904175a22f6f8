// Rows of a source times a dense layer's weight, each through elementwise operations before and after.
//
// target[row, n] = epilogue(Σ_k prologue(source[row, k]) · W̃(k, n)). The weight lies as the layer has it, [outputs][inputs]
// with rows padded to a multiple of 4, and serves both directions: forward k is an input and n an output, backward
// the other way round.
{% import "lib/chain.wgsl" as lib %}
{% import "lib/slices.wgsl" as sums %}
{% include "lib/step.wgsl" %}
{% include "lib/functions.wgsl" %}

@group(0) @binding(2) var<storage, read> weight: array<{{ "vec2<u32>" if half_weights else "vec4<f32>" }}>;
@group(0) @binding(4) var<storage, read> source: array<{{ lib.element_type(source.aligned) }}>;
{% for o in operands %}{{ lib.operand(o) }}{% endfor %}
{% if parameters %}{{ lib.parameters(5, aligned) }}{% endif %}
{{ lib.chain("prologue", prologue) }}
{{ lib.chain("epilogue", epilogue) }}
{{ lib.store(3, aligned, outputs) }}
{% if sliced %}{{ sums.slices(aligned, "step.first", "") }}{% endif %}
{% include "lib/pair.wgsl" %}
{% include "lib/part.wgsl" %}

// Four elements of a source row from `k` on, whatever lies there.
fn raw4(row: u32, k: u32) -> vec4<f32> {
    let element = place(row, k, step.depth).element;
{{ lib.stored(source, added) }}
}

// What the product takes of them: zeros beyond the row's end.
fn made4(x: vec4<f32>, row: u32, k: u32) -> vec4<f32> {
{{ lib.through(source, added) }}
    let x_of_k = prologue(place(row, k, step.depth), v);
{% if source.aligned %}
    return select(vec4(0.0), x_of_k, k < step.depth);
{% else %}
    return select(vec4(0.0), x_of_k, vec4(k, k + 1u, k + 2u, k + 3u) < vec4(step.depth));
{% endif %}
}

fn source4(row: u32, k: u32) -> vec4<f32> {
    return made4(raw4(row, k), row, k);
}

// The same in two parts, of which the second waits for what the first reads. A prologue reads more, and is part of the first.
fn stored4(row: u32, k: u32) -> vec4<f32> {
    return {{ "source4(row, k)" if prologue else "raw4(row, k)" }};
}

fn taken4(x: vec4<f32>, row: u32, k: u32) -> vec4<f32> {
    return {{ "x" if prologue else "made4(x, row, k)" }};
}

// What the loop over k keeps of a row.
fn lead(row: u32) -> u32 {
    return row;
}

fn depth(unit: u32) -> u32 {
    return step.depth;
}

{% include "block.wgsl" %}

fn block(n: u32, k: u32) -> mat4x4<f32> {
    return block_of(n, k, 0u);
}

fn stored_weights4(n: u32, k: u32, i: u32) -> vec4<u32> {
    return stored_weights(n, k, 0u, i);
}

{% include "lib/tile.wgsl" %}
{% include body %}
