//! The [`Explainer`]: a network under a composite on a backend, ready for batches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::composite::{Assignment, Composite};
use crate::cpu::{self, Cpu};
use crate::error::{Error, ErrorKind, Result, unknown};
use crate::network::{InputKind, Network, ValueId};
use crate::plan::{self, Ask, Facts, Plan, Target};
use crate::reference;
use crate::relevance::{LayerReport, LayerSums, Named, Relevance, Report};
use crate::start::{Start, Targets};
use crate::tensor::{Shape, Tensor};

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Backend {
    /// The fastest there is.
    #[default]
    Auto,
    /// Native code on the CPU, float32.
    Cpu,
    /// The float64 reference: slow, and the judge of the others.
    Reference,
}

/// How an [`Explainer`] works; nothing of it changes results beyond rounding.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What computes.
    pub backend: Backend,
    /// Threads of the CPU backend; one a core if not given.
    pub threads: Option<usize>,
    /// Samples computed together; chosen to fit the cache if not given.
    pub batch_size: Option<usize>,
    /// Bytes of scratch memory that all threads together may take.
    pub memory: Option<usize>,
}

/// One input of a network with a batch of samples: `[samples, …sample]`, or one sample without the leading axis.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Real numbers.
    Float(&'a Tensor),
    /// Integers.
    Integer(&'a Tensor<i64>),
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Input::Float(tensor)
    }
}

impl<'a> From<&'a Tensor<i64>> for Input<'a> {
    fn from(tensor: &'a Tensor<i64>) -> Self {
        Input::Integer(tensor)
    }
}

impl Input<'_> {
    fn shape(&self) -> &Shape {
        match self {
            Input::Float(tensor) => tensor.shape(),
            Input::Integer(tensor) => tensor.shape(),
        }
    }
}

/// What is asked of an [`Explainer`] beside the inputs.
#[derive(Debug, Clone)]
pub struct Request {
    targets: Targets,
    start: Option<Start>,
    keep: Vec<String>,
    report: bool,
    allow_nonfinite: bool,
    facts: Facts,
}

impl Request {
    /// Asks for the relevance of the inputs for `targets`.
    pub fn new(targets: Targets) -> Self {
        Request {
            targets,
            start: None,
            keep: Vec::new(),
            report: false,
            allow_nonfinite: false,
            facts: Facts::default(),
        }
    }

    /// Begins with other relevance than the composite's default.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Also gives the relevance of a value or of a layer's output, by name.
    #[must_use]
    pub fn keep(mut self, name: impl Into<String>) -> Self {
        self.keep.push(name.into());
        self
    }

    /// Also measures what each layer does with its relevance.
    #[must_use]
    pub fn report(mut self, report: bool) -> Self {
        self.report = report;
        self
    }

    /// Goes on with NaN and infinity in the inputs instead of refusing them.
    #[must_use]
    pub fn allow_nonfinite(mut self, allow: bool) -> Self {
        self.allow_nonfinite = allow;
        self
    }

    /// Switches off facts that the planner uses to remove work; results stay equal within rounding.
    #[must_use]
    pub fn facts(mut self, facts: Facts) -> Self {
        self.facts = facts;
        self
    }
}

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
/// assert!((relevance.input().data()[0] - 3.0).abs() < 1e-5);
/// # Ok::<(), relprop::Error>(())
/// ```
#[derive(Debug)]
pub struct Explainer {
    network: Arc<Network>,
    composite: Composite,
    rules: Assignment,
    engine: Engine,
    target: Target,
    plans: Mutex<HashMap<Ask, Arc<cpu::Prepared>>>,
}

#[derive(Debug)]
enum Engine {
    Cpu(Cpu),
    Reference,
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
        let rules = composite.assign(&network)?;
        if network.inputs().iter().all(|input| input.kind == InputKind::Integer) {
            return Err(Error::argument("the network has no input of real numbers, so no input receives relevance")
                .help("explain a network that begins behind the lookup of its integer inputs"));
        }
        let engine = match options.backend {
            Backend::Auto | Backend::Cpu => Engine::Cpu(Cpu::new(options.threads)?),
            Backend::Reference => Engine::Reference,
        };
        let threads = match &engine {
            Engine::Cpu(cpu) => cpu.threads(),
            Engine::Reference => 1,
        };
        let target = Target {
            budget: options.memory.map_or(usize::MAX, |bytes| bytes / threads),
            samples: options.batch_size.unwrap_or(usize::MAX).max(1),
            ..Target::UNLIMITED
        };
        let composite = composite.clone();
        Ok(Explainer { network, composite, rules, engine, target, plans: Mutex::default() })
    }

    /// The network that is explained.
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
            Engine::Cpu(_) => Backend::Cpu,
            Engine::Reference => Backend::Reference,
        }
    }

    /// What computes, in words: the instruction set and the number of threads.
    pub fn adapter(&self) -> String {
        match &self.engine {
            Engine::Cpu(cpu) => format!("{}, {} threads", cpu::instruction_set(), cpu.threads()),
            Engine::Reference => "float64 reference".to_owned(),
        }
    }

    /// The plan for a request, as the executors run it.
    ///
    /// # Errors
    /// If the request names what the network does not have.
    pub fn plan(&self, request: &Request) -> Result<Plan> {
        plan::build(&self.network, &self.rules, &self.ask(request)?, &self.target)
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
        let start = request.start.clone().unwrap_or_else(|| self.composite.default_start());
        self.check_start(&start, batch.samples, ask.targets)?;
        let mut filled = Filled::new(self, &batch, &ask);
        let sums = match &self.engine {
            Engine::Cpu(cpu) => {
                let prepared = self.prepared(cpu, &ask)?;
                let work = filled.batch(inputs, batch.samples, &request.targets, &start);
                cpu.run(&self.network, &prepared, work, false)?
            }
            Engine::Reference => self.run_reference(inputs, &batch, &ask, request, &start, &mut filled)?,
        };
        let report = request.report.then(|| self.report(&sums));
        Ok(filled.into_relevance(self, &batch, request, report))
    }

    /// The explained outputs of a batch, by the forward pass alone: `[samples, …output]`.
    ///
    /// # Errors
    /// As [`explain`](Self::explain).
    pub fn forward(&self, inputs: &[Input<'_>]) -> Result<Tensor> {
        let batch = self.check(inputs, true)?;
        let ask = Ask::default();
        let mut filled = Filled::new(self, &batch, &ask);
        match &self.engine {
            Engine::Cpu(cpu) => {
                let prepared = self.prepared(cpu, &ask)?;
                filled.results.iter_mut().for_each(Vec::clear);
                let work = filled.batch(inputs, batch.samples, &Targets::ArgMax, &Start::Logit);
                cpu.run(&self.network, &prepared, work, true)?;
            }
            Engine::Reference => {
                for sample in 0..batch.samples {
                    let values = reference::forward(&self.network, &borrow(&self.sample(inputs, sample)))?;
                    filled.set_logits(sample, &values[self.network.output().index()]);
                }
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
        if targets == 0 {
            return Err(Error::argument("at least one target is needed").help("name an output"));
        }
        Ok(Ask { targets, keep, report: request.report, facts: request.facts })
    }

    fn kept_value(&self, name: &str) -> Result<ValueId> {
        let of_layer = || self.network.find_layer(name).map(|layer| self.network.layer(layer).output);
        self.network.find_value(name).or_else(of_layer).ok_or_else(|| {
            let values = self.network.values().iter().map(|value| value.name.as_str());
            unknown("value or layer", name, values.chain(self.network.layers().iter().map(|node| node.name.as_str())))
        })
    }

    fn prepared(&self, cpu: &Cpu, ask: &Ask) -> Result<Arc<cpu::Prepared>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = plans.get(ask) {
            return Ok(Arc::clone(known));
        }
        let plan = plan::build(&self.network, &self.rules, ask, &self.target)?;
        let prepared = Arc::new(cpu.prepare(&self.network, &self.rules, plan)?);
        plans.insert(ask.clone(), Arc::clone(&prepared));
        Ok(prepared)
    }

    fn check_start(&self, start: &Start, samples: usize, targets: usize) -> Result<()> {
        let Start::Given(given) = start else { return Ok(()) };
        let wanted = samples * targets * self.outputs();
        if given.count() == wanted {
            return Ok(());
        }
        Err(Error::shape(format!(
            "the start of shape {} has {} elements; {samples} samples of {targets} targets and {} outputs need {wanted}",
            given.shape(),
            given.count(),
            self.outputs()
        )))
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
                    _ => start.of_sample(logits, target, self.network.link()),
                };
                let explained = reference::explain(&self.network, &self.rules, &borrow(&data), &start)?;
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

/// What a batch turned out to be.
struct Checked {
    samples: usize,
    /// Whether the inputs are one sample without a leading axis.
    is_single: bool,
}

impl Explainer {
    fn check(&self, inputs: &[Input<'_>], allow_nonfinite: bool) -> Result<Checked> {
        let known = self.network.inputs();
        if inputs.len() != known.len() {
            let names: Vec<&str> = known.iter().map(|input| self.network.value(input.value).name.as_str()).collect();
            return Err(Error::argument(format!("the network has {} inputs, not {}", known.len(), inputs.len()))
                .help(format!("give, in this order, {}", names.join(", "))));
        }
        let mut checked: Option<Checked> = None;
        for (input, known) in inputs.iter().zip(known) {
            let value = self.network.value(known.value);
            let found = batch_of(input.shape(), &value.shape, &value.name)?;
            match (input, known.kind) {
                (Input::Float(_), InputKind::Float) | (Input::Integer(_), InputKind::Integer) => {}
                (_, kind) => {
                    let kind = if kind == InputKind::Float { "real numbers" } else { "integers" };
                    return Err(Error::new(ErrorKind::Data, format!("input `{}` takes {kind}", value.name)));
                }
            }
            if checked.as_ref().is_some_and(|checked| checked.samples != found.samples) {
                return Err(Error::shape(format!(
                    "input `{}` has {} samples but the inputs before it have {}",
                    value.name,
                    found.samples,
                    checked.map_or(0, |checked| checked.samples)
                )));
            }
            if let (Input::Float(tensor), false) = (input, allow_nonfinite) {
                check_finite(tensor, &value.name, value.shape.count())?;
            }
            checked = Some(found);
        }
        checked.ok_or_else(|| Error::internal("a network has an input"))
    }
}

fn batch_of(given: &Shape, sample: &Shape, name: &str) -> Result<Checked> {
    let checked = match given.dims().split_first() {
        _ if given == sample => Checked { samples: 1, is_single: true },
        Some((&samples, rest)) if rest == sample.dims() => Checked { samples, is_single: false },
        _ => {
            return Err(Error::shape(format!("input `{name}` has shape {given}; one sample has shape {sample}"))
                .help("give samples along a leading axis"));
        }
    };
    if checked.samples == 0 {
        return Err(Error::new(ErrorKind::Data, format!("input `{name}` of shape {given} holds no samples"))
            .help("give at least one sample"));
    }
    Ok(checked)
}

fn check_finite(tensor: &Tensor, name: &str, width: usize) -> Result<()> {
    let Some(position) = tensor.data().iter().position(|x| !x.is_finite()) else { return Ok(()) };
    let value = tensor.data()[position];
    let message = format!("input `{name}` holds {value} in sample {}, element {}", position / width, position % width);
    Err(Error::new(ErrorKind::Data, message).help("mend the data, or allow non-finite values to go on"))
}

/// Memory for the results of a batch.
struct Filled {
    values: Vec<ValueId>,
    results: Vec<Vec<f32>>,
    logits: Vec<f32>,
    targets: Vec<usize>,
}

impl Filled {
    fn new(explainer: &Explainer, batch: &Checked, ask: &Ask) -> Self {
        let network = &explainer.network;
        let floats = network.inputs().iter().filter(|input| input.kind == InputKind::Float).map(|input| input.value);
        let mut values: Vec<ValueId> = floats.collect();
        let mut kept: Vec<ValueId> = ask.keep.iter().copied().filter(|value| !values.contains(value)).collect();
        kept.sort_unstable();
        kept.dedup();
        values.extend(kept);
        let rows = batch.samples * ask.targets;
        Filled {
            results: values.iter().map(|&value| vec![0.0; rows * network.shape(value).count()]).collect(),
            values,
            logits: vec![0.0; batch.samples * explainer.outputs()],
            targets: vec![0; rows],
        }
    }

    fn batch<'a>(
        &'a mut self,
        inputs: &[Input<'a>],
        samples: usize,
        targets: &'a Targets,
        start: &'a Start,
    ) -> cpu::Batch<'a> {
        let float = |input: &Input<'a>| match input {
            Input::Float(tensor) => Some(tensor.data()),
            Input::Integer(_) => None,
        };
        let integer = |input: &Input<'a>| match input {
            Input::Integer(tensor) => Some(tensor.data()),
            Input::Float(_) => None,
        };
        cpu::Batch {
            samples,
            floats: inputs.iter().map(float).collect(),
            integers: inputs.iter().map(integer).collect(),
            targets,
            start,
            results: self.results.iter_mut().map(Vec::as_mut_slice).collect(),
            logits: &mut self.logits,
            explained: &mut self.targets,
        }
    }

    fn set_logits(&mut self, sample: usize, logits: &[f64]) {
        let row = &mut self.logits[sample * logits.len()..][..logits.len()];
        row.iter_mut().zip(logits).for_each(|(out, &logit)| *out = logit as f32);
    }

    fn into_relevance(
        self,
        explainer: &Explainer,
        batch: &Checked,
        request: &Request,
        report: Option<Report>,
    ) -> Relevance {
        let network = &explainer.network;
        let rows = self.targets.len();
        let shape_of = |value: ValueId| {
            let mut dims = Vec::new();
            if !batch.is_single {
                dims.push(batch.samples);
            }
            if request.targets.is_several() {
                dims.push(rows / batch.samples);
            }
            dims.extend_from_slice(network.shape(value).dims());
            Shape::new(dims)
        };
        let mut named: Vec<(ValueId, Named)> = Vec::new();
        for (value, result) in self.values.iter().zip(self.results) {
            let relevance = Tensor::new(shape_of(*value), result).expect("a result has a row a sample and target");
            named.push((*value, Named { name: network.value(*value).name.clone(), relevance }));
        }
        let is_input = |value: ValueId| network.inputs().iter().any(|input| input.value == value);
        let kept = request.keep.iter().filter_map(|name| {
            let value = explainer.kept_value(name).ok()?;
            let (_, found) = named.iter().find(|(known, _)| *known == value)?;
            Some(Named { name: name.clone(), ..found.clone() })
        });
        Relevance {
            kept: kept.collect(),
            inputs: named.into_iter().filter(|(value, _)| is_input(*value)).map(|(_, named)| named).collect(),
            logits: explainer.logits_tensor(self.logits, batch),
            targets: Tensor::new([batch.samples, rows / batch.samples], self.targets).expect("K targets a sample"),
            report,
        }
    }
}
