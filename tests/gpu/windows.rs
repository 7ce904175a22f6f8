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
    let explainer = explainer(&network, &composite, in_eights(gpu));
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
