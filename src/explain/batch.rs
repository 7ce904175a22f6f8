//! One batch: its inputs checked, and memory for its results.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::engine::Engine;
use super::{Explainer, Input, Request};
use crate::batch::{Batch, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::layers::Layer;
use crate::network::{InputKind, ValueId};
use crate::plan::Ask;
use crate::relevance::{Named, Relevance, Report, Run};
use crate::sharing::share;
#[cfg(feature = "gpu")]
use crate::sharing::threads_for;
use crate::start::{Start, Targets};
use crate::tensor::{Shape, Tensor};

/// What a batch turned out to be.
pub(super) struct Checked {
    pub(super) samples: usize,
    /// Whether the inputs are one sample without a leading axis.
    is_single: bool,
}

impl Explainer {
    pub(super) fn check(&self, inputs: &[Input<'_>], allow_nonfinite: bool) -> Result<Checked> {
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
                    return Err(Error::new(ErrorKind::Data, format!("input `{}` takes {kind}", value.name))
                        .help("convert the array"));
                }
            }
            if checked.as_ref().is_some_and(|checked| checked.samples != found.samples) {
                return Err(Error::shape(format!(
                    "input `{}` has {} samples but the inputs before it have {}",
                    value.name,
                    found.samples,
                    checked.map_or(0, |checked| checked.samples)
                ))
                .help("give every input the same number of samples"));
            }
            match input {
                Input::Float(tensor) if !allow_nonfinite => {
                    check_finite(tensor, &value.name, value.shape.count(), self.threads_for(tensor))?
                }
                Input::Float(_) => {}
                Input::Integer(tensor) => self.check_indices(tensor, known.value)?,
            }
            // One sample without a leading axis stays without one only where every input is given so.
            let is_single = found.is_single && checked.as_ref().is_none_or(|checked| checked.is_single);
            checked = Some(Checked { is_single, ..found });
        }
        checked.ok_or_else(|| Error::internal("a network has an input"))
    }
}

impl Explainer {
    /// How many threads look at an input: one where the caller has said how many compute.
    fn threads_for(&self, input: &Tensor) -> usize {
        match &self.engine {
            #[cfg(feature = "gpu")]
            Engine::Gpu { .. } => threads_for(size_of_val(input.data())),
            Engine::Cpu { .. } | Engine::Reference => {
                let _ = input;
                1
            }
        }
    }

    /// Checks that an integer input points into every table that looks it up.
    fn check_indices(&self, indices: &Tensor<i64>, value: ValueId) -> Result<()> {
        let known = self.network.value(value);
        let readers = self.network.layers().iter().filter(|node| node.inputs.contains(&value));
        for node in readers {
            let Layer::Lookup(lookup) = &node.layer else { continue };
            let entries = lookup.entries() as i64;
            let outside = |index: &i64| !(-entries..entries).contains(index);
            if let Some(position) = indices.data().iter().position(outside) {
                let (index, width) = (indices.data()[position], known.shape.count());
                let place = format!("sample {}, element {}", position / width, position % width);
                let message = format!(
                    "input `{}` holds {index} in {place}, but `{}` has {entries} entries",
                    known.name, node.name
                );
                return Err(Error::new(ErrorKind::Data, message).at(&node.name).help(format!(
                    "indices go from 0 to {}, or from −{entries} to −1 counted from the end",
                    entries - 1
                )));
            }
        }
        Ok(())
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

/// The position of the first NaN or infinity, sought by so many threads: beside a fast device one alone takes as long as that computes.
fn first_nonfinite(elements: &[f32], threads: usize) -> Option<usize> {
    const PIECE: usize = 1 << 18;
    let first = AtomicUsize::new(usize::MAX);
    share(elements.chunks(PIECE).enumerate().collect(), threads, |(number, piece): (usize, &[f32])| {
        if let Some(position) = first_nonfinite_within(piece) {
            first.fetch_min(number * PIECE + position, Ordering::Relaxed);
        }
    });
    Some(first.into_inner()).filter(|position| *position != usize::MAX)
}

/// The same by this thread. Blocks are tested without a branch an element, which is vector code.
fn first_nonfinite_within(elements: &[f32]) -> Option<usize> {
    const BLOCK: usize = 1024;
    const INFINITY: u32 = f32::INFINITY.to_bits();
    let size = |x: f32| x.abs().to_bits();
    let is_spoiled = |block: &&[f32]| block.iter().fold(0, |most, &x| size(x).max(most)) >= INFINITY;
    let (position, block) = elements.chunks(BLOCK).enumerate().find(|(_, block)| is_spoiled(block))?;
    Some(position * BLOCK + block.iter().position(|x| !x.is_finite())?)
}

fn check_finite(tensor: &Tensor, name: &str, width: usize, threads: usize) -> Result<()> {
    let Some(position) = first_nonfinite(tensor.data(), threads) else { return Ok(()) };
    let value = tensor.data()[position];
    let message = format!("input `{name}` holds {value} in sample {}, element {}", position / width, position % width);
    Err(Error::new(ErrorKind::Data, message).help("mend the data, or allow non-finite values to go on"))
}

/// Memory for the results of a batch.
pub(super) struct Filled {
    pub(super) values: Vec<ValueId>,
    pub(super) results: Vec<Vec<f32>>,
    pub(super) logits: Vec<f32>,
    pub(super) targets: Vec<usize>,
}

impl Filled {
    pub(super) fn new(explainer: &Explainer, batch: &Checked, ask: &Ask) -> Self {
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

    pub(super) fn batch<'a>(
        &'a mut self,
        inputs: &[Input<'a>],
        samples: usize,
        targets: &'a Targets,
        start: &'a Start,
    ) -> Batch<'a> {
        let source = |input: &Input<'a>| match input {
            Input::Float(tensor) => Source::Float(tensor.data()),
            Input::Integer(tensor) => Source::Integer(tensor.data()),
        };
        Batch {
            samples,
            inputs: inputs.iter().map(source).collect(),
            targets,
            start,
            results: self.results.iter_mut().map(Vec::as_mut_slice).collect(),
            logits: &mut self.logits,
            explained: &mut self.targets,
        }
    }

    pub(super) fn set_logits(&mut self, sample: usize, logits: &[f64]) {
        let row = &mut self.logits[sample * logits.len()..][..logits.len()];
        row.iter_mut().zip(logits).for_each(|(out, &logit)| *out = logit as f32);
    }

    pub(super) fn into_relevance(
        self,
        explainer: &Explainer,
        batch: &Checked,
        request: &Request,
        report: Option<Report>,
        run: Run,
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
            run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_nonfinite_element_is_found_in_any_block() {
        assert_eq!(first_nonfinite(&[0.0, -f32::MAX, f32::MIN_POSITIVE], 1), None);
        for position in [0, 1023, 1024, 5000] {
            for spoiled in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut elements = vec![f32::MAX; 5001];
                elements[position] = spoiled;
                elements[5000] = f32::NAN;
                assert_eq!(first_nonfinite(&elements, 1), Some(position));
            }
        }
    }

    #[test]
    fn the_first_of_several_nonfinite_elements_is_found_whoever_seeks() {
        for threads in [1, 4] {
            let mut elements = vec![1.0; 2_000_000];
            assert_eq!(first_nonfinite(&elements, threads), None);
            for position in [1_999_999, 1_200_000, 262_144, 262_143] {
                elements[position] = f32::INFINITY;
                assert_eq!(first_nonfinite(&elements, threads), Some(position));
            }
        }
    }
}
