//! The [`Explainer`]: a network under a composite on a backend, ready for batches.

mod batch;
mod engine;
mod plans;
mod request;
#[cfg(feature = "gpu")]
mod tune;
#[cfg(feature = "gpu")]
mod weights;

use std::sync::Arc;

use crate::composite::{Assignment, Composite};
use crate::cpu;
use crate::error::{Error, ErrorKind, Result, unknown};
#[cfg(feature = "gpu")]
use crate::gpu::Gpu;
use crate::layers::Layer;
use crate::network::{InputKind, Network, ValueId};
use crate::plan::{self, Ask, ChannelMask, Plan};
use crate::reference;
use crate::relevance::{LayerReport, LayerSums, Relevance, Report, Run};
use crate::start::{Start, Targets};
use crate::tensor::{Shape, Tensor};

use batch::{Checked, Filled};
use engine::Engine;
#[cfg(feature = "gpu")]
pub use request::Reload;
pub use request::{Backend, Condition, Input, Options, Request};

/// A network under a composite on a backend. Immutable: share it between threads.
///
/// ```
/// use relprop::{Backend, Composite, Explainer, Input, Network, Targets, Tensor};
///
/// let mut builder = Network::builder();
/// let x = builder.input("x", [2]);
/// let y = builder.dense("fc", x, Tensor::new([1, 2], vec![3.0, -1.0])?, None)?;
/// let explainer = Explainer::new(builder.build(y)?, &Composite::preset("epsilon")?, Backend::Auto)?;
///
/// let samples = Tensor::new([2, 2], vec![1.0, 2.0, 0.5, 1.0])?;
/// let relevance = explainer.explain(&[Input::from(&samples)], &Targets::ArgMax)?;
/// assert_eq!(relevance.logits.data(), [1.0, 0.5]);
/// approx::assert_abs_diff_eq!(relevance.input().data()[0], 3.0, epsilon = 1e-5);
/// # Ok::<(), relprop::Error>(())
/// ```
#[derive(Debug)]
pub struct Explainer {
    network: Arc<Network>,
    composite: Composite,
    rules: Assignment,
    engine: Engine,
    /// Samples computed together, if told.
    samples: Option<usize>,
    /// Bytes that a chunk may take, if told.
    memory: Option<usize>,
    /// Where weights come from that are on a device only.
    #[cfg(feature = "gpu")]
    weights: Option<weights::Source>,
}

impl Explainer {
    /// A network under a composite on a backend.
    ///
    /// # Errors
    /// If the composite does not fit the network.
    pub fn new(network: impl Into<Arc<Network>>, composite: &Composite, backend: Backend) -> Result<Self> {
        Explainer::with_options(network, composite, Options { backend, ..Options::default() })
    }

    /// A network under a composite, with every option.
    ///
    /// # Errors
    /// If the composite does not fit the network, or the backend cannot be started.
    pub fn with_options(network: impl Into<Arc<Network>>, composite: &Composite, options: Options) -> Result<Self> {
        let network = network.into();
        network.check_weights()?;
        let rules = composite.assign(&network)?;
        let engine = Engine::new(&options)?;
        #[cfg(feature = "gpu")]
        let (network, weights) = weights::released(network, &engine, options.reload);
        let (samples, memory) = (options.batch_size.map(|samples| samples.max(1)), options.memory);
        let composite = composite.clone();
        Ok(Explainer {
            network,
            composite,
            rules,
            engine,
            samples,
            memory,
            #[cfg(feature = "gpu")]
            weights,
        })
    }

    /// The network that is explained; without the elements of its weights where those are on a device only
    /// (`Options::reload`).
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// The rule of each layer.
    pub fn rules(&self) -> &Assignment {
        &self.rules
    }

    /// What computes: never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        match self.engine {
            Engine::Cpu { .. } => Backend::Cpu,
            #[cfg(feature = "gpu")]
            Engine::Gpu { .. } => Backend::Gpu,
            Engine::Reference => Backend::Reference,
        }
    }

    /// What computes, in words: the instruction set and the number of threads, or the device.
    pub fn adapter(&self) -> String {
        match &self.engine {
            Engine::Cpu { cpu, .. } => format!("{}, {} threads", cpu::instruction_set(), cpu.threads()),
            #[cfg(feature = "gpu")]
            Engine::Gpu { gpu, .. } => gpu.name(),
            Engine::Reference => "float64 reference".to_owned(),
        }
    }

    /// The device that computes, where one does.
    #[cfg(feature = "gpu")]
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        match &self.engine {
            Engine::Gpu { gpu, .. } => Some(gpu),
            Engine::Cpu { .. } | Engine::Reference => None,
        }
    }

    /// Bytes that weights and plans take on a device; none where no device computes.
    pub fn device_memory(&self) -> Option<u64> {
        match &self.engine {
            #[cfg(feature = "gpu")]
            Engine::Gpu { resident, plans, .. } => {
                Some(resident.bytes() + plans.all().iter().map(|plan| plan.bytes()).sum::<u64>())
            }
            Engine::Cpu { .. } | Engine::Reference => None,
        }
    }

    /// The plan for a request, as the executors run it.
    ///
    /// # Errors
    /// If the request names what the network does not have.
    pub fn plan(&self, request: &Request) -> Result<Plan> {
        let ask = self.ask(request)?;
        plan::build(&self.network, &self.rules, &ask, &self.target(&ask))
    }

    /// The relevance of every input element for each target.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if inputs do not fit the network, [`ErrorKind::Data`] for an empty batch, NaN or infinity
    /// (naming the place), [`ErrorKind::Argument`] for targets out of range.
    pub fn explain(&self, inputs: &[Input<'_>], targets: &Targets) -> Result<Relevance> {
        self.explain_with(inputs, &Request::new(targets.clone()))
    }

    /// Everything that a request asks for.
    ///
    /// # Errors
    /// As [`explain`](Self::explain), and if the request names what the network does not have.
    pub fn explain_with(&self, inputs: &[Input<'_>], request: &Request) -> Result<Relevance> {
        let batch = self.check(inputs, request.allow_nonfinite)?;
        request.targets.check(batch.samples, self.outputs())?;
        let ask = self.ask(request)?;
        self.check_wanted(&ask)?;
        let start = request.start.clone().unwrap_or_else(|| self.composite.default_start());
        self.check_start(&start, batch.samples, ask.targets)?;
        let mut filled = Filled::new(self, &batch, &ask);
        let (sums, run) = match &self.engine {
            Engine::Reference => {
                (self.run_reference(inputs, &batch, &ask, request, &start, &mut filled)?, Run::default())
            }
            _ => {
                let work = filled.batch(inputs, batch.samples, &request.targets, &start);
                self.run_plan(&ask, work, false)?
            }
        };
        let report = request.report.then(|| self.report(&sums));
        Ok(filled.into_relevance(self, &batch, request, report, run))
    }

    /// The explained outputs of a batch, by the forward pass alone: `[samples, …output]`.
    ///
    /// # Errors
    /// As [`explain`](Self::explain).
    pub fn forward(&self, inputs: &[Input<'_>]) -> Result<Tensor> {
        let batch = self.check(inputs, true)?;
        let ask = Ask { forward_only: true, ..Ask::default() };
        let mut filled = Filled::new(self, &batch, &ask);
        match &self.engine {
            Engine::Reference => {
                for sample in 0..batch.samples {
                    let values = reference::forward(&self.network, &borrow(&self.sample(inputs, sample)))?;
                    filled.set_logits(sample, &values[self.network.output().index()]);
                }
            }
            _ => {
                filled.results.clear();
                let work = filled.batch(inputs, batch.samples, &Targets::ArgMax, &Start::Logit);
                self.run_plan(&ask, work, true)?;
            }
        }
        Ok(self.logits_tensor(filled.logits, &batch))
    }

    /// The number of outputs that targets are counted over.
    pub fn outputs(&self) -> usize {
        self.network.shape(self.network.output()).count()
    }

    fn ask(&self, request: &Request) -> Result<Ask> {
        let keep = request.keep.iter().map(|name| self.kept_value(name)).collect::<Result<Vec<_>>>()?;
        let targets = request.targets.per_sample(self.outputs());
        if let Targets::Top(k) = request.targets {
            Targets::Top(k).check(1, self.outputs())?;
        }
        if targets == 0 {
            return Err(Error::argument("at least one target is needed").help("name an output"));
        }
        let masks = self.masks(&request.conditions, targets)?;
        let alike = request.has_like_targets();
        Ok(Ask { targets, keep, masks, alike, report: request.report, forward_only: false, facts: request.facts })
    }

    /// The conditions of a request, value by value.
    fn masks(&self, conditions: &[Condition], targets: usize) -> Result<Vec<ChannelMask>> {
        let mut masks: Vec<ChannelMask> = Vec::new();
        if ![0, 1, targets].contains(&conditions.len()) {
            let message = format!("{} conditions do not fit {targets} targets a sample", conditions.len());
            return Err(Error::argument(message).help("give one condition for every target, or one a target"));
        }
        for (position, condition) in conditions.iter().enumerate() {
            for (name, channels) in &condition.channels {
                let value = self.kept_value(name)?;
                let all = || (0..self.network.shape(value).dims().first().copied().unwrap_or(1)).collect();
                let known = masks.iter().position(|mask| mask.value == value).unwrap_or_else(|| {
                    masks.push(ChannelMask { value, channels: vec![all(); conditions.len()] });
                    masks.len() - 1
                });
                masks[known].channels[position].clone_from(channels);
            }
        }
        Ok(masks)
    }

    fn kept_value(&self, name: &str) -> Result<ValueId> {
        let of_layer = || self.network.find_layer(name).map(|layer| self.network.layer(layer).output);
        let value = self.network.find_value(name).or_else(of_layer).ok_or_else(|| {
            let values = self.network.values().iter().map(|value| value.name.as_str());
            unknown("value or layer", name, values.chain(self.network.layers().iter().map(|node| node.name.as_str())))
        })?;
        let is_integer = |input: &crate::network::Input| input.value == value && input.kind == InputKind::Integer;
        if self.network.inputs().iter().any(is_integer) {
            return Err(Error::argument(format!("relevance stops where the integer input `{name}` is looked up"))
                .help("keep what the lookup gives instead"));
        }
        Ok(value)
    }

    fn check_start(&self, start: &Start, samples: usize, targets: usize) -> Result<()> {
        let Start::Given(given) = start else { return Ok(()) };
        let output = self.network.shape(self.network.output());
        let mut wanted = vec![samples, targets];
        wanted.extend(output.dims());
        let is_several = |dim: &usize| *dim != 1;
        if !given.shape().dims().iter().copied().filter(is_several).eq(wanted.iter().copied().filter(is_several)) {
            let message = format!(
                "the start has shape {}; {samples} samples of {targets} targets and outputs of shape {output} need {}",
                given.shape(),
                Shape::new(wanted)
            );
            return Err(Error::shape(message).help("axes of extent 1 may be left out"));
        }
        if let Some(position) = given.data().iter().position(|r| !r.is_finite()) {
            let message = format!("the start holds {} at element {position}", given.data()[position]);
            return Err(Error::new(ErrorKind::Data, message).help("mend the start"));
        }
        Ok(())
    }

    /// Refuses a request that gives no relevance at all.
    fn check_wanted(&self, ask: &Ask) -> Result<()> {
        let mut inputs = self.network.inputs().iter();
        if inputs.any(|input| input.kind == InputKind::Float) || !ask.keep.is_empty() {
            return Ok(());
        }
        let lookups = self.network.layers().iter().filter(|node| matches!(node.layer, Layer::Lookup(_)));
        let names: Vec<&str> = lookups.map(|node| node.name.as_str()).collect();
        Err(Error::argument("the network has no input of real numbers, so no input receives relevance")
            .help(format!("keep the relevance of what a lookup gives: {}", names.join(", "))))
    }

    fn run_reference(
        &self,
        inputs: &[Input<'_>],
        batch: &Checked,
        ask: &Ask,
        request: &Request,
        start: &Start,
        filled: &mut Filled,
    ) -> Result<Vec<LayerSums>> {
        let mut sums = vec![LayerSums::default(); self.network.layers().len()];
        for sample in 0..batch.samples {
            let data = self.sample(inputs, sample);
            let values = reference::forward(&self.network, &borrow(&data))?;
            let logits = &values[self.network.output().index()];
            filled.set_logits(sample, logits);
            for (k, target) in request.targets.of_sample(sample, logits).into_iter().enumerate() {
                let row = sample * ask.targets + k;
                filled.targets[row] = target;
                let start = match start {
                    Start::Given(given) => {
                        given.data()[row * logits.len()..][..logits.len()].iter().copied().map(f64::from).collect()
                    }
                    _ => start.of_sample(logits, target, self.network.classes(), self.network.link()),
                };
                let masks: Vec<(ValueId, &[usize])> = (ask.masks.iter())
                    .map(|mask| (mask.value, mask.channels[k % mask.channels.len()].as_slice()))
                    .collect();
                let explained = reference::explain_through(&self.network, &self.rules, &borrow(&data), &start, &masks)?;
                for (result, value) in filled.results.iter_mut().zip(&filled.values) {
                    let relevance = explained.at(*value);
                    let out = &mut result[row * relevance.len()..][..relevance.len()];
                    out.iter_mut().zip(relevance).for_each(|(out, &r)| *out = r as f32);
                }
                let of_layers = sums.iter_mut().zip(&explained.layers);
                of_layers.for_each(|(sums, layer)| sums.add(&layer.unwrap_or_default()));
            }
        }
        Ok(sums)
    }

    /// The elements of one sample of each input.
    fn sample(&self, inputs: &[Input<'_>], sample: usize) -> Vec<Vec<f64>> {
        let of_input = |(input, known): (&Input<'_>, &crate::network::Input)| {
            let width = self.network.shape(known.value).count();
            let range = sample * width..(sample + 1) * width;
            match input {
                Input::Float(tensor) => tensor.data()[range].iter().copied().map(f64::from).collect(),
                Input::Integer(tensor) => tensor.data()[range].iter().map(|&index| index as f64).collect(),
            }
        };
        inputs.iter().zip(self.network.inputs()).map(of_input).collect()
    }

    fn report(&self, sums: &[LayerSums]) -> Report {
        let of_layer = |(id, node): (crate::network::LayerId, &crate::network::LayerNode)| {
            let rule = self.rules.rule(id)?.describe();
            Some(LayerReport { name: node.name.clone(), rule, sums: sums[id.index()] })
        };
        Report { layers: self.network.layer_ids().filter_map(of_layer).collect() }
    }

    fn logits_tensor(&self, logits: Vec<f32>, batch: &Checked) -> Tensor {
        let shape = self.network.shape(self.network.output()).prepend(batch.samples);
        Tensor::new(shape, logits).expect("a row of logits a sample")
    }
}

fn borrow(data: &[Vec<f64>]) -> Vec<&[f64]> {
    data.iter().map(Vec::as_slice).collect()
}
