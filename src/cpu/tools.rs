//! What steps read beside data: packed weights and the geometry of windows.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::convolve::{Convolution, Reads};
use super::dense::Weight;
use super::few_rows::FewRows;
use super::filters::{self, Channels, Filters, Phase, phases};
use super::gemm::{LARGE, PackedWeight};
use super::grouped;
use super::lattice::{Lattice, filled};
use super::panels::MANY_ROWS;
use super::planar::Planar;
use super::pools::Pool;
use super::turned::Turned;
use super::winograd::{Side, Winograd};
use crate::error::{Error, Result};
use crate::layers::{AveragePool, Conv, Dense, Layer, MaxPool};
use crate::network::{LayerId, LayerNode, Network};
use crate::plan::{Direction, Plan, Step, Work};
use crate::rules::WeightPart;

/// What a step reads beside data.
#[derive(Debug)]
pub(super) enum Tool {
    Nothing,
    Product(Weight),
    Convolve(Box<Convolution>),
    Winograd(Winograd),
    Pool(Pool),
    /// For each target position along the axis, sources and their weights.
    AlongAxis(Vec<Vec<(usize, f32)>>),
}

impl Tool {
    /// The length of a row of the product that a step is; none where it is not.
    pub(super) fn columns(&self) -> Option<usize> {
        match self {
            Tool::Product(weight) => Some(weight.columns()),
            Tool::Convolve(_) | Tool::Winograd(_) | Tool::Pool(_) | Tool::AlongAxis(_) | Tool::Nothing => None,
        }
    }

    /// Whether all that it reads is in memory.
    pub(super) fn is_kept(&self) -> bool {
        match self {
            Tool::Convolve(conv) => !conv.packed().any(PackedWeight::is_made),
            Tool::Winograd(conv) => conv.weights.iter().all(|weight| weight.is_kept()),
            Tool::Product(_) | Tool::Pool(_) | Tool::AlongAxis(_) | Tool::Nothing => true,
        }
    }

    /// Keeps what is made of weights while few rows read it.
    pub(super) fn keep(&self) {
        match self {
            Tool::Convolve(conv) => conv.packed().for_each(PackedWeight::keep),
            Tool::Winograd(conv) => conv.weights.iter().for_each(|weight| weight.keep()),
            Tool::Product(_) | Tool::Pool(_) | Tool::AlongAxis(_) | Tool::Nothing => {}
        }
    }
}

/// Packed weights, shared between plans.
#[derive(Debug, Default)]
pub(super) struct Weights {
    dense: Shared<Key, PackedWeight>,
    /// With the length of their products' chains.
    filters: Shared<(Key, usize), Filters>,
    turned: Shared<(Key, usize, Side), Turned>,
}

/// What is made once, by whoever asks first, while others make other things.
type Shared<K, T> = Mutex<HashMap<K, Arc<OnceLock<Arc<T>>>>>;

type Key = (LayerId, Direction, [u32; 3]);

fn key(layer: LayerId, direction: Direction, part: WeightPart) -> Key {
    let bits = match part {
        WeightPart::Scaled { positive, negative } => [0, positive.to_bits(), negative.to_bits()],
        WeightPart::Squared => [1, 0, 0],
        WeightPart::One => [2, 0, 0],
    };
    (layer, direction, bits)
}

fn shared<K: Eq + Hash, T>(known: &Shared<K, T>, key: K, make: impl FnOnce() -> T) -> Arc<T> {
    let cell = Arc::clone(known.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
    Arc::clone(cell.get_or_init(|| Arc::new(make())))
}

impl Weights {
    /// What a step of a plan reads. `sharing`: how many threads share each step, where they do; products whose rows are samples then have
    /// few, so that large weights stay in place.
    pub(super) fn tool(&self, network: &Network, plan: &Plan, step: &Step, sharing: Option<usize>) -> Result<Tool> {
        let Some(id) = step.layer else { return Ok(Tool::Nothing) };
        let node = network.layer(id);
        Ok(match (&step.work, &node.layer) {
            (&Work::Product { direction, .. }, Layer::Dense(dense)) => {
                let is_large = dense.weight().data().len() > LARGE;
                let columns = if direction == Direction::Forward { dense.outputs() } else { dense.inputs() };
                let has_few_rows = plan.buffers[step.target.index()].width / columns < MANY_ROWS;
                let parts = step.products().map(|(_, part)| part);
                Tool::Product(if sharing.is_some() && is_large && has_few_rows {
                    Weight::FewRows(FewRows { weight: Arc::clone(dense.weight()), direction, parts: parts.collect() })
                } else {
                    let packed = |part| self.packed(dense, key(id, direction, part), direction, part);
                    Weight::Packed(parts.map(packed).collect())
                })
            }
            (&Work::Convolve { direction, .. }, Layer::Conv(conv)) => {
                let place = Place { network, plan, id, conv, threads: sharing.unwrap_or(1) };
                self.convolution(place, step, direction)
            }
            (Work::AveragePool { direction, weight }, Layer::AveragePool(pool)) => {
                Tool::Pool(average(&Extents::of(network, node), pool, *direction, *weight)?)
            }
            (Work::MaxPool | Work::Winners, Layer::MaxPool(pool)) => {
                Tool::Pool(greatest(&Extents::of(network, node), pool, Direction::Forward))
            }
            (Work::Unpool { .. }, Layer::MaxPool(pool)) => {
                Tool::Pool(greatest(&Extents::of(network, node), pool, Direction::Backward))
            }
            (Work::AlongAxis { direction, .. }, Layer::AxisMap(map)) => Tool::AlongAxis(match direction {
                Direction::Forward => map.sources().to_vec(),
                Direction::Backward => map.targets(),
            }),
            (
                Work::Product { .. }
                | Work::Convolve { .. }
                | Work::AveragePool { .. }
                | Work::MaxPool
                | Work::Winners
                | Work::Unpool { .. }
                | Work::AlongAxis { .. },
                _,
            ) => return Err(Error::internal("a step works on another kind of layer")),
            (
                Work::Elementwise
                | Work::Transpose { .. }
                | Work::Strips { .. }
                | Work::Lookup
                | Work::Start
                | Work::Rms
                | Work::Measure(_),
                _,
            ) => Tool::Nothing,
        })
    }

    fn packed(&self, dense: &Dense, key: Key, direction: Direction, part: WeightPart) -> Arc<PackedWeight> {
        let (inputs, outputs, w) = (dense.inputs(), dense.outputs(), dense.weight().data());
        shared(&self.dense, key, || match direction {
            Direction::Forward => PackedWeight::new(inputs, outputs, |k, n| part.of(w[n * inputs + k])),
            Direction::Backward => PackedWeight::new(outputs, inputs, |k, n| part.of(w[k * inputs + n])),
        })
    }

    fn convolution(&self, place: Place<'_>, step: &Step, direction: Direction) -> Tool {
        let Place { id, conv, .. } = place;
        let Extents { input, output, .. } = place.extents();
        let kernel = conv.window().kernel();
        let channels = Channels::new(conv, direction);
        let phases = phases(conv, direction, input, output);
        let has_z = place.plan.steps.iter().any(|step| makes_z(step, id));
        let chain = |part| filters::chain(direction, part, has_z);
        if let Some(mut winograd) = place.winograd(step, direction, &phases) {
            let side = winograd.side;
            let of_part = |(_, part): (_, WeightPart)| {
                let make = || winograd.turned(conv, direction, part, chain(part));
                let turned = shared(&self.turned, (key(id, direction, part), chain(part), side), make);
                if !winograd.makes_weights(place.threads) {
                    turned.keep();
                }
                turned
            };
            winograd.weights = step.products().map(of_part).collect();
            return Tool::Winograd(winograd);
        }
        let lattice = match direction {
            Direction::Forward => Lattice::new(&conv.forward(output), input, output, &kernel),
            Direction::Backward => Lattice::new(&conv.backward(input), output, input, &kernel),
        };
        let planar = || Planar::new(channels, &lattice, &phases).map(Reads::Planar);
        let grouped = || grouped::Layout::new(channels, &lattice, &phases).map(Reads::Grouped);
        let reads = if channels.is_grouped() { grouped() } else { planar() }.unwrap_or(Reads::Gathered);
        // Each thread makes the panels for its rows.
        let rows = lattice.count() / phases.len().max(1) / place.threads;
        let has_panels = matches!(reads, Reads::Gathered);
        let makes_parts = has_panels && rows >= MANY_ROWS && place.has_several_parts(direction);
        let new = |part| Filters::new(conv, (direction, part), &phases, (chain(part), &reads));
        let of_part = |part| {
            let shared =
                |part, make: &dyn Fn() -> Filters| shared(&self.filters, (key(id, direction, part), chain(part)), make);
            let whole = (part != WeightPart::WHOLE && makes_parts)
                .then(|| shared(WeightPart::WHOLE, &|| new(WeightPart::WHOLE)));
            let of_whole = || whole.as_ref()?.of_part(part, chain(part));
            shared(part, &|| of_whole().unwrap_or_else(|| new(part)))
        };
        let filters: Vec<Arc<Filters>> = step.products().map(|(_, part)| of_part(part)).collect();
        Tool::Convolve(Box::new(Convolution { channels, lattice, phases, filters, reads }))
    }
}

/// A convolution of a network, and the plan that runs it.
#[derive(Clone, Copy)]
struct Place<'a> {
    network: &'a Network,
    plan: &'a Plan,
    id: LayerId,
    conv: &'a Conv,
    /// How many threads share its rows.
    threads: usize,
}

impl<'a> Place<'a> {
    fn extents(&self) -> Extents<'a> {
        Extents::of(self.network, self.network.layer(self.id))
    }

    /// The layer's steps in a direction.
    fn steps(&self, direction: Direction) -> impl Iterator<Item = &'a Step> {
        let id = self.id;
        let is_of = move |step: &&Step| {
            step.layer == Some(id) && matches!(step.work, Work::Convolve { direction: of, .. } if of == direction)
        };
        self.plan.steps.iter().filter(is_of)
    }

    /// Whether the layer's products in a direction read several parts of its weight that are not all of it.
    fn has_several_parts(&self, direction: Direction) -> bool {
        let parts = self.steps(direction).flat_map(Step::products).map(|(_, part)| part);
        let mut parts = parts.filter(|part| *part != WeightPart::WHOLE);
        let first = parts.next();
        parts.any(|part| Some(part) != first)
    }

    /// A step's tiles without their weights, if it takes any.
    fn winograd(&self, step: &Step, direction: Direction, phases: &[Phase]) -> Option<Winograd> {
        let Extents { input, output, .. } = self.extents();
        let sources = match direction {
            Direction::Forward => input,
            Direction::Backward => output,
        };
        let rows = self.plan.rows(self.plan.buffers[step.target.index()].rows, 1);
        Winograd::new(Channels::new(self.conv, direction), filled(sources), phases, rows)
    }
}

/// Whether a step multiplies a layer's weights of both signs, as z does: products of one sign are not what z is added up from then.
fn makes_z(step: &Step, layer: LayerId) -> bool {
    step.layer == Some(layer)
        && matches!(step.work, Work::Convolve { direction: Direction::Forward, .. })
        && step.products().all(|(_, part)| !part.has_one_sign() && !part.is_half())
}

/// The extents of a layer with windows.
struct Extents<'a> {
    channels: usize,
    input: &'a [usize],
    output: &'a [usize],
}

impl<'a> Extents<'a> {
    fn of(network: &'a Network, node: &LayerNode) -> Self {
        let (input, output) = (network.shape(node.inputs[0]).dims(), network.shape(node.output).dims());
        Extents { channels: input[0], input: &input[1..], output: &output[1..] }
    }
}

fn average(extents: &Extents<'_>, pool: &AveragePool, direction: Direction, part: WeightPart) -> Result<Pool> {
    let Extents { channels, input, output } = *extents;
    let kernel = pool.window().kernel();
    let lattice = match direction {
        Direction::Forward => Lattice::new(&[pool.forward(output)], input, output, &kernel),
        Direction::Backward => Lattice::new(&pool.backward(input), output, input, &kernel),
    };
    let weights = pool.weights(input)?.into_iter().map(|weight| part.of(weight)).collect();
    Ok(Pool { lattice, weights, channels })
}

fn greatest(extents: &Extents<'_>, pool: &MaxPool, direction: Direction) -> Pool {
    let Extents { channels, input, output } = *extents;
    let (window, kernel) = (pool.window(), pool.window().kernel());
    let lattice = match direction {
        Direction::Forward => Lattice::new(&[window.to_coarse(output)], input, output, &kernel),
        Direction::Backward => Lattice::new(&window.to_fine(input), output, input, &kernel),
    };
    Pool { lattice, weights: Vec::new(), channels }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::gemm::CHAIN;
    use super::super::tests::{assert_close, explain_by};
    use super::*;
    use crate::composite::PresetOptions;
    use crate::layers::{Window, WindowAxis};
    use crate::rules::Stabilizer;
    use crate::{Backend, Composite, Explainer, Options, Request, Targets, Tensor};

    /// A window of 3 × 3 on 7 × 7 positions of 256 channels, rectified.
    fn network() -> Network {
        let mut builder = Network::builder();
        let x = builder.input("x", [2, 7, 7]);
        let window = |kernel| {
            Window::new(vec![WindowAxis { before: kernel / 2, after: kernel / 2, ..WindowAxis::new(kernel) }; 2])
        };
        let ones = |shape: &[usize]| Tensor::from_fn(shape, |_| 1.0);
        let z = builder.conv("first", x, ones(&[256, 2, 1, 1]), None, window(1).unwrap(), 1).unwrap();
        let a = builder.relu("first, rectified", z).unwrap();
        let z = builder.conv("tiled", a, ones(&[256, 256, 3, 3]), None, window(3).unwrap(), 1).unwrap();
        let pooled = builder.global_average_pool("average", z).unwrap();
        let flat = builder.reshape("flat", pooled, [256]).unwrap();
        let logits = builder.dense("head", flat, ones(&[3, 256]), None).unwrap();
        builder.build(logits).unwrap()
    }

    #[test]
    fn large_dense_weights_stay_in_place_for_rows_that_are_samples_and_are_packed_for_tokens() {
        let mut builder = Network::builder();
        let x = builder.input("x", [MANY_ROWS, 2049]);
        let ones = |shape: &[usize]| Tensor::from_fn(shape, |_| 1.0);
        let tokens = builder.dense("tokens", x, ones(&[1024, 2049]), None).unwrap();
        let flat = builder.reshape("flat", tokens, [MANY_ROWS * 1024]).unwrap();
        let logits = builder.dense("samples", flat, ones(&[129, MANY_ROWS * 1024]), None).unwrap();
        let (network, epsilon) = (Arc::new(builder.build(logits).unwrap()), Composite::preset("epsilon").unwrap());
        let explainer = Explainer::new(Arc::clone(&network), &epsilon, Backend::Cpu).unwrap();
        let plan = explainer.plan(&Request::new(Targets::ArgMax)).unwrap();
        let mut products = 0;
        for step in plan.steps.iter().filter(|step| matches!(step.work, Work::Product { .. })) {
            let is_of_tokens = network.layer(step.layer.unwrap()).name == "tokens";
            let tool = Weights::default().tool(&network, &plan, step, Some(2)).unwrap();
            assert_eq!(matches!(tool, Tool::Product(Weight::Packed(_))), is_of_tokens, "{tool:?}");
            products += 1;
        }
        assert_eq!(products, 4);
    }

    /// The tiles and the longest chains of each product in tiles that explaining some targets takes.
    fn tiled(preset: &str, targets: usize) -> Vec<(Direction, Side, usize)> {
        let network = Arc::new(network());
        let options = Options { backend: Backend::Cpu, ..Options::default() };
        let explainer =
            Explainer::with_options(Arc::clone(&network), &Composite::preset(preset).unwrap(), options).unwrap();
        let plan =
            explainer.plan(&Request::new(Targets::Classes((0..targets).map(|target| target % 3).collect()))).unwrap();
        let weights = Weights::default();
        let of_step = |step: &Step| match (weights.tool(&network, &plan, step, Some(1)).unwrap(), &step.work) {
            (Tool::Winograd(conv), &Work::Convolve { direction, .. }) => {
                conv.weights.iter().map(|turned| (direction, conv.side, turned.of_points()[0].chain())).collect()
            }
            _ => Vec::new(),
        };
        plan.steps.iter().flat_map(of_step).collect()
    }

    #[test]
    fn products_of_one_sign_take_short_chains_where_z_is_added_up_from_them_and_many_targets_take_large_tiles_back() {
        use Direction::{Backward, Forward};
        let (whole, short) = (CHAIN / 2, CHAIN / 4);
        let plus = |back| vec![(Forward, Side::Two, whole), (Forward, Side::Two, whole), (Backward, back, whole)];
        assert_eq!(tiled("epsilon-plus", 1), plus(Side::Two));
        assert_eq!(tiled("epsilon-plus", 40), plus(Side::Four));
        let of_both = tiled("epsilon-alpha2-beta1", 1);
        let forward: Vec<_> = of_both.iter().filter(|(direction, ..)| *direction == Forward).collect();
        assert_eq!(forward, [&(Forward, Side::Two, short); 2]);
    }

    /// Windows at once, strided, transposed and in tiles of both sides, all of many channels and rectified.
    fn several() -> Network {
        let weight = |shape: &[usize]| {
            let number = |index: usize| (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0;
            Tensor::from_fn(shape, |index| number(index + shape[0]) / shape[1] as f32)
        };
        let window = |kernel, stride| {
            let axis = WindowAxis { before: kernel / 2, after: kernel / 2, stride, ..WindowAxis::new(kernel) };
            Window::new(vec![axis; 2]).unwrap()
        };
        let mut builder = Network::builder();
        let mut value = builder.input("x", [2, 14, 14]);
        let windows = [
            ("first", 2, 192, 1, 1),
            ("large tiles", 192, 192, 3, 1),
            ("strided", 192, 320, 3, 2),
            ("small tiles", 320, 320, 3, 1),
        ];
        for (name, sources, targets, kernel, stride) in windows {
            let weight = weight(&[targets, sources, kernel, kernel]);
            let z = builder.conv(name, value, weight, None, window(kernel, stride), 1).unwrap();
            value = builder.relu(&format!("{name}, rectified"), z).unwrap();
        }
        let back = Conv::transposed(weight(&[320, 64, 3, 3]), None, window(3, 1), 1, vec![0; 2]).unwrap();
        value = builder.layer("back", Layer::Conv(back), vec![value]).unwrap();
        let z = builder.conv("at once", value, weight(&[48, 64, 1, 1]), None, window(1, 1), 1).unwrap();
        let pooled = builder.global_average_pool("average", z).unwrap();
        let flat = builder.reshape("flat", pooled, [48]).unwrap();
        let logits = builder.dense("head", flat, weight(&[3, 48]), None).unwrap();
        builder.build(logits).unwrap()
    }

    #[test]
    fn few_rows_read_what_is_made_of_one_weight_and_have_the_bits_of_many() {
        let network = Arc::new(several());
        let explainer = |preset| {
            let options = Options { backend: Backend::Cpu, threads: Some(2), ..Options::default() };
            Explainer::with_options(Arc::clone(&network), &Composite::preset(preset).unwrap(), options).unwrap()
        };
        let made = |preset| -> Vec<String> {
            let plan = explainer(preset).plan(&Request::new(Targets::ArgMax)).unwrap();
            let weights = Weights::default();
            let of_step = |step: &Step| {
                let tool = weights.tool(&network, &plan, step, Some(2)).unwrap();
                let Work::Convolve { direction, .. } = step.work else { return None };
                let layer = &network.layer(step.layer?).name;
                (!tool.is_kept()).then(|| format!("{layer}, {direction:?}"))
            };
            plan.steps.iter().filter_map(of_step).collect()
        };
        let count = |made: &[String], layer: &str| {
            ["Forward", "Backward"]
                .map(|direction| made.iter().filter(|found| **found == format!("{layer}, {direction}")).count())
        };
        let [of_one, of_plus, of_both] = ["epsilon", "epsilon-plus", "epsilon-alpha2-beta1"].map(made);
        assert_eq!(count(&of_one, "strided"), [0, 0], "one part in each direction");
        assert_eq!(count(&of_plus, "strided"), [0, 0], "one part beside W");
        assert_eq!(count(&of_both, "strided"), [0, 1], "parts of W back, {of_both:?}");
        assert_eq!([&of_one, &of_plus, &of_both].map(|made| count(made, "large tiles")), [[1, 1], [2, 1], [2, 1]]);
        assert_eq!(count(&of_both, "small tiles"), [0, 0], "{of_both:?}");
        for preset in ["epsilon", "epsilon-plus", "epsilon-alpha2-beta1"] {
            let number = |index: usize| (index.wrapping_mul(40_503) % 997) as f32 / 498.5 - 0.9;
            let many = Tensor::from_fn(&[4, 2, 14, 14], number);
            let one = Tensor::new([1, 2, 14, 14], many.row(3).to_vec()).unwrap();
            let explain = |x: &Tensor| explainer(preset).explain(&[x.into()], &Targets::ArgMax).unwrap();
            let (alone, among) = (explain(&one), explain(&many));
            assert!(alone.input().row(0).iter().any(|r| *r != 0.0), "{preset}");
            let bits = |relevance: &[f32]| relevance.iter().map(|r| r.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(alone.input().row(0)), bits(among.input().row(3)), "{preset}");
            // Panels are made, then kept, and what is kept is read for few rows too.
            let explainer = explainer(preset);
            let first = explainer.explain(&[(&one).into()], &Targets::ArgMax).unwrap();
            assert_eq!(first.input(), alone.input(), "{preset}");
            let _ = explainer.explain(&[(&many).into()], &Targets::ArgMax).unwrap();
            assert_eq!(
                explainer.explain(&[(&one).into()], &Targets::ArgMax).unwrap().input(),
                alone.input(),
                "{preset}"
            );
        }
        let x = Tensor::from_fn(&[1, 2, 14, 14], |index| (index.wrapping_mul(40_503) % 997) as f32 / 498.5 - 0.9);
        let softly = Some(Stabilizer::Absolute(0.1));
        let options = PresetOptions { epsilon: softly, stabilizer: softly, ..PresetOptions::default() };
        let composite = Composite::preset_with("epsilon-alpha2-beta1", options).unwrap();
        let by =
            |backend| explain_by(&network, &composite, Options { backend, threads: Some(2), ..Options::default() }, &x);
        assert_close(by(Backend::Cpu).input(), by(Backend::Reference).input(), "made panels");
    }

    #[test]
    fn what_is_made_is_kept_for_the_passes_that_many_rows_read() {
        let network = several();
        let rules = Composite::preset("epsilon-alpha2-beta1").unwrap().assign(&network).unwrap();
        // Of one image, of three, forward only, and of one under three targets: what is kept of the passes forward and back.
        for (samples, targets, forward_only, kept) in [
            (2, 1, false, [false, false]),
            (3, 1, false, [true, true]),
            (3, 1, true, [true, false]),
            (1, 3, false, [false, true]),
        ] {
            let options = Options { backend: Backend::Cpu, threads: Some(2), ..Options::default() };
            let composite = Composite::preset("epsilon-alpha2-beta1").unwrap();
            let explainer = Explainer::with_options(Arc::new(several()), &composite, options).unwrap();
            let plan = explainer.plan(&Request::new(Targets::Classes(vec![0; targets]))).unwrap();
            let cpu = super::super::Cpu::new(Some(2)).unwrap();
            let prepared = cpu.prepare(&network, &rules, plan).unwrap();
            cpu.keep(&prepared, samples, forward_only);
            let (forward, backward) = prepared.tools.split_at(prepared.plan.forward);
            let found = [forward, backward].map(|tools| tools.iter().all(Tool::is_kept));
            assert_eq!(found, kept, "{samples} samples, {targets} targets, forward only: {forward_only}");
        }
    }

    #[cfg(feature = "threads")]
    #[test]
    fn jobs_of_a_callers_pool_may_explain_at_once() {
        use rayon::prelude::*;
        let network = Arc::new(several());
        let x = Tensor::from_fn(&[1, 2, 14, 14], |index| (index % 7) as f32 - 3.0);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let options = Options { backend: Backend::Cpu, ..Options::default() };
        // A job that waits for a plan must not take up another that waits for the same.
        let explainer = Explainer::with_options(network, &Composite::preset("epsilon").unwrap(), options).unwrap();
        let explain = |_| explainer.explain(&[(&x).into()], &Targets::ArgMax).unwrap();
        let found: Vec<_> = pool.install(|| (0..16).into_par_iter().map(explain).collect());
        assert!(found.iter().all(|relevance| relevance.input() == found[0].input()));
    }
}
