//! Pictures and uint8 arrays: no pixel leaves its place, and flags do what they say or are refused.

use approx::assert_relative_eq;
use relprop::Tensor;
use relprop::input::ImageLayout;

use crate::linear_model::{self, weight};
use crate::program::{Folder, Run, npy_of_bytes};

/// A model of [3, 2, 4] and one of [2, 4, 3].
fn folder() -> Folder {
    let folder = Folder::new();
    linear_model::write(&folder, "first.onnx", &[3, 2, 4]);
    linear_model::write(&folder, "last.onnx", &[2, 4, 3]);
    folder
}

fn explain(folder: &Folder, model: &str, inputs: &[&str], more: &[&str]) -> Run {
    folder.relprop(&[&["explain", model], inputs, &["-o", "out.npy", "--target", "1"], more].concat())
}

/// The pixel of a sample at a channel, row and column.
fn pixel(sample: usize, channel: usize, row: usize, column: usize) -> u8 {
    (sample * 101 + channel * 71 + row * 29 + column * 13) as u8
}

/// Two samples of 3 channels, 2 rows, 4 columns as uint8.
fn write_pixels(folder: &Folder, name: &str, layout: ImageLayout) {
    let mut data = Vec::new();
    for sample in 0..2 {
        let places = (0..24).map(|i| match layout {
            ImageLayout::Nchw => (i / 8, i / 4 % 2, i % 4),
            ImageLayout::Nhwc => (i % 3, i / 12, i / 3 % 4),
        });
        data.extend(places.map(|(channel, row, column)| pixel(sample, channel, row, column)));
    }
    let shape = if layout == ImageLayout::Nchw { "2, 3, 2, 4" } else { "2, 2, 4, 3" };
    std::fs::write(folder.path(name), npy_of_bytes(shape, &data)).unwrap();
}

/// Gradient times input of the second output, whatever the layout, by sample, channel, row, column.
fn expected(is_first: bool, of: impl Fn(usize, usize, usize, usize) -> f32) -> impl Fn([usize; 4]) -> f32 {
    move |[sample, channel, row, column]| {
        let first = channel * 8 + row * 4 + column;
        let last = row * 12 + column * 3 + channel;
        weight(if is_first { first } else { last }, 1) * of(sample, channel, row, column)
    }
}

#[track_caller]
fn assert_relevance(relevance: &Tensor, layout: ImageLayout, expected: impl Fn([usize; 4]) -> f32) {
    for sample in 0..2 {
        for i in 0..24 {
            let (channel, row, column) = (i / 8, i / 4 % 2, i % 4);
            let place = match layout {
                ImageLayout::Nchw => i,
                ImageLayout::Nhwc => row * 12 + column * 3 + channel,
            };
            let (found, wanted) = (relevance.row(sample)[place], expected([sample, channel, row, column]));
            assert_relative_eq!(found, wanted, epsilon = 1e-5);
        }
    }
}

const TIMES_INPUT: [&str; 2] = ["--composite", "gradient-x-input"];

#[test]
fn a_uint8_array_is_turned_when_layout_says_where_its_channels_are() {
    let folder = folder();
    let scaled = |sample, channel, row, column| f32::from(pixel(sample, channel, row, column)) / 255.0;
    for (array, model, flag) in [(ImageLayout::Nhwc, "first.onnx", "nhwc"), (ImageLayout::Nchw, "last.onnx", "nchw")] {
        write_pixels(&folder, "in.npy", array);
        let run = explain(&folder, model, &["in.npy"], &TIMES_INPUT);
        assert_eq!(run.status, 1, "{}", run.stderr);
        assert!(run.stderr.contains("help: give an array of shape [N, "), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("--layout {flag}")), "{}", run.stderr);
        let layout = ["--layout", flag];
        explain(&folder, model, &["in.npy"], &[&TIMES_INPUT[..], &layout].concat()).succeeds();
        let relevance = folder.read("out.npy");
        let shape = if array == ImageLayout::Nchw { [2, 3, 2, 4] } else { [2, 2, 4, 3] };
        assert_eq!(relevance.shape().dims(), shape);
        assert_relevance(&relevance, array, expected(model == "first.onnx", scaled));

        let mean = ["--mean", "0.1,0.2,0.3", "--sum-channels", "--heatmap", "heat.png"];
        explain(&folder, model, &["in.npy"], &[&TIMES_INPUT[..], &layout, &mean].concat()).succeeds();
        let sums = folder.read("out.npy");
        assert_eq!(sums.shape().dims(), [2, 2, 4]);
        let centred = |s, c, row, column| scaled(s, c, row, column) - [0.1, 0.2, 0.3][c];
        let expected = expected(model == "first.onnx", centred);
        for i in 0..16 {
            let sum: f32 = (0..3).map(|channel| expected([i / 8, channel, i / 4 % 2, i % 4])).sum();
            assert_relative_eq!(sums.data()[i], sum, epsilon = 1e-5);
        }
    }
}

#[test]
fn pixels_in_another_order_of_the_same_size_are_refused() {
    let folder = folder();
    for shape in ["2, 3, 4, 2", "2, 4, 2, 3", "2, 6, 4", "2, 2, 3, 4"] {
        std::fs::write(folder.path("in.npy"), npy_of_bytes(shape, &[9; 48])).unwrap();
        let run = explain(&folder, "first.onnx", &["in.npy"], &[]);
        assert!(run.status == 1 && run.stderr.contains("transpose it"), "{shape}: {}", run.stderr);
    }
    std::fs::write(folder.path("in.npy"), npy_of_bytes("2, 24", &[9; 48])).unwrap();
    explain(&folder, "first.onnx", &["in.npy"], &[]).succeeds();
    assert_eq!(folder.read("out.npy").shape().dims(), [2, 24]);
    for size in [(8, 1), (2, 4)] {
        image::RgbImage::new(size.0, size.1).save(folder.path("in.png")).unwrap();
        let run = explain(&folder, "first.onnx", &["in.png"], &[]);
        assert!(run.status == 1 && run.stderr.contains("help: "), "{}", run.stderr);
    }
    image::RgbImage::new(4, 2).save(folder.path("in.png")).unwrap();
    explain(&folder, "first.onnx", &["in.png"], &[]).succeeds();
    let run = explain(&folder, "first.onnx", &["in.png"], &["--layout", "nhwc"]);
    assert!(run.status == 1 && run.stderr.contains("--layout"), "{}", run.stderr);
}

#[test]
fn flags_that_would_do_nothing_are_refused() {
    let folder = folder();
    write_pixels(&folder, "in.npy", ImageLayout::Nchw);
    for flag in [["--resize", "4"], ["--crop", "2"], ["--channels", "bgr"]] {
        let run = explain(&folder, "first.onnx", &["in.npy"], &flag);
        let words = format!("{} is for pictures, but in.npy holds an array", flag[0]);
        assert!(run.status == 2 && run.stderr.contains(&words), "{}", run.stderr);
    }
    folder.write("floats.npy", &[2, 3, 2, 4], vec![0.5; 48]);
    let run = explain(&folder, "first.onnx", &["floats.npy"], &["--layout", "nchw"]);
    assert!(run.status == 2 && run.stderr.contains("--layout is for pictures"), "{}", run.stderr);
    explain(&folder, "first.onnx", &["floats.npy"], &["--layout", "nchw", "--sum-channels"]).succeeds();
}

#[test]
fn channels_of_numbers_are_summed_where_layout_says() {
    let folder = folder();
    folder.write("in.npy", &[2, 3, 2, 4], (0..48).map(|i| i as f32 / 8.0).collect());
    explain(&folder, "first.onnx", &["in.npy"], &TIMES_INPUT).succeeds();
    let whole = folder.read("out.npy");
    explain(&folder, "first.onnx", &["in.npy"], &[&TIMES_INPUT[..], &["--sum-channels"]].concat()).succeeds();
    let sums = folder.read("out.npy");
    assert_eq!(sums.shape().dims(), [2, 2, 4]);
    for sample in 0..2 {
        for at in 0..8 {
            let sum: f32 = (0..3).map(|channel| whole.row(sample)[channel * 8 + at]).sum();
            assert_relative_eq!(sums.row(sample)[at], sum, epsilon = 1e-4);
        }
    }
}

#[test]
fn pixels_are_summed_over_squares_however_they_lie() {
    let folder = folder();
    folder.write("first.npy", &[2, 3, 2, 4], (0..48).map(|i| i as f32 / 8.0).collect());
    let last = (0..48).map(|i| (i / 24 * 24 + i % 3 * 8 + i % 24 / 3) as f32 / 8.0);
    folder.write("last.npy", &[2, 2, 4, 3], last.collect());
    for (model, file, is_first) in [("first.onnx", "first.npy", true), ("last.onnx", "last.npy", false)] {
        explain(&folder, model, &[file], &TIMES_INPUT).succeeds();
        let whole = folder.read("out.npy");
        let at = |sample: usize, channel: usize, row: usize, column: usize| {
            whole.row(sample)
                [if is_first { (channel * 2 + row) * 4 + column } else { (row * 4 + column) * 3 + channel }]
        };
        // Squares of 3: all of the 2 rows, and of the 4 columns 3 and the one that is left.
        let square = |sample, channel, square: usize| -> f32 {
            let pixels = (0..2).flat_map(|row| (0..4).map(move |column| (row, column)));
            pixels
                .filter(|(_, column)| column / 3 == square)
                .map(|(row, column)| at(sample, channel, row, column))
                .sum()
        };
        explain(&folder, model, &[file], &[&TIMES_INPUT[..], &["--pool", "3"]].concat()).succeeds();
        let pooled = folder.read("out.npy");
        assert_eq!(pooled.shape().dims(), if is_first { [2, 3, 1, 2] } else { [2, 1, 2, 3] });
        for (i, &found) in pooled.data().iter().enumerate() {
            let (channel, at) = if is_first { (i / 2 % 3, i % 2) } else { (i % 3, i / 3 % 2) };
            assert_relative_eq!(found, square(i / 6, channel, at), epsilon = 1e-4);
        }
        let both = ["--pool", "3", "--sum-channels"];
        explain(&folder, model, &[file], &[&TIMES_INPUT[..], &both].concat()).succeeds();
        let sums = folder.read("out.npy");
        assert_eq!(sums.shape().dims(), [2, 1, 2]);
        for (i, &found) in sums.data().iter().enumerate() {
            let sum: f32 = (0..3).map(|channel| square(i / 2, channel, i % 2)).sum();
            assert_relative_eq!(found, sum, epsilon = 1e-4);
        }
    }
}

#[test]
fn pictures_are_resized_cut_and_normalised() {
    let folder = Folder::new();
    linear_model::write(&folder, "square.onnx", &[3, 4, 4]);
    // One colour: resizing and cutting leave it as it is.
    for (name, size) in [("a.png", (24, 16)), ("b.png", (9, 30))] {
        image::RgbImage::from_pixel(size.0, size.1, image::Rgb([51, 102, 204])).save(folder.path(name)).unwrap();
    }
    let pictures = ["a.png", "b.png"];
    let run = explain(&folder, "square.onnx", &pictures, &["--resize", "6"]);
    assert!(run.status != 0 && run.stderr.contains("crop"), "{}", run.stderr);
    let normal = ["--resize", "6", "--crop", "4", "--mean", "0.1,0.2,0.3", "--std", "0.5,0.25,2"];
    for (channels, colour) in [("rgb", [0.2, 0.4, 0.8]), ("bgr", [0.8, 0.4, 0.2])] {
        let more = [&TIMES_INPUT[..], &normal, &["--channels", channels]].concat();
        explain(&folder, "square.onnx", &pictures, &more).succeeds();
        let relevance = folder.read("out.npy");
        assert_eq!(relevance.shape().dims(), [2, 3, 4, 4]);
        for (i, &found) in relevance.data().iter().enumerate() {
            let channel = i / 16 % 3;
            let value = (colour[channel] - [0.1, 0.2, 0.3][channel]) / [0.5, 0.25, 2.0][channel];
            assert_relative_eq!(found, weight(i % 48, 1) * value, epsilon = 1e-5);
        }
    }
}
