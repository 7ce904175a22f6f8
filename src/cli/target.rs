//! `--target` and `--start`: what is explained, whole and for a block of samples.

use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use relprop::input::read_npy;
use relprop::{Error, ErrorKind, Result, Shape, Start, Targets, Tensor};

use super::fit::whole;
use super::model::{nearest, usage};

/// Which outputs are explained, and from what relevance on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Targets")]
pub struct TargetArguments {
    /// Which outputs are explained: `argmax` (unless told), an index, several as i,j,…, top:K, all, or FILE.npy.
    ///
    /// A file holds one index a sample. Several targets (a list, top:K or all) give results one more axis, after that of
    /// the samples.
    #[arg(long, value_name = "WHICH", default_value = "argmax", hide_default_value = true)]
    pub target: TargetChoice,

    /// How much relevance a target begins with: `logit`, one, probability, negative-logit, contrast, or FILE.npy.
    ///
    /// It is the target's logit unless told, and 1 for gradients. `contrast` explains the difference to the strongest
    /// other output. A file holds relevance for every output: [samples, outputs], or [samples, targets, outputs].
    #[arg(long, value_name = "HOW")]
    pub start: Option<StartChoice>,
}

impl TargetArguments {
    /// The files that are read for these.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let target = match &self.target {
            TargetChoice::File(path) => Some(path),
            TargetChoice::Every(_) => None,
        };
        let start = match &self.start {
            Some(StartChoice::File(path)) => Some(path),
            Some(StartChoice::Rule(_)) | None => None,
        };
        target.into_iter().chain(start)
    }
}

/// `--target` as it was given.
#[derive(Debug, Clone, PartialEq)]
pub enum TargetChoice {
    /// The same for every sample.
    Every(Targets),
    /// One index a sample.
    File(PathBuf),
}

impl std::str::FromStr for TargetChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if ends_with_npy(text) {
            return Ok(TargetChoice::File(text.into()));
        }
        let index = |part: &str| part.trim().parse::<usize>().ok();
        let listed = || text.split(',').map(index).collect::<Option<Vec<_>>>();
        let targets = match (text, text.strip_prefix("top:").map(index)) {
            ("argmax", _) => Targets::ArgMax,
            ("all", _) => Targets::All,
            (_, Some(Some(k))) if k > 0 => Targets::Top(k),
            _ => match (index(text), listed()) {
                (Some(one), _) => Targets::Class(one),
                (None, Some(several)) => Targets::Classes(several),
                (None, None) => return Err(unknown_target(text)),
            },
        };
        Ok(TargetChoice::Every(targets))
    }
}

fn unknown_target(text: &str) -> Error {
    let near = nearest(text, ["argmax", "all", "top:3"]).unwrap_or("argmax");
    usage(
        format!("`{text}` is no target"),
        format!("did you mean {near}? Give argmax, all, top:K, indices from 0 on such as 3 or 0,4, or a .npy file"),
    )
}

/// `--start` as it was given.
#[derive(Debug, Clone, PartialEq)]
pub enum StartChoice {
    /// A function of the logits.
    Rule(Start),
    /// Relevance at every output.
    File(PathBuf),
}

impl std::str::FromStr for StartChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if ends_with_npy(text) {
            return Ok(StartChoice::File(text.into()));
        }
        text.parse().map(StartChoice::Rule)
    }
}

fn ends_with_npy(text: &str) -> bool {
    Path::new(text).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy"))
}

/// The targets of all samples.
///
/// # Errors
/// If an index is out of range, or a file does not fit the samples.
pub fn resolve_targets(choice: &TargetChoice, samples: usize, outputs: usize) -> Result<Targets> {
    let check = |targets: &Targets| {
        let (last, many) = (outputs.saturating_sub(1), "or a top:K of at most as many as there are");
        targets.check(samples, outputs).map_err(|error| error.help(format!("give outputs from 0 to {last}, {many}")))
    };
    let targets = match choice {
        TargetChoice::Every(targets) => {
            check(targets)?;
            return Ok(targets.clone());
        }
        TargetChoice::File(path) => {
            let place = |error: Error| error.context(path.display());
            let array = read_npy(path)?.to_i64().map_err(place)?;
            let index = |(sample, &target): (usize, &i64)| {
                usize::try_from(target).map_err(|_| {
                    usage(format!("sample {sample}: target {target} is negative"), "outputs are numbered from 0 on")
                })
            };
            let list = array.data().iter().enumerate().map(index).collect::<Result<_>>().map_err(place)?;
            (Targets::Each(list), path)
        }
    };
    let (targets, path) = targets;
    check(&targets).map_err(|error| error.context(path.display()))?;
    Ok(targets)
}

/// The start of all samples; `targets` is their number a sample.
///
/// # Errors
/// If a file does not fit the samples, targets and outputs.
pub fn resolve_start(
    choice: Option<&StartChoice>,
    default: Start,
    samples: usize,
    targets: usize,
    output: &Shape,
) -> Result<Start> {
    let path = match choice {
        None => return Ok(default),
        Some(StartChoice::Rule(start)) => return Ok(start.clone()),
        Some(StartChoice::File(path)) => path,
    };
    let given = read_npy(path)?.into_f32();
    let lead = if targets == 1 { vec![samples] } else { vec![samples, targets] };
    let dims = [&lead, output.dims()].concat();
    // As many elements are not enough: [outputs, samples] would start every sample from others' relevance.
    if whole(given.shape().dims()) != whole(&dims) {
        return Err(Error::new(
            ErrorKind::Shape,
            format!("{}: shape {} does not fit; the start needs {}", path.display(), given.shape(), Shape::new(dims)),
        )
        .help("give relevance for every sample, target and output, in this order; transpose it if its axes are in another"));
    }
    if let Some(position) = given.data().iter().position(|value| !value.is_finite()) {
        let message = format!("{}: element {position} is {}", path.display(), given.data()[position]);
        return Err(Error::new(ErrorKind::Data, message).help("relevance starts from finite numbers"));
    }
    Ok(Start::Given(given))
}

/// The targets of a block of samples.
pub fn targets_of(targets: &Targets, block: Range<usize>) -> Targets {
    match targets {
        Targets::Each(list) => Targets::Each(list[block].to_vec()),
        others => others.clone(),
    }
}

/// The start of a block of samples; `per_sample` is the number of elements that each has.
pub fn start_of(start: &Start, block: Range<usize>, per_sample: usize) -> Start {
    match start {
        Start::Given(given) => {
            let rows = given.data()[block.start * per_sample..block.end * per_sample].to_vec();
            let mut dims: Vec<usize> = given.shape().dims().iter().copied().filter(|&dim| dim != 1).collect();
            if given.count() > per_sample {
                dims[0] = block.len();
            }
            Start::Given(Tensor::new(dims, rows).expect("samples lie along the first axis that is not 1"))
        }
        others => others.clone(),
    }
}

/// Targets in words, as `--target` takes them.
pub fn describe(choice: &TargetChoice) -> String {
    let listed = |list: &[usize]| list.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    match choice {
        TargetChoice::File(path) => path.display().to_string(),
        TargetChoice::Every(Targets::ArgMax) => "argmax".to_owned(),
        TargetChoice::Every(Targets::All) => "all".to_owned(),
        TargetChoice::Every(Targets::Top(k)) => format!("top:{k}"),
        TargetChoice::Every(Targets::Class(index)) => index.to_string(),
        TargetChoice::Every(Targets::Classes(list) | Targets::Each(list)) => listed(list),
    }
}
