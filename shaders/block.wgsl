// Four by four elements of B, which is {{ "W: B(k, n) = W[k][n]" if backward else "W's transpose: B(k, n) = W[n][k]" }}. A kernel may fetch them as they lie in memory, and make a block of
// them later: what it does with them at once, it waits for.

// Row i of those of W that make the block of rows k to k + 3 and columns n to n + 3, as bits, for the W that begins at a vector.
// Past the last row and column the last ones repeat: what they are multiplied by is zero, or their sums are not stored.
// k is less than the depth.
fn stored_weights(n: u32, k: u32, first: u32, i: u32) -> vec4<u32> {
{% if backward %}
    let at = first + min(n / 4u, step.stride - 1u) + min(k + i, step.depth - 1u) * step.stride;
{% else %}
    let at = first + k / 4u + min(n + i, step.columns - 1u) * step.stride;
{% endif %}
    return {{ "vec4(weight[at], 0u, 0u)" if half_weights else "bitcast<vec4<u32>>(weight[at])" }};
}

fn weights_from(stored: vec4<u32>) -> vec4<f32> {
    return part({{ "vec4(unpack2x16float(stored.x), unpack2x16float(stored.y))" if half_weights else "bitcast<vec4<f32>>(stored)" }});
}

fn block_from(w0: vec4<u32>, w1: vec4<u32>, w2: vec4<u32>, w3: vec4<u32>) -> mat4x4<f32> {
    let rows = mat4x4(weights_from(w0), weights_from(w1), weights_from(w2), weights_from(w3));
    return {{ "rows" if backward else "transpose(rows)" }};
}

fn block_of(n: u32, k: u32, first: u32) -> mat4x4<f32> {
    return block_from(
        stored_weights(n, k, first, 0u),
        stored_weights(n, k, first, 1u),
        stored_weights(n, k, first, 2u),
        stored_weights(n, k, first, 3u),
    );
}
