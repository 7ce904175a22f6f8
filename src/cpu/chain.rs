//! The elementwise chain of a step, applied to one cache-hot row after another.

use std::collections::BTreeSet;

use super::crew::Written;
use super::fork::Fork;
use super::functions;
use super::gemm::LINE;
use super::loops::{
    InPlace, Join, Share, Zip, add_and_repeat, copy, divide, divide_by_rest, held, is_plain, multiply_quotients,
    read_through, repeat, scale, stabilize, take_part, through, zip, zip_two,
};
use super::memory::Memory;
use super::panels::beginning_of_line;
use super::simd;
use crate::layers::Activation;
use crate::parameters::Parameters;
use crate::plan::{BufferId, Denominator, Op, Operand, Parameter, Plan, Rows, Step};
use crate::rules::{Mask, Stabilizer};

/// The chains of one step with what they read.
pub(super) struct Chain<'a> {
    pub(super) plan: &'a Plan,
    pub(super) memory: &'a Memory<'a>,
    pub(super) parameters: &'a Parameters,
    pub(super) step: &'a Step,
    /// How many rows the step's target has for each row of a sample's buffer.
    pub(super) rows: Rows,
    /// What steps that run with this one have made of the part that it makes.
    pub(super) made: &'a [Part<'a>],
}

/// Elements of a buffer from one on, counted over all its rows.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    buffer: BufferId,
    first: usize,
    elements: &'a [f32],
}

impl Chain<'_> {
    /// Applies the chain to columns `from..` of row `row` of the target.
    pub(super) fn apply(&self, row: usize, from: usize, v: &mut [f32]) {
        self.apply_ops(&self.step.chain, row, from, v);
    }

    fn apply_ops(&self, ops: &[Op], row: usize, from: usize, v: &mut [f32]) {
        let mut rest = ops;
        while let [op, behind @ ..] = rest {
            rest = behind;
            // One pass in place of two, with the same roundings.
            if let (Op::Multiply(operand), [Op::Divide { by: Denominator::Buffer(d), stabilizer, .. }, behind @ ..]) =
                (op, behind)
                && is_plain(*stabilizer)
            {
                rest = behind;
                let x = self.beside(operand.buffer, row, from, v.len());
                let d = if *d == operand.buffer { x } else { self.beside(*d, row, from, v.len()) };
                through(operand.activation, operand.part, Share { v, x, d, epsilon: stabilizer.epsilon() });
                continue;
            }
            if let (Op::Add { operand, factor }, [Op::AddParameter(parameter), behind @ ..]) = (op, behind)
                && operand.is_whole()
            {
                rest = behind;
                let x = self.beside(operand.buffer, row, from, v.len());
                let period = self.parameters.period(parameter, row % self.plan.targets);
                add_and_repeat(v, (x, *factor), period, from);
                continue;
            }
            if let (Op::Scale(factor), [Op::AddParameter(parameter), behind @ ..]) = (op, behind) {
                rest = behind;
                let (factor, period) = (*factor, self.parameters.period(parameter, row % self.plan.targets));
                repeat(v, period, from, move |v: f32, p: f32| v * factor + p);
                continue;
            }
            match op {
                Op::Scale(factor) => scale(v, *factor),
                Op::AddParameter(parameter) => {
                    repeat(v, self.parameters.period(parameter, row % self.plan.targets), from, |v: f32, p: f32| v + p);
                }
                Op::MultiplyParameter(parameter) => {
                    repeat(v, self.parameters.period(parameter, row % self.plan.targets), from, |v: f32, p: f32| v * p);
                }
                Op::Activate(activation) => functions::with_value(*activation, InPlace(v)),
                Op::Part(part) => take_part(*part, v),
                Op::Add { operand, factor } => {
                    let factor = *factor;
                    self.with(operand, row, from, v, move |v: f32, x: f32| v + factor * x);
                }
                Op::Multiply(operand) => self.with(operand, row, from, v, |v: f32, x: f32| v * x),
                Op::MultiplySum(of) => {
                    let [one, other] = of.map(|buffer| self.beside(buffer, row, from, v.len()));
                    zip_two(v, one, other, |v: f32, one: f32, other: f32| v * (one + other));
                }
                Op::MultiplyDerivative { activation, at } => self.multiply_derivative(*activation, at, row, from, v),
                Op::Mask { by, mask } => match mask {
                    Mask::Everywhere => {}
                    Mask::Positive => self.with(by, row, from, v, |v: f32, z: f32| if z > 0.0 { v } else { 0.0 }),
                    Mask::Negative => self.with(by, row, from, v, |v: f32, z: f32| if z < 0.0 { v } else { 0.0 }),
                },
                Op::Divide { by, stabilizer, rms } => {
                    let damping = self.damping(by, *stabilizer, *rms, row);
                    if let Denominator::Rest { of, without } = by {
                        let [of, without] = [of, without].map(|buffer| self.beside(*buffer, row, from, v.len()));
                        divide_by_rest(v, of, without, *stabilizer, damping);
                    } else {
                        self.beside_denominator(by, row, from, v, |v, d| divide(v, d, *stabilizer, damping));
                    }
                }
                Op::DivideInto { numerator, stabilizer } => {
                    let (damping, stabilizer) = (stabilizer.epsilon(), *stabilizer);
                    self.with(numerator, row, from, v, move |d: f32, n: f32| {
                        let stable = stabilize(stabilizer, damping, d);
                        if stable == 0.0 { 0.0 } else { n / stable }
                    });
                }
                Op::MultiplyQuotients { by, of_sum, factors, stabilizer } => {
                    let by = by.map(|buffer| self.beside(buffer, row, from, v.len()));
                    match of_sum {
                        true => multiply_quotients::<true>(v, by, *factors, *stabilizer),
                        false => multiply_quotients::<false>(v, by, *factors, *stabilizer),
                    }
                }
                Op::MultiplyDamping { by, stabilizer, rms } => {
                    let (damping, stabilizer) = (self.damping(by, *stabilizer, *rms, row), *stabilizer);
                    self.beside_denominator(by, row, from, v, |v, d| {
                        zip(v, d, move |v: f32, d: f32| v * held(stabilizer, damping, d));
                    });
                }
            }
        }
    }

    fn multiply_derivative(&self, f: Activation, at: &Operand, row: usize, from: usize, v: &mut [f32]) {
        let z = self.beside(at.buffer, row, from, v.len());
        let mut slopes = [0.0; SLOPES];
        for (v, z) in v.chunks_mut(SLOPES).zip(z.chunks(SLOPES)) {
            let slopes = &mut slopes[..z.len()];
            slopes.copy_from_slice(z);
            read_through(at, slopes);
            functions::with_derivative(f, InPlace(slopes));
            zip(v, slopes, |v: f32, slope: f32| v * slope);
        }
    }

    /// Applies the chains to elements of the targets from `first` on, counted over rows of `width` elements.
    pub(super) fn finish(&self, first: usize, width: usize, written: Written<'_>) {
        let Written { target, mut also } = written;
        let fork = self.fork();
        for (stretch, v) in target.chunks_mut(STRETCH).enumerate() {
            let begin = stretch * STRETCH;
            let at = first + begin;
            self.apply_to(&self.step.chain, at, width, v);
            if let (Some(fork), [other]) = (fork, also.as_mut_slice()) {
                self.fork_to(fork, at, width, v, &mut other[begin..][..v.len()]);
                continue;
            }
            for (of_step, also) in self.step.also.iter().zip(&mut also) {
                let also = &mut also[begin..][..v.len()];
                copy(v, also);
                self.apply_to(&of_step.chain, at, width, also);
            }
            self.apply_to(&self.step.then, at, width, v);
        }
    }

    /// Applies the chains to elements `made` as [`finish`](Self::finish) does, and writes the targets past the caches: an empty one nowhere, and
    /// those that are `handed_on` as they are.
    fn stream(&self, first: usize, width: usize, made: &mut [f32], written: &mut Written<'_>, handed_on: &[bool]) {
        let mut other = Aligned([0.0; STRETCH]);
        let fork = self.fork();
        for (stretch, v) in made.chunks_mut(STRETCH).enumerate() {
            let begin = stretch * STRETCH;
            let at = first + begin;
            self.apply_to(&self.step.chain, at, width, v);
            for ((of_step, also), is_handed_on) in self.step.also.iter().zip(&mut written.also).zip(handed_on) {
                let also = &mut also[begin..][..v.len()];
                let made = &mut other.0[..v.len()];
                let other = if *is_handed_on { &mut *also } else { &mut *made };
                if let Some(fork) = fork {
                    self.fork_to(fork, at, width, v, other);
                } else {
                    copy(v, other);
                    self.apply_to(&of_step.chain, at, width, other);
                }
                if !is_handed_on {
                    simd::stream(made, also);
                }
            }
            if fork.is_none() {
                self.apply_to(&self.step.then, at, width, v);
            }
            if !written.target.is_empty() {
                simd::stream(v, &mut written.target[begin..][..v.len()]);
            }
        }
    }

    /// The two ways on which a step goes on to its target and to its other one, if it has no more, where both are made in one pass.
    fn fork(&self) -> Option<Fork> {
        match self.step.also.as_slice() {
            [other] => Fork::of(&self.step.then, &other.chain),
            _ => None,
        }
    }

    fn fork_to(&self, fork: Fork, mut at: usize, width: usize, mut v: &mut [f32], mut other: &mut [f32]) {
        while !v.is_empty() {
            let length = v.len().min(width - at % width);
            let (part, rest) = v.split_at_mut(length);
            let (part_of_other, rest_of_other) = other.split_at_mut(length);
            fork.run(part, part_of_other, fork.by.map(|buffer| self.beside(buffer, at / width, at % width, length)));
            at += length;
            (v, other) = (rest, rest_of_other);
        }
    }

    fn apply_to(&self, ops: &[Op], mut at: usize, width: usize, mut v: &mut [f32]) {
        while !ops.is_empty() && !v.is_empty() {
            let (part, rest) = v.split_at_mut(v.len().min(width - at % width));
            self.apply_ops(ops, at / width, at % width, part);
            at += part.len();
            v = rest;
        }
    }

    /// Elements of a target of the step, of the whole chunk.
    pub(super) fn elements(&self) -> usize {
        self.memory.rows(self.rows) * self.plan.buffers[self.step.target.index()].width
    }

    /// The row of a buffer that stands beside row `row` of the target.
    pub(super) fn row(&self, buffer: BufferId, row: usize) -> &[f32] {
        self.beside(buffer, row, 0, self.plan.buffers[buffer.index()].width)
    }

    /// The part of a buffer's row that stands beside columns `from..from + length` of the target's row.
    fn beside(&self, buffer: BufferId, row: usize, from: usize, length: usize) -> &[f32] {
        let known = &self.plan.buffers[buffer.index()];
        let row = match (self.rows, known.rows) {
            (Rows::Target, Rows::Sample) => row / self.plan.targets,
            _ => row,
        };
        let at = row * known.width + from;
        self.elements_of(buffer, at, length)
    }

    /// Elements of a buffer from one on, counted over all its rows: where they are made, or in memory.
    pub(super) fn elements_of(&self, buffer: BufferId, first: usize, length: usize) -> &[f32] {
        match self.made.iter().find(|part| part.buffer == buffer) {
            Some(part) => &part.elements[first - part.first..][..length],
            None => &self.memory.read(buffer)[first..][..length],
        }
    }

    /// v ← join(v, x) with x the operand as it is read.
    fn with<J: Join>(&self, operand: &Operand, row: usize, from: usize, v: &mut [f32], join: J) {
        let x = self.beside(operand.buffer, row, from, v.len());
        through(operand.activation, operand.part, Zip { v, x, join });
    }

    /// Calls `work` on each stretch of `v`, which begins at column `from`, with the parameter beside it.
    fn beside_parameter(
        &self,
        parameter: &Parameter,
        row: usize,
        from: usize,
        v: &mut [f32],
        mut work: impl FnMut(&mut [f32], &[f32]),
    ) {
        let period = self.parameters.period(parameter, row % self.plan.targets);
        let first = from % period.len();
        let (head, rest) = v.split_at_mut((period.len() - first).min(v.len()));
        work(head, &period[first..][..head.len()]);
        rest.chunks_mut(period.len()).for_each(|v| work(v, &period[..v.len()]));
    }

    fn beside_denominator(
        &self,
        by: &Denominator,
        row: usize,
        from: usize,
        v: &mut [f32],
        mut work: impl FnMut(&mut [f32], &[f32]),
    ) {
        match by {
            Denominator::Buffer(buffer) => work(v, self.beside(*buffer, row, from, v.len())),
            Denominator::Rest { of, without } => {
                let [of, without] = [of, without].map(|buffer| self.beside(*buffer, row, from, v.len()));
                let mut d = [0.0; SLOPES];
                for ((v, of), without) in v.chunks_mut(SLOPES).zip(of.chunks(SLOPES)).zip(without.chunks(SLOPES)) {
                    let d = &mut d[..v.len()];
                    d.copy_from_slice(of);
                    zip(d, without, |of: f32, without: f32| of - without);
                    work(v, d);
                }
            }
            Denominator::Parameter(parameter) => self.beside_parameter(parameter, row, from, v, work),
        }
    }

    /// ε, times the rms of d where the stabiliser is relative.
    fn damping(&self, by: &Denominator, stabilizer: Stabilizer, rms: Option<BufferId>, row: usize) -> f32 {
        let epsilon = stabilizer.epsilon();
        match (stabilizer, rms, by) {
            (Stabilizer::Absolute(_) | Stabilizer::Clip(_), _, _) => epsilon,
            (Stabilizer::Rms(_), Some(rms), _) => epsilon * self.beside(rms, row, 0, 1)[0],
            (Stabilizer::Rms(_), None, Denominator::Parameter(parameter)) => epsilon * self.parameters.rms(parameter),
            (Stabilizer::Rms(_), None, Denominator::Buffer(_) | Denominator::Rest { .. }) => {
                unreachable!("a plan measures the rms of every computed denominator that needs it")
            }
        }
    }
}

/// Makes a part of the targets of steps that run together, one or two: elements from `first` on, `length` of them, counted over rows of `width`;
/// what `make` fills in for each step, then the chains of one step after another. Targets that will have left the caches before they are read
/// again come to be in `room`, which stays there, and go past them. Gives what the steps made.
pub(super) fn make<'r>(
    chains: &[Chain<'_>],
    (first, length, width): (usize, usize, usize),
    mut written: Vec<Written<'r>>,
    room: &'r mut Vec<f32>,
    make: impl FnOnce(&mut [&mut [f32]]),
) -> Vec<Part<'r>> {
    let is_streamed = chains.iter().any(|chain| chain.elements() * size_of::<f32>() > most_in_caches());
    let handed_on: Vec<Vec<bool>> =
        written.iter().map(|of| of.also.iter().map(|also| also.is_empty()).collect()).collect();
    let in_room = written.iter().filter(|of| is_streamed || of.target.is_empty()).count()
        + handed_on.iter().flatten().filter(|is_handed_on| **is_handed_on).count();
    room.resize(room.len().max(in_room * length + LINE), 0.0);
    let begin = beginning_of_line(room);
    let mut rooms = room[begin..].chunks_exact_mut(length.max(1));
    let mut sums: Vec<&mut [f32]> = Vec::new();
    for of in &mut written {
        let is_in_room = is_streamed || of.target.is_empty();
        // What comes to be in place is taken from what is written: the chains then find nothing left to write there.
        let sum = if is_in_room { rooms.next().expect("room for it") } else { std::mem::take(&mut of.target) };
        sums.push(sum);
        let empty = of.also.iter_mut().filter(|also| also.is_empty());
        empty.for_each(|also| *also = rooms.next().expect("room for it"));
    }
    make(&mut sums);
    let mut made: Vec<Part<'r>> = Vec::new();
    for (((chain, mut of), v), handed_on) in chains.iter().zip(written).zip(sums).zip(handed_on) {
        let step = chain.step;
        let known: Vec<Part<'_>> = chain.made.iter().chain(&made).copied().collect();
        let chain = Chain { made: &known, ..*chain };
        if is_streamed {
            chain.stream(first, width, v, &mut of, &handed_on);
        } else {
            chain.finish(
                first,
                width,
                Written { target: v, also: of.also.iter_mut().map(|also| &mut **also).collect() },
            );
        }
        made.push(Part { buffer: step.target, first, elements: v });
        made.extend(step.also.iter().zip(of.also).map(|(of, also)| Part { buffer: of.target, first, elements: also }));
    }
    made
}

/// The buffers that the chains of steps that run together read beside their targets: those with as many elements, and not what the steps or those
/// before them make part by part, `made`.
pub(super) fn read_beside<'a>(chains: &'a [Chain<'a>], made: &[BufferId]) -> Vec<&'a [f32]> {
    let of = &chains[0];
    let targets = || chains.iter().flat_map(|chain| chain.step.writes());
    let is_alike = |id: &BufferId| {
        let buffer = &of.plan.buffers[id.index()];
        let is_made = made.contains(id) || targets().any(|target| target == *id);
        of.memory.rows(buffer.rows) * buffer.width == of.elements() && !is_made
    };
    let reads = chains.iter().flat_map(|chain| chain.step.ops().flat_map(Op::reads));
    let buffers: BTreeSet<BufferId> = reads.filter(is_alike).collect();
    buffers.into_iter().map(|id| of.memory.read(id)).collect()
}

/// What begins a cache line.
#[repr(align(64))]
struct Aligned([f32; STRETCH]);

/// Bytes of a target, of a whole chunk, that are still in the caches when it is read again: half a third-level cache, which holds what the step reads
/// too. Of a larger one than was tried, others have their share.
fn most_in_caches() -> usize {
    const UNKNOWN: usize = 12 << 20;
    const MOST: usize = 16 << 20;
    (simd::third_level_cache().unwrap_or(UNKNOWN) / 2).min(MOST)
}

/// Elements that one operation after another is applied to: with what stands beside them, they stay in the first-level cache.
const STRETCH: usize = 2048;
/// Derivatives, or denominators, that are computed at a time.
const SLOPES: usize = 256;
