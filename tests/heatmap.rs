//! Heatmaps: colours against zennit's and matplotlib's own tables (tests/fixtures/colormaps/make.py), and whole pages.
//!
//! With `RELPROP_KEEP_PICTURES=DIR` the pages that the tests draw are kept in DIR, to be looked at.
#![cfg(feature = "files")]

use std::path::{Path, PathBuf};

use approx::assert_abs_diff_eq;
use relprop::input::{Array, Channels, ImageLayout, read_npz};
use relprop::output::{
    Canvas, Cell, ColorMap, Grid, GridRow, Heatmap, Limits, Map, MatrixPlot, Reduce, ScaleBy, write_png,
};
use relprop::{ErrorKind, Shape, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/colormaps").join(name)
}

/// Writes a picture, reads its size and colour type back, and keeps it where the environment says.
fn keep(name: &str, page: &Canvas) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write_png(&path, page).unwrap();
    let read = image::open(&path).unwrap().into_rgb8();
    assert_eq!(read.dimensions(), (page.width() as u32, page.height() as u32));
    assert_eq!(read.as_raw().as_slice(), page.pixels().as_flattened());
    if let Some(kept) = std::env::var_os("RELPROP_KEEP_PICTURES") {
        std::fs::copy(&path, Path::new(&kept).join(name)).unwrap();
    }
}

/// A blob of positive relevance, a weaker one of negative, 0 around.
fn blobs(width: usize, height: usize, seed: usize) -> Map {
    let bump = |x: f32, y: f32, cx: f32, cy: f32| (-((x - cx).powi(2) + (y - cy).powi(2)) / 0.02).exp();
    let shift = (seed * 37 % 17) as f32 / 17.0 * 0.4;
    let values = (0..width * height).map(|at| {
        let (x, y) = ((at % width) as f32 / width as f32, (at / width) as f32 / height as f32);
        let value = bump(x, y, 0.3 + shift, 0.4) - 0.6 * bump(x, y, 0.6, 0.3 + shift);
        if value.abs() < 1e-3 { 0.0 } else { value * (1.0 + seed as f32) }
    });
    Map::new(width, height, values.collect()).unwrap()
}

fn picture(map: &Map) -> Canvas {
    let shape = Shape::new([map.height(), map.width()]);
    let values: Vec<f32> = map.values().iter().map(|value| value.abs().sqrt()).collect();
    Canvas::from_input(&values, &shape, ImageLayout::Nchw, Channels::Rgb, None).unwrap()
}

fn cell(seed: usize, caption: &str) -> Cell {
    let relevance = blobs(28, 28, seed);
    Cell { input: Some(picture(&relevance)), relevance, caption: caption.into(), wrong: seed % 7 == 3 }
}

#[test]
fn zennits_maps_are_zennits() {
    for (name, palette) in read_npz(&fixture("zennit.npz")).unwrap() {
        let (source, level) = name.split_once('@').unwrap();
        let ours = source.parse::<ColorMap>().unwrap().palette(level.parse().unwrap());
        let Array::U8(palette) = palette else { panic!("{name} is no palette") };
        for (index, (ours, zennits)) in ours.iter().zip(palette.data().chunks_exact(3)).enumerate() {
            assert_eq!(ours, zennits, "{name} at {index}");
        }
    }
}

#[test]
fn matplotlibs_maps_are_within_one_step() {
    for (name, palette) in read_npz(&fixture("matplotlib.npz")).unwrap() {
        let ours = format!("mpl:{name}").parse::<ColorMap>().unwrap().palette(1.0);
        let palette = palette.to_f32();
        for (&ours, &theirs) in ours.as_flattened().iter().zip(palette.data()) {
            assert_abs_diff_eq!(f32::from(ours), theirs, epsilon = 1.0);
        }
    }
}

#[test]
fn bare_names_are_zennits_first_and_unknown_ones_name_the_nearest() {
    let map = |name: &str| name.parse::<ColorMap>();
    assert_eq!(map("coolwarm").unwrap(), map("mpl:coolwarm").unwrap());
    assert_ne!(map("seismic").unwrap(), map("mpl:seismic").unwrap());
    assert_eq!(map("00f,80:fff,f00").unwrap(), ColorMap::default());
    for (wrong, nearest) in [("coolwrm", "mpl:coolwarm"), ("franse", "france"), ("mpl:viridi", "mpl:viridis")] {
        let error = map(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.advice().unwrap().starts_with(&format!("did you mean {nearest}?")), "{error}");
    }
    for broken in ["fff,", "fff,xyz", "80:fff,40:000", "fffff,000", "fff,ääa", "zz:fff,000", ","] {
        assert_eq!(map(broken).unwrap_err().kind(), ErrorKind::Argument, "{broken}");
    }
}

#[test]
fn values_map_to_the_colours_that_zennit_gives_them() {
    let expected = read_npz(&fixture("zennit_image.npz")).unwrap();
    let relevance = expected["relevance"].to_f32();
    let indices = |name: &str| match &expected[name] {
        Array::U8(tensor) => tensor.data().to_vec(),
        other => panic!("{}", other.dtype()),
    };
    let symmetric = Heatmap::default();
    let maps = symmetric.maps(&relevance).unwrap();
    let limits = symmetric.limits(&[&maps[0]])[0];
    assert_eq!(symmetric.indices(maps[0].values(), limits), indices("indices"));
    assert_eq!(symmetric.indices(&[0.0, -0.0, f32::NAN, limits.high, limits.low], limits), [127, 127, 127, 255, 0]);
    let plain = Heatmap { symmetric: false, ..Heatmap::default() };
    assert_eq!(plain.indices(maps[0].values(), plain.limits(&[&maps[0]])[0]), indices("plain"));
    for (at, (map, limits)) in maps.iter().zip(symmetric.limits(&maps.iter().collect::<Vec<_>>())).enumerate() {
        let page = indices("shared");
        let rows = page.chunks_exact(12).flat_map(|row| row[at * 4..(at + 1) * 4].to_vec());
        assert_eq!(symmetric.indices(map.values(), limits), rows.collect::<Vec<_>>());
    }
}

#[test]
fn limits_are_shared_clipped_and_never_meet() {
    let map = |values: &[f32]| Map::new(values.len(), 1, values.to_vec()).unwrap();
    let (small, large, nothing) = (map(&[0.5, -1.0]), map(&[4.0, 2.0]), map(&[0.0, 0.0]));
    let maps = [&small, &large, &nothing];
    let highs = |heatmap: &Heatmap| heatmap.limits(&maps).iter().map(|limits| limits.high).collect::<Vec<_>>();
    assert_eq!(highs(&Heatmap::default()), [1.0, 4.0, 1.0]);
    assert_eq!(highs(&Heatmap { scale_by: ScaleBy::Grid, ..Heatmap::default() }), [4.0, 4.0, 4.0]);

    let many: Vec<f32> = (0..=100).map(|i| i as f32).collect();
    let clipped = Heatmap { clip_percent: 5.0, ..Heatmap::default() }.limits_of(many.iter().copied());
    assert_abs_diff_eq!(clipped.high, 95.0, epsilon = 1e-3);
    let both = Heatmap { clip_percent: 10.0, symmetric: false, ..Heatmap::default() };
    let both = both.limits_of(many.iter().copied());
    assert_abs_diff_eq!(both.low, 5.0, epsilon = 1e-3);
    assert_abs_diff_eq!(both.high, 95.0, epsilon = 1e-3);
    let sparse = Heatmap { clip_percent: 50.0, ..Heatmap::default() };
    assert_eq!(sparse.limits_of([0.0, 0.0, 0.0, 2.0].into_iter()), Limits { low: -2.0, high: 2.0 });
    let odd = Heatmap { symmetric: false, ..Heatmap::default() };
    assert_eq!(odd.limits_of([3.0, f32::NAN, f32::INFINITY].into_iter()), Limits { low: 3.0, high: 4.0 });
    for heatmap in [
        Heatmap { clip_percent: 100.0, ..Heatmap::default() },
        Heatmap { clip_percent: f32::NAN, ..Heatmap::default() },
        Heatmap { level: 0.0, ..Heatmap::default() },
    ] {
        assert_eq!(heatmap.check().unwrap_err().kind(), ErrorKind::Argument);
    }
}

#[test]
fn channels_are_joined_in_either_layout() {
    let nchw = Tensor::new([1, 3, 1, 2], vec![1.0, 2.0, -3.0, 4.0, 1.0, -1.0]).unwrap();
    let nhwc = nchw.transpose(&[0, 2, 3, 1]);
    for (reduce, expected) in [(Reduce::Sum, [-1.0, 5.0]), (Reduce::Abs, [5.0, 7.0]), (Reduce::Max, [3.0, 4.0])] {
        for (tensor, layout) in [(&nchw, ImageLayout::Nchw), (&nhwc, ImageLayout::Nhwc)] {
            let heatmap = Heatmap { reduce, layout, ..Heatmap::default() };
            assert_eq!(heatmap.maps(tensor).unwrap()[0].values(), expected);
        }
    }
    let heatmap = Heatmap::default();
    assert_eq!(heatmap.maps(&Tensor::zeros([2, 5])).unwrap()[1].width(), 5);
    assert_eq!(heatmap.maps(&Tensor::zeros([0, 5])).unwrap().len(), 0);
    for shape in [vec![], vec![2, 0], vec![1, 2, 3, 4, 5]] {
        assert_eq!(heatmap.maps(&Tensor::zeros(shape)).unwrap_err().kind(), ErrorKind::Shape);
    }
}

#[test]
fn a_single_map_is_a_paletted_png_of_its_own_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map.png");
    let map = Map::new(3, 2, vec![-1.0, 0.0, 1.0, 0.5, 0.0, -0.5]).unwrap();
    let heatmap = Heatmap { colormap: "coldnhot".parse().unwrap(), ..Heatmap::default() };
    for enlarge in [1, 4] {
        heatmap.save(&path, &map, enlarge).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[25], 3, "the PNG has a palette");
        let read = image::open(&path).unwrap().into_rgb8();
        let side = enlarge as u32;
        assert_eq!(read.dimensions(), (3 * side, 2 * side));
        assert_eq!(read.get_pixel(0, 0).0, [0, 255, 255]);
        assert_eq!(read.get_pixel(3 * side - 1, 0).0, [255, 255, 255]);
        assert_eq!(read.get_pixel(side, side).0, heatmap.palette()[127]);
    }
    assert_eq!(heatmap.save(&path, &map, 0).unwrap_err().kind(), ErrorKind::Argument);
    assert_eq!(heatmap.save(&path, &map, usize::MAX).unwrap_err().kind(), ErrorKind::Argument);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn inputs_become_pictures_by_their_bounds() {
    let shape = Shape::new([3, 1, 2]);
    let values = [-1.0, 1.0, 0.0, 2.0, 5.0, 10.0];
    let bounds: (&[f32], &[f32]) = (&[-1.0, 0.0, 0.0], &[1.0, 4.0, 10.0]);
    let picture = Canvas::from_input(&values, &shape, ImageLayout::Nchw, Channels::Rgb, Some(bounds)).unwrap();
    assert_eq!(picture.pixels(), [[0, 0, 128], [255, 128, 255]]);
    let turned = Canvas::from_input(&values, &shape, ImageLayout::Nchw, Channels::Bgr, Some(bounds)).unwrap();
    assert_eq!(turned.pixels(), [[128, 0, 0], [255, 128, 255]]);
    let few: (&[f32], &[f32]) = (&[0.0], &[1.0]);
    let error = Canvas::from_input(&values, &shape, ImageLayout::Nchw, Channels::Rgb, Some(few)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    let gray =
        Canvas::from_input(&[2.0, 4.0, 3.0, 2.0], &Shape::new([2, 2]), ImageLayout::Nchw, Channels::Rgb, None).unwrap();
    assert_eq!(gray.pixels(), [[0; 3], [255; 3], [128; 3], [0; 3]]);
    let error = Canvas::from_input(&values, &Shape::new([6]), ImageLayout::Nchw, Channels::Rgb, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
}

#[test]
fn a_grid_pairs_inputs_with_their_relevance() {
    let rows =
        ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
    let grid = Grid {
        title: "What the network looked at".into(),
        subtitle:
            "input and relevance of the predicted class, LRP-ε; captions name the prediction, red where it is wrong"
                .into(),
        rows: rows
            .iter()
            .enumerate()
            .map(|(row, label)| GridRow {
                label: (*label).into(),
                cells: (0..5).map(|column| cell(row + column * 10, rows[(row + column / 4) % 10])).collect(),
            })
            .collect(),
        ..Grid::default()
    };
    let page = grid.draw(&Heatmap::default()).unwrap();
    assert!((1000..=1200).contains(&page.width()), "{}", page.width());
    keep("grid.png", &page);
    let shared = Heatmap { scale_by: ScaleBy::Grid, colormap: "coolwarm".parse().unwrap(), ..Heatmap::default() };
    keep("grid_shared.png", &grid.draw(&shared).unwrap());
}

#[test]
fn cells_without_rows_fill_a_page() {
    let cells: Vec<Cell> =
        (0..14).map(|seed| cell(seed, &format!("photograph_{seed:04}.jpg → class {seed}"))).collect();
    let grid = Grid { overlay: Some(0.8), title: "Overlay".into(), ..Grid::of_cells(cells.clone(), 900) };
    keep("overlay.png", &grid.draw(&Heatmap { clip_percent: 1.0, ..Heatmap::default() }).unwrap());
    let bare: Vec<Cell> = cells.into_iter().map(|cell| Cell { input: None, caption: String::new(), ..cell }).collect();
    keep("bare.png", &Grid { colorbar: false, ..Grid::of_cells(bare, 500) }.draw(&Heatmap::default()).unwrap());
    let large = blobs(224, 224, 3);
    let pair = Cell {
        input: Some(picture(&large)),
        relevance: large,
        caption: "castle.jpg: castle (12.3)".into(),
        wrong: false,
    };
    let one = Grid { title: "castle.jpg".into(), ..Grid::of_cells(vec![pair], 1200) };
    keep("one.png", &one.draw(&Heatmap { colormap: "coldnhot".parse().unwrap(), ..Heatmap::default() }).unwrap());
}

#[test]
fn pages_that_cannot_be_drawn_are_errors() {
    let heatmap = Heatmap::default();
    assert_eq!(Grid::default().draw(&heatmap).unwrap_err().kind(), ErrorKind::Argument);
    let grid = Grid::of_cells(vec![cell(1, "")], 300);
    assert_eq!(Grid { overlay: Some(1.5), ..grid.clone() }.draw(&heatmap).unwrap_err().kind(), ErrorKind::Argument);
    assert_eq!(Grid { width: 1 << 40, ..grid }.draw(&heatmap).unwrap_err().kind(), ErrorKind::Limit);
    let uneven = Cell { relevance: blobs(14, 14, 0), ..cell(1, "") };
    let grid = Grid { overlay: Some(0.5), ..Grid::of_cells(vec![uneven], 300) };
    assert_eq!(grid.draw(&heatmap).unwrap_err().kind(), ErrorKind::Shape);
}

#[test]
fn the_tutorials_figure_has_annotated_cells() {
    let values = Tensor::new([2, 4], vec![1.0, -2.5, 4.0, -0.25, 0.2, -1.0, 2.4, -0.2]).unwrap();
    let heatmap = Heatmap { colormap: "coolwarm".parse().unwrap(), scale_by: ScaleBy::Grid, ..Heatmap::default() };
    let plot = MatrixPlot {
        title: "LRP Heatmap".into(),
        x_title: "Input Features".into(),
        y_title: "Relevance Scores".into(),
        row_labels: vec!["gradient".into(), "LRP-0".into()],
        annotate: true,
        colorbar: false,
        ..MatrixPlot::default()
    };
    let page = plot.draw(&values, &heatmap).unwrap();
    assert_eq!((page.width(), page.height()), (1000, 600));
    keep("tutorial.png", &page);
    let wrong = MatrixPlot { row_labels: vec!["one".into()], ..plot };
    assert_eq!(wrong.draw(&values, &heatmap).unwrap_err().kind(), ErrorKind::Shape);
}

#[test]
fn flat_inputs_are_drawn_a_row_a_sample() {
    let values =
        Tensor::from_fn([40, 30], |i| ((i * 7919 % 1000) as f32 / 500.0 - 1.0) * (1.0 + (i / 30) as f32 / 10.0));
    let plot = MatrixPlot {
        title: "Relevance".into(),
        x_title: "feature".into(),
        y_title: "sample".into(),
        row_labels: (0..40).map(|row| format!("patient {row}")).collect(),
        ..MatrixPlot::default()
    };
    keep("flat.png", &plot.draw(&values, &Heatmap::default()).unwrap());
    let shared = Heatmap { scale_by: ScaleBy::Grid, colormap: "mpl:RdBu".parse().unwrap(), ..Heatmap::default() };
    keep("flat_shared.png", &MatrixPlot { row_labels: Vec::new(), ..plot.clone() }.draw(&values, &shared).unwrap());
    let one = Tensor::from_fn([1, 784], |i| (i as f32 / 30.0).sin());
    let sized = MatrixPlot { title: "One sample of 784 features".into(), ..MatrixPlot::for_cells(1, 784) };
    keep("flat_one.png", &sized.draw(&one, &Heatmap::default()).unwrap());
    let many = Tensor::from_fn([1500, 4], |i| (i as f32 / 400.0).sin());
    keep("flat_many.png", &MatrixPlot::for_cells(1500, 4).draw(&many, &Heatmap::default()).unwrap());
    let small = MatrixPlot { size: (60, 60), ..plot };
    assert_eq!(small.draw(&values, &shared).unwrap_err().kind(), ErrorKind::Argument);
}
