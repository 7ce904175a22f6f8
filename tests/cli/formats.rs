//! Inputs of other formats and kinds than one array of real numbers.

use approx::assert_relative_eq;
use relprop::input::{read_npz, read_safetensors};

use crate::program::{Folder, MODEL, fixture};

#[test]
fn an_idx_file_is_read_as_pixels() {
    let folder = Folder::new();
    let pixels: Vec<u8> = (0..40).map(|i| (i * 53 % 256) as u8).collect();
    let header = [&[0u8, 0, 8, 3][..], &2u32.to_be_bytes(), &4u32.to_be_bytes(), &5u32.to_be_bytes()].concat();
    std::fs::write(folder.path("two-images-idx3-ubyte"), [&header[..], &pixels].concat()).unwrap();
    let run = folder.explain("two-images-idx3-ubyte", &["--mean", "0.25", "--std", "0.5"]).succeeds();
    assert!(run.stderr.contains("uint8, read as (pixel / 255 − [0.25]) / [0.5]"), "{}", run.stderr);
    let from_idx = folder.read("out.npy");
    assert_eq!(from_idx.shape().dims(), [2, 4, 5]);
    let floats = pixels.iter().map(|&pixel| (f32::from(pixel) / 255.0 - 0.25) / 0.5).collect();
    folder.write("floats.npy", &[2, 1, 4, 5], floats);
    folder.explain("floats.npy", &[]).succeeds();
    for (a, b) in from_idx.data().iter().zip(folder.read("out.npy").data()) {
        assert_relative_eq!(a, b, epsilon = 1e-5, max_relative = 1e-4);
    }
}

#[test]
fn a_model_of_integers_and_numbers_gives_the_numbers_relevance() {
    let folder = Folder::new();
    let (model, inputs) = (fixture("onnx/lookup_dynamo.onnx"), fixture("onnx/lookup_dynamo.safetensors"));
    let explain = |out: &str, more: &[&str]| {
        folder.relprop(&[&["explain", &model, &inputs, "-o", out], more].concat()).succeeds();
        folder.read(out)
    };
    let gradient = explain("gradient.npy", &["--composite", "gradient", "--target", "2"]);
    let product = explain("product.npy", &["--composite", "gradient-x-input", "--target", "2"]);
    let x = read_safetensors(inputs.as_ref()).unwrap()["x"].to_f32();
    assert_eq!(gradient.shape().dims(), x.shape().dims());
    for ((gradient, product), x) in gradient.data().iter().zip(product.data()).zip(x.data()) {
        assert_relative_eq!(gradient * x, product, epsilon = 1e-6);
    }
    let more = ["--samples", "samples.jsonl", "--report", "report.json", "--heatmap", "heat.png"];
    assert_eq!(explain("out.npy", &more).shape().dims(), [3, 5]);
    assert_eq!(folder.text("samples.jsonl").lines().count(), 3);
    let run = folder.relprop(&["explain", &model, &inputs, "-o", "out.npy", "--mean", "0.5"]);
    assert!(run.status == 2 && run.stderr.contains("--mean is for pictures"), "{}", run.stderr);
}

#[test]
fn several_layers_are_kept_at_once() {
    let folder = Folder::new();
    folder.write_samples("in.npy", 3);
    let explain = |out: &str, keep: &[&str]| {
        let model = fixture(MODEL);
        let keep: Vec<&str> = keep.iter().flat_map(|name| ["--keep", name]).collect();
        folder.relprop(&[&["explain", &model, "in.npy", "-o", out], &keep[..]].concat())
    };
    let (first, second) = ("/layers/layers.0/Gemm", "/layers/layers.2/Gemm");
    explain("both.npz", &[second, first]).succeeds();
    let both = read_npz(&folder.path("both.npz")).unwrap();
    assert_eq!(both.keys().collect::<Vec<_>>(), [first, second, "image"]);
    for (name, width) in [(first, 33), (second, 17)] {
        assert_eq!(both[name].shape().dims(), [3, width]);
        explain("one.npz", &[name]).succeeds();
        assert_eq!(read_npz(&folder.path("one.npz")).unwrap()[name], both[name]);
    }
    let run = explain("twice.npz", &[first, first]);
    assert!(
        run.status == 2 && run.stderr.contains("hold it already") && run.stderr.contains("help: "),
        "{}",
        run.stderr
    );
}

#[test]
fn the_help_says_what_memory_bounds_and_what_dispatches_are() {
    let help = Folder::new().relprop(&["explain", "--help"]).succeeds().stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in ["comes on top: the model", "kernels a GPU ran in all", "the number of the plan's steps"] {
        assert!(help.contains(words), "{words}");
    }
}
