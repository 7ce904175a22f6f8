//! What is asked of an [`Explainer`](crate::Explainer), and how it works.

use std::fmt;
use std::str::FromStr;
#[cfg(feature = "gpu")]
use std::sync::Arc;

use crate::error::{Error, Result};
#[cfg(feature = "gpu")]
use crate::gpu::{DeviceOptions, Gpu};
#[cfg(feature = "gpu")]
use crate::network::Network;
use crate::plan::Facts;
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
    /// Kernels on a device that wgpu sees, float32. [`Options::device`] says which.
    Gpu,
    /// The float64 reference: slow, and the judge of the others.
    Reference,
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let backends = [Backend::Auto, Backend::Cpu, Backend::Gpu, Backend::Reference];
        backends.into_iter().find(|backend| backend.to_string() == text).ok_or_else(|| {
            Error::argument(format!("`{text}` is no backend")).help("backends are auto, cpu, gpu and reference")
        })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Auto => "auto",
            Backend::Cpu => "cpu",
            Backend::Gpu => "gpu",
            Backend::Reference => "reference",
        })
    }
}

/// How an [`Explainer`](crate::Explainer) works; nothing of it changes results beyond rounding.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What computes.
    pub backend: Backend,
    /// Threads of the CPU backend; one a core if not given.
    pub threads: Option<usize>,
    /// Samples computed together; chosen to fit the cache if not given.
    pub batch_size: Option<usize>,
    /// Bytes of scratch memory that all threads together, or the buffers of a plan on a device, may take; 1 GiB on a device unless told, and
    /// 4 GiB on a card of its own.
    pub memory: Option<usize>,
    /// Which device the GPU backend takes, and how.
    #[cfg(feature = "gpu")]
    pub device: DeviceOptions,
    /// A device that is open already, instead of one by `device`: explainers that share it compile each kernel once.
    #[cfg(feature = "gpu")]
    pub gpu: Option<Arc<Gpu>>,
    /// How to read the network again. With it, the GPU backend holds dense weights on the device only.
    #[cfg(feature = "gpu")]
    pub reload: Option<Reload>,
}

/// Reads a network again, exactly as it was read before.
#[cfg(feature = "gpu")]
#[derive(Clone)]
pub struct Reload(Arc<dyn Fn() -> Result<Network> + Send + Sync>);

#[cfg(feature = "gpu")]
impl Reload {
    /// `read` gives the network that the explainer was made with.
    pub fn new(read: impl Fn() -> Result<Network> + Send + Sync + 'static) -> Self {
        Reload(Arc::new(read))
    }

    pub(super) fn read(&self) -> Result<Network> {
        (self.0)()
    }
}

#[cfg(feature = "gpu")]
impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
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
    pub(crate) fn shape(&self) -> &Shape {
        match self {
            Input::Float(tensor) => tensor.shape(),
            Input::Integer(tensor) => tensor.shape(),
        }
    }
}

/// Channels that relevance passes, as concept relevance propagation conditions it (Achtibat et al. 2023,
/// arXiv:2206.03208): at each named value or layer only relevance of the given channels goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    pub(super) channels: Vec<(String, Vec<usize>)>,
}

impl Condition {
    /// A condition that lets everything pass.
    pub fn new() -> Self {
        Condition::default()
    }

    /// Also asks that only `channels` pass at a value or layer, counted along the first axis of a sample.
    #[must_use]
    pub fn only(mut self, name: impl Into<String>, channels: impl Into<Vec<usize>>) -> Self {
        self.channels.push((name.into(), channels.into()));
        self
    }
}

impl FromStr for Condition {
    type Err = Error;

    /// `NAME=1,2` or several of them with `;` between.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::argument(format!("`{text}` is no condition"))
                .help("give a layer and its channels: NAME=1,2, with ; between several layers")
        };
        text.split(';').try_fold(Condition::new(), |condition, part| {
            let (name, channels) = part.rsplit_once('=').ok_or_else(wrong)?;
            let channels: std::result::Result<Vec<usize>, _> = channels.split(',').map(|c| c.trim().parse()).collect();
            Ok(condition.only(name.trim(), channels.map_err(|_| wrong())?))
        })
    }
}

/// What is asked of an [`Explainer`](crate::Explainer) beside the inputs.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) targets: Targets,
    pub(crate) start: Option<Start>,
    pub(crate) keep: Vec<String>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) report: bool,
    pub(crate) allow_nonfinite: bool,
    pub(crate) facts: Facts,
}

impl Request {
    /// Asks for the relevance of the inputs for `targets`.
    pub fn new(targets: Targets) -> Self {
        Request {
            targets,
            start: None,
            keep: Vec::new(),
            conditions: Vec::new(),
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

    /// Lets relevance pass only some channels. Called once, the condition is for every target; called once for each
    /// target, the targets have a condition each: `Targets::Classes(vec![3, 3])` with two conditions explains class 3
    /// twice. Both share the forward pass, and the way back as far as their conditions agree: down to the first value that a
    /// condition is of.
    #[must_use]
    pub fn condition(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Whether every target of a sample is one output with one start.
    pub(crate) fn has_like_targets(&self) -> bool {
        let is_one = |classes: &Vec<usize>| classes.windows(2).all(|pair| pair[0] == pair[1]);
        matches!(&self.targets, Targets::Classes(classes) if is_one(classes))
            && !matches!(self.start, Some(Start::Given(_)))
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
