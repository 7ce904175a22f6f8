//! Arrays and pictures in and out: files that NumPy, safetensors and Pillow wrote (tests/fixtures/formats/make.py),
//! round trips, and files that are broken.
#![cfg(feature = "files")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use approx::assert_abs_diff_eq;
use relprop::input::{
    Array, Channels, FileFormat, ImageLayout, ImageOptions, NpyReader, read_arrays, read_idx, read_images, read_npy,
    read_npz, read_npz_array, read_weights,
};
use relprop::output::{
    JsonLines, NpyWriter, Precision, check_writable, write_json, write_npy, write_npz, write_safetensors, write_tensors,
};
use relprop::{ErrorKind, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats").join(name)
}

/// (0 … 11 − 5) / 8 in three rows of four.
fn values() -> Tensor {
    Tensor::from_fn([3, 4], |i| (i as f32 - 5.0) / 8.0)
}

fn assert_close(actual: &Tensor, expected: &Tensor, epsilon: f32) {
    assert_eq!(actual.shape(), expected.shape());
    for (&a, &b) in actual.data().iter().zip(expected.data()) {
        assert_abs_diff_eq!(a, b, epsilon = epsilon);
    }
}

#[test]
fn every_number_type_of_numpy_is_read() {
    let integers = Tensor::from_fn([3, 4], |i| i as i64 - 5);
    let cases = [
        ("f2.npy", "float32", values()),
        ("f4.npy", "float32", values()),
        ("big_endian_f4.npy", "float32", values()),
        ("f8.npy", "float64", values()),
        ("i1.npy", "int64", integers.map(|&x| x as f32)),
        ("i2.npy", "int64", integers.map(|&x| x as f32)),
        ("i4.npy", "int64", integers.map(|&x| x as f32)),
        ("i8.npy", "int64", integers.map(|&x| x as f32)),
        ("u1.npy", "uint8", integers.map(|&x| x.abs() as f32)),
        ("u2.npy", "int64", integers.map(|&x| x.abs() as f32)),
        ("u4.npy", "int64", integers.map(|&x| x.abs() as f32)),
        ("u8.npy", "int64", integers.map(|&x| x.abs() as f32)),
        ("bool.npy", "bool", integers.map(|&x| f32::from(u8::from(x > 0)))),
    ];
    for (name, dtype, expected) in cases {
        let array = read_npy(&fixture(name)).unwrap();
        assert_eq!(array.dtype(), dtype, "{name}");
        assert_close(&array.to_f32(), &expected, 0.0);
    }
}

#[test]
fn scalars_empty_batches_and_fortran_order_are_read() {
    assert_eq!(read_npy(&fixture("scalar_f4.npy")).unwrap(), Array::F32(Tensor::scalar(2.5)));
    assert_eq!(read_npy(&fixture("empty_f4.npy")).unwrap().shape().dims(), [0, 4]);
    let expected = Tensor::from_fn([2, 3, 4], |i| i as f32);
    assert_eq!(read_npy(&fixture("fortran_f4.npy")).unwrap(), Array::F32(expected.clone()));
    let mut reader = NpyReader::open(&fixture("fortran_f4.npy")).unwrap();
    let second = reader.rows(1..2).unwrap().into_f32();
    assert_eq!(second.shape().dims(), [1, 3, 4]);
    assert_close(&second, &Tensor::new([1, 3, 4], expected.row(1).to_vec()).unwrap(), 0.0);
}

#[test]
fn rows_are_read_without_the_rest() {
    let mut reader = NpyReader::open(&fixture("f8.npy")).unwrap();
    assert_eq!((reader.row_count(), reader.shape().dims(), reader.dtype().name()), (3, &[3, 4][..], "float64"));
    let rows = reader.rows(1..3).unwrap().into_f32();
    assert_close(&rows, &Tensor::new([2, 4], values().data()[4..].to_vec()).unwrap(), 0.0);
    assert_eq!(reader.rows(0..4).unwrap_err().kind(), ErrorKind::Argument);
}

#[test]
fn what_is_no_number_is_refused() {
    for name in ["objects.npy", "complex.npy", "records.npy"] {
        let error = read_npy(&fixture(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains(name) && error.advice().is_some(), "{error}");
    }
}

#[test]
fn archives_are_read_whole_or_by_name() {
    let stored = read_npz(&fixture("stored.npz")).unwrap();
    assert_eq!(stored["x"], Array::F32(values()));
    assert_eq!(stored["labels"], Array::U8(Tensor::vector(vec![1, 2, 3])));
    let packed = read_npz(&fixture("packed.npz")).unwrap();
    assert_eq!(packed["zeros"], Array::F32(Tensor::zeros([100, 100])));
    assert_eq!(read_npz_array(&fixture("packed.npz"), "x").unwrap(), Array::F32(values()));
    let error = read_npz_array(&fixture("stored.npz"), "y").unwrap_err();
    assert_eq!(error.advice(), Some("it holds x, labels"));
}

#[test]
fn weights_are_read_by_name() {
    let weights = read_weights(&fixture("weights.safetensors")).unwrap();
    assert_close(&weights["fc.weight"], &values(), 0.0);
    assert_close(&weights["fc.bias"], &Tensor::vector(values().row(0).to_vec()), 0.0);
    assert_close(&weights["steps"], &Tensor::vector(vec![7.0]), 0.0);
}

#[test]
fn idx_archives_are_read_with_and_without_gzip() {
    let expected = Array::U8(Tensor::from_fn([2, 3, 4], |i| i as u8));
    assert_eq!(read_idx(&fixture("images-idx3-ubyte")).unwrap(), expected);
    assert_eq!(read_arrays(&fixture("images-idx3-ubyte.gz")).unwrap()[""], expected);
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let names =
        ["f4.npy", "stored.npz", "packed.npz", "weights.safetensors", "images-idx3-ubyte", "images-idx3-ubyte.gz"];
    for name in names {
        let whole = std::fs::read(fixture(name)).unwrap();
        let path = folder.path().join(name);
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = read_arrays(&path).unwrap_err();
            assert!(error.message().contains(name) && error.advice().is_some(), "{length}: {error}");
        }
    }
}

#[test]
fn claims_beyond_the_files_size_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let claims: [(&str, &[u8]); 3] = [
        ("x-ubyte", &[0, 0, 8, 4, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]),
        ("x-ubyte", &[0, 0, 14, 1, 127, 255, 255, 255]),
        (
            "x.safetensors",
            b"\x40\0\0\0\0\0\0\0{\"x\":{\"dtype\":\"F32\",\"shape\":[1000000000000],\"data_offsets\":[0,8]}}",
        ),
    ];
    for (name, bytes) in claims {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read_arrays(&path).unwrap_err().kind(), ErrorKind::Malformed, "{name}");
    }
    // A picture of 32,000 by 32,000 pixels in a few bytes: IHDR's checksum is right.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend([0, 0, 0x7d, 0, 0, 0, 0x7d, 0, 8, 2, 0, 0, 0]);
    png.extend(crc32(&png[12..]).to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    let path = folder.path().join("x.png");
    std::fs::write(&path, png).unwrap();
    let error = read_images(&[&path], &ImageOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[test]
fn flipped_bytes_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    for name in
        ["f4.npy", "packed.npz", "weights.safetensors", "images-idx3-ubyte.gz", "rgb_16x12.png", "rgb_16x12.jpg"]
    {
        let whole = std::fs::read(fixture(name)).unwrap();
        let path = folder.path().join(name);
        for at in 0..whole.len() {
            for flip in [0x01, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                std::fs::write(&path, &bytes).unwrap();
                if FileFormat::of(&path).unwrap() == FileFormat::Image {
                    let _ = read_images(&[&path], &ImageOptions::default());
                } else {
                    let _ = read_arrays(&path);
                }
            }
        }
    }
}

#[test]
fn a_missing_file_and_an_unknown_ending_say_so() {
    let error = read_arrays(Path::new("nowhere/x.npy")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.message().starts_with("nowhere/x.npy: cannot be read"), "{error}");
    let error = read_arrays(Path::new("x.csv")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.advice().unwrap().contains(".safetensors"), "{error}");
}

#[test]
fn arrays_come_back_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = BTreeMap::from([
        ("x".to_owned(), values()),
        ("y/z".to_owned(), Tensor::scalar(-1.5)),
        ("empty".to_owned(), Tensor::zeros([0, 3])),
    ]);
    for precision in [Precision::F32, Precision::F16] {
        let path = folder.path().join("x.npy");
        write_npy(&path, &tensors["x"], precision).unwrap();
        assert_eq!(read_npy(&path).unwrap(), Array::F32(values()));
        let expected: BTreeMap<_, _> =
            tensors.iter().map(|(name, tensor)| (name.clone(), Array::F32(tensor.clone()))).collect();
        let path = folder.path().join("x.npz");
        write_npz(&path, &tensors, precision).unwrap();
        assert_eq!(read_npz(&path).unwrap(), expected);
        let path = folder.path().join("x.safetensors");
        write_safetensors(&path, &tensors, precision).unwrap();
        assert_eq!(read_arrays(&path).unwrap(), expected);
    }
}

#[test]
fn our_npy_is_numpys_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    for (name, tensor, precision) in [
        ("f4.npy", values(), Precision::F32),
        ("f2.npy", values(), Precision::F16),
        ("scalar_f4.npy", Tensor::scalar(2.5), Precision::F32),
        ("empty_f4.npy", Tensor::zeros([0, 4]), Precision::F32),
    ] {
        let path = folder.path().join(name);
        write_npy(&path, &tensor, precision).unwrap();
        let (ours, numpys) = (std::fs::read(&path).unwrap(), std::fs::read(fixture(name)).unwrap());
        // NumPy pads more than it must, to leave room for a longer shape.
        assert_eq!(ours.len() % 64, numpys.len() % 64);
        let (start, end) = (tensor.count() * if precision == Precision::F16 { 2 } else { 4 }, "}".as_bytes()[0]);
        assert_eq!(ours[ours.len() - start..], numpys[numpys.len() - start..]);
        let dictionary = |bytes: &[u8]| bytes[10..=bytes.iter().rposition(|&byte| byte == end).unwrap()].to_vec();
        assert_eq!(dictionary(&ours), dictionary(&numpys));
    }
}

#[test]
fn rows_are_written_one_batch_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.npy");
    let mut writer = NpyWriter::create(&path, [3, 4], Precision::F32).unwrap();
    writer.append(&Tensor::new([2, 4], values().data()[..8].to_vec()).unwrap()).unwrap();
    assert!(!path.exists());
    assert_eq!(writer.append(&Tensor::zeros([2, 4])).unwrap_err().kind(), ErrorKind::Shape);
    assert_eq!(writer.append(&Tensor::zeros([1, 5])).unwrap_err().kind(), ErrorKind::Shape);
    writer.append(&Tensor::new([1, 4], values().data()[8..].to_vec()).unwrap()).unwrap();
    writer.finish().unwrap();
    assert_eq!(read_npy(&path).unwrap(), Array::F32(values()));

    let mut writer = NpyWriter::create(&path, [3, 4], Precision::F32).unwrap();
    writer.append(&Tensor::zeros([1, 4])).unwrap();
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Shape);
    assert_eq!(read_npy(&path).unwrap(), Array::F32(values()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_value_beyond_float16_is_refused_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let error = write_npy(&path, &Tensor::vector(vec![1.0, 70_000.0]), Precision::F16).unwrap_err();
    assert_eq!((error.kind(), error.advice()), (ErrorKind::Data, Some("write float32")));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_files_is_named_with_the_way_out() {
    let error = write_npy(Path::new("/proc/x.npy"), &values(), Precision::F32).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.message().starts_with("/proc/x.npy: cannot be written") && error.advice().is_some(), "{error}");
}

#[test]
fn reports_and_lines_are_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let report = BTreeMap::from([("total", 1.5_f32), ("worst", f32::NAN)]);
    write_json(&path, &report).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\n  \"total\": 1.5,\n  \"worst\": null\n}\n");
    let path = folder.path().join("samples.jsonl");
    let mut lines = JsonLines::create(&path).unwrap();
    lines.append(&BTreeMap::from([("index", 0)])).unwrap();
    lines.append(&BTreeMap::from([("index", 1)])).unwrap();
    lines.finish().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"index\":0}\n{\"index\":1}\n");
}

fn picture(options: &ImageOptions) -> Tensor {
    read_images(&[fixture("rgb_16x12.png")], options).unwrap()
}

fn pillow(name: &str) -> Tensor {
    let pixels = read_npz_array(&fixture("rgb_expected.npz"), name).unwrap().to_f32();
    let dims = pixels.shape().prepend(1);
    pixels.reshape(dims).unwrap()
}

#[test]
fn pictures_are_decoded_cut_and_resized_as_pillow_does() {
    let plain = ImageOptions { scale: 1.0, layout: ImageLayout::Nhwc, ..ImageOptions::default() };
    assert_close(&picture(&plain), &pillow("rgb"), 0.0);
    assert_close(&picture(&ImageOptions { crop: Some(8), ..plain.clone() }), &pillow("cropped"), 0.0);
    assert_close(&picture(&ImageOptions { resize: Some(6), ..plain.clone() }), &pillow("resized"), 1.0);
    let gray = picture(&ImageOptions { channels: Channels::Gray, ..plain.clone() });
    assert_eq!(gray.shape().dims(), [1, 12, 16, 1]);
    assert_close(&gray.reshape([1, 12, 16]).unwrap(), &pillow("gray"), 0.0);
    let jpeg = read_images(&[fixture("rgb_16x12.jpg")], &plain).unwrap();
    assert_close(&jpeg, &pillow("jpeg"), 4.0);
}

#[test]
fn pixels_are_scaled_and_normalised_along_the_channels() {
    let options = ImageOptions { mean: vec![0.5, 0.25, 0.0], std: vec![0.5, 1.0, 2.0], ..ImageOptions::default() };
    let nchw = picture(&options);
    assert_eq!(nchw.shape().dims(), [1, 3, 12, 16]);
    let nhwc = picture(&ImageOptions { layout: ImageLayout::Nhwc, ..options.clone() });
    assert_close(&nchw.transpose(&[0, 2, 3, 1]), &nhwc, 0.0);
    let raw = pillow("rgb");
    assert_abs_diff_eq!(nhwc.at(&[0, 2, 3, 1]), raw.at(&[0, 2, 3, 1]) / 255.0 - 0.25, epsilon = 1e-6);

    let bgr = picture(&ImageOptions { channels: Channels::Bgr, ..ImageOptions::default() });
    assert_abs_diff_eq!(bgr.at(&[0, 0, 2, 3]), raw.at(&[0, 2, 3, 2]) / 255.0, epsilon = 1e-6);

    let Array::U8(pixels) = read_npz_array(&fixture("rgb_expected.npz"), "rgb").unwrap() else { panic!("uint8") };
    let pixels = pixels.reshape([1, 12, 16, 3]).unwrap();
    let scaled = ImageOptions { layout: ImageLayout::Nhwc, ..options.clone() }.scale_pixels(&pixels).unwrap();
    assert_close(&scaled, &nhwc, 0.0);
    assert_eq!(options.scale_pixels(&pixels).unwrap_err().kind(), ErrorKind::Argument);

    let (low, high) = options.bounds().unwrap();
    assert_close(&Tensor::vector(low), &Tensor::vector(vec![-1.0, -0.25, 0.0]), 1e-6);
    assert_close(&Tensor::vector(high), &Tensor::vector(vec![1.0, 0.75, 0.5]), 1e-6);
}

#[test]
fn pictures_that_do_not_fit_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let options = ImageOptions::default();
    assert_eq!(read_images(&[] as &[&Path], &options).unwrap_err().kind(), ErrorKind::Data);
    let fake = folder.path().join("fake.png");
    std::fs::write(&fake, b"no picture").unwrap();
    assert_eq!(read_images(&[&fake], &options).unwrap_err().kind(), ErrorKind::Malformed);
    let rgb = fixture("rgb_16x12.png");
    for options in [
        ImageOptions { crop: Some(13), ..options.clone() },
        ImageOptions { crop: Some(0), ..options.clone() },
        ImageOptions { resize: Some(usize::MAX), ..options.clone() },
        ImageOptions { resize: Some(0), ..options.clone() },
        ImageOptions { mean: vec![0.0; 2], ..options.clone() },
        ImageOptions { std: vec![0.0], ..options.clone() },
    ] {
        let error = read_images(&[&rgb], &options).unwrap_err();
        assert!(error.kind() == ErrorKind::Argument && error.advice().is_some(), "{error}");
    }
    let claims = std::fs::read(&rgb).unwrap();
    let mut huge = claims.clone();
    huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    std::fs::write(&fake, huge).unwrap();
    assert!(read_images(&[&fake], &options).is_err());
}

#[test]
fn the_ending_names_the_format_of_results() {
    let folder = tempfile::tempdir().unwrap();
    let two = BTreeMap::from([("a".to_owned(), values()), ("b".to_owned(), values())]);
    for name in ["x.npz", "x.safetensors"] {
        write_tensors(&folder.path().join(name), &two, Precision::F32).unwrap();
        assert_eq!(read_arrays(&folder.path().join(name)).unwrap()["b"], Array::F32(values()));
    }
    for (name, count) in [("x.npy", 2), ("x.npy", 0), ("x.png", 1), ("x.csv", 1), ("x", 1), ("x-ubyte", 1)] {
        let error = check_writable(Path::new(name), count).unwrap_err();
        assert!(error.kind() == ErrorKind::Argument && error.advice().unwrap().contains(".npz"), "{error}");
    }
}
