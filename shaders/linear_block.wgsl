// Rows k to k + 3 and columns n to n + 3 of B, which is {{ "W: B(k, n) = W[k][n]" if backward else "W's transpose: B(k, n) = W[n][k]" }}. Past the last row and column the last ones
// repeat: what they are multiplied by is zero, or their sums are not stored. k is less than the depth.
fn block(n: u32, k: u32) -> mat4x4<f32> {
{% if backward %}
    let last = step.depth - 1u;
    let at = min(n / 4u, step.stride - 1u);
    return mat4x4(
        part(weight[k * step.stride + at]),
        part(weight[min(k + 1u, last) * step.stride + at]),
        part(weight[min(k + 2u, last) * step.stride + at]),
        part(weight[min(k + 3u, last) * step.stride + at]),
    );
{% else %}
    let last = step.columns - 1u;
    let at = k / 4u;
    return transpose(mat4x4(
        part(weight[min(n, last) * step.stride + at]),
        part(weight[min(n + 1u, last) * step.stride + at]),
        part(weight[min(n + 2u, last) * step.stride + at]),
        part(weight[min(n + 3u, last) * step.stride + at]),
    ));
{% endif %}
}
