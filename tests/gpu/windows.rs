//! Convolutions, pools and maps along an axis beside the reference: every geometry, every shape of tile at its edges.

use relprop::layers::{AveragePool, AxisMap, AxisMapKind, Conv, Divisor, Layer, Window, WindowAxis};
use relprop::network::{NetworkBuilder, ValueId};

use super::*;

/// A window of one kernel, stride and padding along each of `axes` axes.
fn square(axes: usize, kernel: usize, stride: usize, padding: usize) -> Window {
    let axis = WindowAxis { stride, before: padding, after: padding, ..WindowAxis::new(kernel) };
    Window::new(vec![axis; axes]).unwrap()
}

/// A weight [coarse][fine / groups][window], scaled so that layers neither blow up nor fade.
fn weight(numbers: &mut Numbers, coarse: usize, fine: usize, window: &Window) -> Tensor {
    let shape: Vec<usize> = [coarse, fine].into_iter().chain(window.axes().iter().map(|axis| axis.kernel)).collect();
    let scale = (3.0 / (fine * window.positions()) as f32).sqrt();
    Tensor::from_fn(shape, |_| numbers.next() * scale)
}

/// A network of images in the making.
struct Images {
    builder: NetworkBuilder,
    numbers: Numbers,
    value: ValueId,
}

impl Images {
    fn new(seed: u64, shape: &[usize]) -> Self {
        let mut builder = Network::builder();
        let value = builder.input("x", shape);
        Images { builder, numbers: Numbers(seed), value }
    }

    fn channels(&self) -> usize {
        self.builder.shape(self.value).dims()[0]
    }

    fn bias(&mut self, outputs: usize) -> Tensor {
        Tensor::from_fn([outputs], |_| self.numbers.next() * 0.3)
    }

    fn conv(mut self, outputs: usize, window: Window, groups: usize) -> Self {
        let fine = self.channels() / groups;
        let weight = weight(&mut self.numbers, outputs, fine, &window);
        let bias = self.bias(outputs);
        self.value = self.builder.conv("conv", self.value, weight, Some(bias), window, groups).unwrap();
        self
    }

    fn transposed(mut self, outputs: usize, window: Window, groups: usize, output_padding: Vec<usize>) -> Self {
        let coarse = self.channels();
        let weight = weight(&mut self.numbers, coarse, outputs / groups, &window);
        let bias = self.bias(outputs);
        let conv = Conv::transposed(weight, Some(Arc::new(bias)), window, groups, output_padding).unwrap();
        self.layer("transposed", Layer::Conv(conv))
    }

    fn layer(mut self, name: &str, layer: Layer) -> Self {
        self.value = self.builder.layer(name, layer, vec![self.value]).unwrap();
        self
    }

    fn relu(mut self) -> Self {
        self.value = self.builder.relu("relu", self.value).unwrap();
        self
    }

    fn max_pool(mut self, window: Window) -> Self {
        self.value = self.builder.max_pool("max", self.value, window).unwrap();
        self
    }

    fn average(self, window: Window, divisor: Divisor) -> Self {
        self.layer("average", Layer::AveragePool(AveragePool::new(window, divisor)))
    }

    fn global(mut self) -> Self {
        self.value = self.builder.global_average_pool("global", self.value).unwrap();
        self
    }

    /// Ends in a dense layer on everything that is there.
    fn classes(mut self, outputs: usize) -> Network {
        let count = self.builder.shape(self.value).count();
        let flat = self.builder.reshape("flat", self.value, [count]).unwrap();
        let output = dense(&mut self.builder, &mut self.numbers, flat, outputs, true);
        self.builder.build(output).unwrap()
    }
}

fn assert_agrees_on(gpu: &Arc<Gpu>, network: Network, rule: LinearRule, samples: usize, targets: Targets, what: &str) {
    let network = Arc::new(network);
    let composite = composite_of(rule);
    let data = inputs(&network, samples, 30);
    let ask = Request::new(targets).report(true);
    let exact = explain(&network, &composite, by(Backend::Reference), &data, &ask);
    let explainer = explainer(&network, &composite, in_pairs(gpu));
    let found = explainer.explain_with(&borrowed(&data), &ask).unwrap();
    assert_runs_its_plan(&explainer, &ask, &found, what);
    assert_agrees(found, &exact, what);
}

/// Networks of every geometry that windows have.
fn geometries() -> Vec<(&'static str, Network)> {
    let uneven =
        |kernel, stride, dilation, before, after| WindowAxis { kernel, stride, dilation, before, after, overhang: 0 };
    let skewed = Window::new(vec![uneven(3, 2, 1, 0, 1), uneven(2, 3, 2, 2, 1)]).unwrap();
    let dilated = Window::new(vec![uneven(3, 1, 2, 2, 2), uneven(3, 2, 3, 1, 4)]).unwrap();
    let solid = Window::new(vec![uneven(2, 1, 1, 0, 1), uneven(3, 2, 1, 1, 1), uneven(1, 2, 1, 0, 0)]).unwrap();
    vec![
        (
            "plain",
            Images::new(1, &[3, 9, 7]).conv(8, square(2, 3, 1, 1), 1).relu().conv(5, square(2, 3, 2, 1), 1).classes(4),
        ),
        (
            "of one position",
            Images::new(2, &[5, 6, 5]).conv(8, square(2, 1, 1, 0), 1).relu().conv(6, square(2, 1, 2, 0), 1).classes(3),
        ),
        ("skewed", Images::new(3, &[4, 11, 13]).conv(6, skewed.clone(), 1).relu().classes(3)),
        (
            "dilated",
            Images::new(4, &[4, 11, 13]).conv(8, dilated.clone(), 1).relu().conv(4, square(2, 2, 1, 0), 1).classes(3),
        ),
        ("sparse", Images::new(5, &[3, 11, 10]).conv(8, square(2, 2, 4, 0), 1).relu().classes(3)),
        ("patches", Images::new(6, &[3, 12, 12]).conv(12, square(2, 4, 4, 0), 1).relu().classes(3)),
        (
            "signals",
            Images::new(7, &[2, 40]).conv(8, square(1, 5, 2, 2), 1).relu().conv(12, square(1, 3, 1, 1), 1).classes(3),
        ),
        (
            "volumes",
            Images::new(8, &[2, 5, 6, 5]).conv(6, solid.clone(), 1).relu().conv(4, square(3, 2, 1, 1), 2).classes(3),
        ),
        (
            "groups",
            Images::new(9, &[6, 7, 8]).conv(12, square(2, 3, 1, 1), 3).relu().conv(8, square(2, 3, 2, 1), 4).classes(3),
        ),
        (
            "wide groups",
            Images::new(10, &[16, 6, 5])
                .conv(24, square(2, 3, 2, 1), 2)
                .relu()
                .conv(16, square(2, 1, 1, 0), 4)
                .classes(3),
        ),
        (
            "channels",
            Images::new(11, &[8, 9, 7]).conv(8, square(2, 3, 2, 1), 8).relu().conv(8, dilated.clone(), 8).classes(3),
        ),
        (
            "odd channels",
            Images::new(12, &[7, 9, 8]).conv(7, square(2, 3, 1, 1), 7).relu().conv(14, skewed.clone(), 7).classes(3),
        ),
        (
            "transposed",
            Images::new(13, &[4, 4, 5])
                .transposed(8, square(2, 3, 2, 1), 1, vec![1, 0])
                .relu()
                .transposed(5, skewed.clone(), 1, vec![0, 0])
                .classes(3),
        ),
        (
            "transposed in groups",
            Images::new(14, &[6, 4, 5])
                .transposed(9, square(2, 3, 2, 1), 3, vec![1, 1])
                .relu()
                .transposed(9, square(2, 3, 2, 0), 9, vec![0, 1])
                .classes(3),
        ),
    ]
}

#[test]
fn convolutions_of_every_geometry_agree() {
    for (what, network) in geometries() {
        assert_agrees_on(&device::shared(), network, LinearRule::epsilon(damped()), 9, Targets::Top(2), what);
    }
}

#[test]
fn two_products_that_are_added_agree_on_every_geometry() {
    for (what, network) in geometries() {
        let what = format!("alpha-beta, {what}");
        assert_agrees_on(&device::shared(), network, LinearRule::alpha_beta(2.0, damped()), 9, Targets::Top(2), &what);
    }
}

#[test]
fn pools_of_every_geometry_agree() {
    let overhanging = |kernel, stride, padding, overhang| WindowAxis {
        stride,
        before: padding,
        after: padding,
        overhang,
        ..WindowAxis::new(kernel)
    };
    let ceiled = Window::new(vec![overhanging(3, 2, 1, 1), overhanging(4, 3, 0, 1)]).unwrap();
    let dilated = Window::new(vec![WindowAxis { dilation: 2, ..overhanging(3, 1, 2, 0) }; 2]).unwrap();
    for (channels, what) in [(8, "whole vectors"), (3, "odd channels")] {
        let images = |seed| Images::new(seed, &[2, 10, 9]).conv(channels, square(2, 3, 1, 1), 1).relu();
        let networks = [
            images(20).max_pool(square(2, 3, 2, 1)).average(ceiled.clone(), Divisor::Inside),
            images(21).max_pool(ceiled.clone()).average(square(2, 2, 2, 1), Divisor::InsidePadded),
            images(22).average(dilated.clone(), Divisor::One).max_pool(dilated.clone()),
            images(23).max_pool(square(2, 2, 3, 0)).global(),
        ];
        for (case, images) in networks.into_iter().enumerate() {
            let rule = if case % 2 == 0 { LinearRule::gamma(0.25, damped()) } else { LinearRule::w_square(damped()) };
            let what = format!("pools, {what}, {case}");
            assert_agrees_on(&device::shared(), images.classes(3), rule, 9, Targets::Top(2), &what);
        }
    }
}

#[test]
fn maps_along_every_axis_agree() {
    let doubled = |axis, inputs: usize| {
        let between = |i: usize| match i {
            _ if i.is_multiple_of(2) => vec![(i / 2, 1.0)],
            _ if i / 2 + 1 < inputs => vec![(i / 2, 0.75), (i / 2 + 1, 0.25)],
            _ => Vec::new(),
        };
        AxisMap::new(AxisMapKind::Resize, axis, inputs, (0..2 * inputs).map(between).collect()).unwrap()
    };
    for channels in [8, 3] {
        let mut images = Images::new(24, &[2, 4, 3]);
        // In front of the first window rows lie as the model has them; behind it, with channels last.
        for axis in 0..3 {
            let inputs = images.builder.shape(images.value).dims()[axis];
            images = images.layer("before", Layer::AxisMap(doubled(axis, inputs)));
        }
        images = images.conv(channels, square(2, 3, 2, 1), 1).relu();
        for axis in 0..3 {
            let inputs = images.builder.shape(images.value).dims()[axis];
            images = images.layer("behind", Layer::AxisMap(doubled(axis, inputs)));
        }
        let network = images.relu().classes(3);
        let what = format!("maps of {channels} channels");
        assert_agrees_on(&device::shared(), network, LinearRule::epsilon(damped()), 9, Targets::Top(2), &what);
    }
}

/// Signals of a length through two convolutions with three taps, the second of stride 2.
fn signals(seed: u64, [inputs, length, hidden, outputs]: [usize; 4]) -> Network {
    let signals = Images::new(seed, &[inputs, length]).conv(hidden, square(1, 3, 1, 1), 1).relu();
    signals.conv(outputs, square(1, 3, 2, 1), 1).relu().classes(3)
}

/// Pixels and channels one below, at and above the tiles', with three steps of k and more, and steps that stay within a tap.
fn assert_agrees_at_edges(tile: Tile, [rows, columns]: [usize; 2]) {
    let gpu = with_tile(tile);
    let (epsilon, alpha_beta) = (LinearRule::epsilon(damped()), LinearRule::alpha_beta(2.0, damped()));
    for (case, (extents, rule)) in [
        ([7, rows - 1, columns - 1, 31], &epsilon),
        ([8, rows, columns, 32], &epsilon),
        ([9, rows + 1, columns + 1, 33], &epsilon),
        ([16, rows + 1, columns, 48], &epsilon),
        ([9, rows + 1, columns + 1, 33], &alpha_beta),
        ([16, rows + 1, columns, 48], &alpha_beta),
    ]
    .into_iter()
    .enumerate()
    {
        let network = Arc::new(signals(25 + case as u64, extents));
        let composite = composite_of(rule.clone());
        let data = inputs(&network, 3, 31);
        let ask = Request::new(Targets::ArgMax);
        let exact = explain(&network, &composite, by(Backend::Reference), &data, &ask);
        let explainer = explainer(&network, &composite, Options { batch_size: Some(3), ..on(&gpu) });
        let found = explainer.explain_with(&borrowed(&data), &ask).unwrap();
        let what = format!("{tile:?}, {extents:?}, {}", rule.name);
        assert_runs_its_plan(&explainer, &ask, &found, &what);
        assert_agrees(found.clone(), &exact, &what);
        for samples in [1, 2] {
            let some = explainer.explain_with(&borrowed(&first(&data, samples)), &ask).unwrap();
            let expected = &bits(&found)[..samples * extents[0] * extents[1]];
            assert!(bits(&some) == expected, "{what}: {samples} samples have other bits than 3");
        }
    }
}

#[test]
fn large_tiles_of_pixels_agree_at_their_edges() {
    assert_agrees_at_edges(Tile::Large, [128, 128]);
}

#[test]
fn medium_tiles_of_pixels_agree_at_their_edges() {
    assert_agrees_at_edges(Tile::Medium, [64, 64]);
}

#[test]
fn small_tiles_of_pixels_agree_at_their_edges() {
    assert_agrees_at_edges(Tile::Small, [32, 32]);
}

#[test]
fn narrow_tiles_of_pixels_agree_at_their_edges() {
    assert_agrees_at_edges(Tile::Narrow, [256, 4]);
}

#[test]
fn tiles_for_few_pixels_agree_at_their_edges() {
    assert_agrees_at_edges(Tile::Few, [8, 32]);
}

#[test]
fn tiles_of_pixels_without_workgroup_memory_agree_at_their_edges() {
    assert_agrees_at_edges(Tile::Free, [32, 128]);
}

#[test]
fn slim_tiles_of_pixels_agree_at_their_edges() {
    // Three samples are 96 rows, or three tiles of 128.
    for extents in [[32, 16], [128, 16], [32, 4]] {
        assert_agrees_at_edges(Tile::Slim, extents);
    }
}

#[test]
fn coefficients_and_groups_agree_in_a_tile_of_workgroup_memory() {
    for rule in [LinearRule::gamma(0.25, damped()), LinearRule::w_square(damped()), LinearRule::flat(damped())] {
        let images = Images::new(32, &[8, 7, 6]).conv(12, square(2, 3, 2, 1), 2).relu();
        let network = images.transposed(8, square(2, 3, 2, 1), 4, vec![0, 1]).relu().classes(3);
        let what = format!("groups, {}", rule.name);
        assert_agrees_on(&with_tile(Tile::Small), network, rule, 5, Targets::Top(2), &what);
    }
}

#[test]
fn every_tile_of_pixels_gives_the_same_bits() {
    let network = Arc::new(signals(33, [9, 70, 48, 33]));
    let data = inputs(&network, 3, 34);
    for rule in [LinearRule::epsilon(damped()), LinearRule::alpha_beta(2.0, damped())] {
        let composite = composite_of(rule);
        let of_tile = |tile| {
            let options = Options { batch_size: Some(3), ..on(&with_tile(tile)) };
            bits(&explain(&network, &composite, options, &data, &Request::new(Targets::ArgMax)))
        };
        let expected = of_tile(Tile::Free);
        for tile in [Tile::Small, Tile::Medium, Tile::Large, Tile::Narrow, Tile::Slim] {
            assert!(of_tile(tile) == expected, "{tile:?} differs from Free, {}", composite.name());
        }
    }
}
