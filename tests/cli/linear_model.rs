//! A linear model of any input shape, written as ONNX: with the gradient composite its relevance is its own weights,
//! so that a value in the wrong place shows.

use crate::program::Folder;

/// Outputs of the model.
pub const OUTPUTS: usize = 3;

/// The weight between an input value, by its position in a sample, and an output.
pub fn weight(position: usize, output: usize) -> f32 {
    ((position * 7 + output * 13) % 31) as f32 / 16.0 - 1.0
}

/// Writes Flatten and Gemm for samples of shape `sample`.
pub fn write(folder: &Folder, name: &str, sample: &[usize]) {
    let count: usize = sample.iter().product();
    let weights = (0..count).flat_map(|position| (0..OUTPUTS).map(move |output| weight(position, output)));
    let raw: Vec<u8> = weights.flat_map(f32::to_le_bytes).collect();
    let initializer = [number(1, count), number(1, OUTPUTS), number(2, 1), text(8, "w"), bytes(9, &raw)].concat();
    let flatten = [text(1, "x"), text(2, "flat"), text(3, "flatten"), text(4, "Flatten")].concat();
    let gemm = [text(1, "flat"), text(1, "w"), text(2, "y"), text(3, "gemm"), text(4, "Gemm")].concat();
    let graph = [
        bytes(1, &flatten),
        bytes(1, &gemm),
        text(2, "linear"),
        bytes(5, &initializer),
        bytes(11, &value("x", sample)),
        bytes(12, &value("y", &[OUTPUTS])),
    ];
    let opset = bytes(8, &number(2, 17));
    std::fs::write(folder.path(name), [number(1, 8), opset, bytes(7, &graph.concat())].concat()).expect("a file");
}

/// The name, element type and shape [N, …] of a value.
fn value(name: &str, sample: &[usize]) -> Vec<u8> {
    let dims = sample.iter().flat_map(|&dim| bytes(1, &number(1, dim)));
    let shape: Vec<u8> = bytes(1, &text(2, "N")).into_iter().chain(dims).collect();
    let tensor = [number(1, 1), bytes(2, &shape)].concat();
    [text(1, name), bytes(2, &bytes(1, &tensor))].concat()
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push((number % 128 + 128) as u8);
        number /= 128;
    }
    bytes.push(number as u8);
    bytes
}

fn number(field: usize, value: usize) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: usize, value: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2)[..], &varint(value.len()), value].concat()
}

fn text(field: usize, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}
