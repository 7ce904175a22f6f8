//! The elementwise chain of a step, applied to one cache-hot row after another.

use super::crew::Written;
use super::functions::{self, Function, WithFunction};
use super::memory::Memory;
use super::simd::{self, Level, Loop};
use crate::layers::Activation;
use crate::parameters::Parameters;
use crate::plan::{BufferId, Denominator, Op, Operand, Parameter, Plan, Rows, Step};
use crate::rules::{InputPart, Mask, Stabilizer};

/// The chains of one step with what they read.
pub(super) struct Chain<'a> {
    pub(super) plan: &'a Plan,
    pub(super) memory: &'a Memory<'a>,
    pub(super) parameters: &'a Parameters,
    pub(super) step: &'a Step,
    /// How many rows the step's target has for each row of a sample's buffer.
    pub(super) rows: Rows,
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
            if let (Op::Multiply(operand), [Op::Divide { by, stabilizer, .. }, behind @ ..]) = (op, behind)
                && *by == Denominator::Buffer(operand.buffer)
                && is_plain(*stabilizer)
            {
                // What a layer gives of its relevance is in proportion to what it is: both are the same elements.
                rest = behind;
                let (x, epsilon) = (self.beside(operand.buffer, row, from, v.len()), stabilizer.epsilon());
                through(operand.activation, operand.part, Share { v, x, epsilon });
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
                    self.beside_denominator(by, row, from, v, |v, d| divide(v, d, *stabilizer, damping));
                }
                Op::DivideInto { numerator, stabilizer } => {
                    let (damping, stabilizer) = (stabilizer.epsilon(), *stabilizer);
                    self.with(numerator, row, from, v, move |d: f32, n: f32| {
                        let stable = stabilize(stabilizer, damping, d);
                        if stable == 0.0 { 0.0 } else { n / stable }
                    });
                }
                Op::MultiplyQuotients { by, factors, stabilizer } => {
                    let by = by.map(|buffer| self.beside(buffer, row, from, v.len()));
                    multiply_quotients(v, by, *factors, *stabilizer);
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

    /// Makes elements of the targets from `first` on, counted over rows of `width` elements: what `make` fills in, then the chains. Targets
    /// that will have left the caches before they are read again come to be in `room`, which stays there, and go past them.
    pub(super) fn make(
        &self,
        first: usize,
        width: usize,
        written: Written<'_>,
        room: &mut Vec<f32>,
        make: impl FnOnce(&mut [f32]),
    ) {
        let length = written.target.len();
        if self.bytes() > STREAMED {
            room.resize(room.len().max(length), 0.0);
            make(&mut room[..length]);
            self.stream(first, width, &mut room[..length], written);
        } else {
            make(written.target);
            self.finish(first, width, written);
        }
    }

    /// Applies the chains to elements of the targets from `first` on, counted over rows of `width` elements.
    pub(super) fn finish(&self, first: usize, width: usize, written: Written<'_>) {
        let Written { target, mut also } = written;
        for (stretch, v) in target.chunks_mut(STRETCH).enumerate() {
            let begin = stretch * STRETCH;
            let at = first + begin;
            self.apply_to(&self.step.chain, at, width, v);
            for (of_step, also) in self.step.also.iter().zip(&mut also) {
                let also = &mut also[begin..][..v.len()];
                copy(v, also);
                self.apply_to(&of_step.chain, at, width, also);
            }
            self.apply_to(&self.step.then, at, width, v);
        }
    }

    /// Applies the chains to elements `made` as [`finish`](Self::finish) does, and writes the targets past the caches.
    fn stream(&self, first: usize, width: usize, made: &mut [f32], written: Written<'_>) {
        let Written { target, mut also } = written;
        let mut other = [0.0; STRETCH];
        for (stretch, v) in made.chunks_mut(STRETCH).enumerate() {
            let begin = stretch * STRETCH;
            let at = first + begin;
            self.apply_to(&self.step.chain, at, width, v);
            for (of_step, also) in self.step.also.iter().zip(&mut also) {
                let other = &mut other[..v.len()];
                copy(v, other);
                self.apply_to(&of_step.chain, at, width, other);
                simd::stream(other, &mut also[begin..][..v.len()]);
            }
            self.apply_to(&self.step.then, at, width, v);
            simd::stream(v, &mut target[begin..][..v.len()]);
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

    /// Bytes of a target of the step, of the whole chunk.
    fn bytes(&self) -> usize {
        self.memory.rows(self.rows) * self.plan.buffers[self.step.target.index()].width * size_of::<f32>()
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
        &self.memory.read(buffer)[row * known.width + from..][..length]
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
            (Stabilizer::Rms(_), None, Denominator::Buffer(_)) => {
                unreachable!("a plan measures the rms of every computed denominator that needs it")
            }
        }
    }
}

/// A target of more bytes, of a whole chunk, has left the caches before it is read again.
const STREAMED: usize = 6 << 20;
/// Elements that one operation after another is applied to: with what stands beside them, they stay in the first-level cache.
const STRETCH: usize = 2048;
/// Derivatives that are computed at a time.
const SLOPES: usize = 256;

/// What becomes of an element and what stands beside it.
pub(super) trait Join: Copy {
    fn join(self, v: f32, x: f32) -> f32;
}

impl<F: Fn(f32, f32) -> f32 + Copy> Join for F {
    #[inline(always)]
    fn join(self, v: f32, x: f32) -> f32 {
        self(v, x)
    }
}

/// v ← join(v, f(x)) for each element.
struct Zip<'a, J> {
    v: &'a mut [f32],
    x: &'a [f32],
    join: J,
}

impl<J: Join> WithFunction for Zip<'_, J> {
    fn run(self, f: impl Function) {
        struct Body<'a, J, F>(Zip<'a, J>, F);
        impl<J: Join, F: Function> Loop for Body<'_, J, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                let Body(Zip { v, x, join }, f) = self;
                functions::zip(f, x, v, |v, _, x| join.join(v, x));
            }
        }
        simd::run(Level::widest(), Body(self, f));
    }
}

/// v ← v · f(x) / stab(x) for each element, of a [plain](is_plain) stabiliser.
struct Share<'a> {
    v: &'a mut [f32],
    x: &'a [f32],
    epsilon: f32,
}

impl WithFunction for Share<'_> {
    fn run(self, f: impl Function) {
        struct Body<'a, F>(Share<'a>, F);
        impl<F: Function> Loop for Body<'_, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                let Body(Share { v, x, epsilon }, f) = self;
                functions::zip(f, x, v, |v, x, share| v * share / plainly_stabilized(epsilon, x));
            }
        }
        simd::run(Level::widest(), Body(self, f));
    }
}

/// v ← f(v) for each element.
struct InPlace<'a>(&'a mut [f32]);

impl WithFunction for InPlace<'_> {
    fn run(self, f: impl Function) {
        struct Body<'a, F>(&'a mut [f32], F);
        impl<F: Function> Loop for Body<'_, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                for v in self.0 {
                    *v = self.1.of(*v);
                }
            }
        }
        simd::run(Level::widest(), Body(self.0, f));
    }
}

/// v ← join(v, x) for each element.
pub(super) fn zip(v: &mut [f32], x: &[f32], join: impl Join) {
    Zip { v, x, join }.run(functions::Identity);
}

/// v ← join(v, x, y) for each element.
fn zip_two(v: &mut [f32], x: &[f32], y: &[f32], join: impl Fn(f32, f32, f32) -> f32) {
    struct Body<'a, J>(&'a mut [f32], &'a [f32], &'a [f32], J);
    impl<J: Fn(f32, f32, f32) -> f32> Loop for Body<'_, J> {
        #[inline(always)]
        fn run<const FUSED: bool, const LANES: usize>(self) {
            let Body(v, x, y, join) = self;
            let length = v.len();
            for ((v, &x), &y) in v.iter_mut().zip(&x[..length]).zip(&y[..length]) {
                *v = join(*v, x, y);
            }
        }
    }
    simd::run(Level::widest(), Body(v, x, y, join));
}

/// v ← factor · v for each element.
fn scale(v: &mut [f32], factor: f32) {
    struct Body<'a>(&'a mut [f32], f32);
    impl Loop for Body<'_> {
        #[inline(always)]
        fn run<const FUSED: bool, const LANES: usize>(self) {
            self.0.iter_mut().for_each(|v| *v *= self.1);
        }
    }
    simd::run(Level::widest(), Body(v, factor));
}

/// v ← join(v, p) for each element, with `period` again and again beside columns from `from` on.
fn repeat(v: &mut [f32], period: &[f32], from: usize, join: impl Join) {
    struct Body<'a, J>(&'a mut [f32], &'a [f32], usize, J);
    impl<J: Join> Loop for Body<'_, J> {
        #[inline(always)]
        fn run<const FUSED: bool, const LANES: usize>(self) {
            let Body(v, period, first, join) = self;
            let (head, rest) = v.split_at_mut((period.len() - first).min(v.len()));
            head.iter_mut().zip(&period[first..]).for_each(|(v, &p)| *v = join.join(*v, p));
            for v in rest.chunks_mut(period.len()) {
                v.iter_mut().zip(period).for_each(|(v, &p)| *v = join.join(*v, p));
            }
        }
    }
    simd::run(Level::widest(), Body(v, period, from % period.len(), join));
}

/// `work` with the function that reading through an activation and then a part is. The commonest are compiled into a copy
/// of the work each; a copy for every activation would multiply the program.
pub(super) fn through(activation: Option<Activation>, part: InputPart, work: impl WithFunction) {
    match (activation, part) {
        (None, InputPart::Negative) => work.run(functions::Negative),
        (None, InputPart::Magnitude) => work.run(functions::Abs),
        (None | Some(Activation::Relu), InputPart::Positive) => work.run(functions::Relu),
        (None, InputPart::Whole | InputPart::Low | InputPart::High | InputPart::One) => work.run(functions::Identity),
        (Some(Activation::Relu), InputPart::Whole) => work.run(functions::Relu),
        (Some(Activation::Clip { low, high }), InputPart::Whole) => work.run(functions::Clip(low, high)),
        (Some(activation), part) => work.run(Any { activation, part }),
    }
}

/// Any activation and part, called for some elements at a time.
#[derive(Clone, Copy)]
struct Any {
    activation: Activation,
    part: InputPart,
}

impl Function for Any {
    const IS_INLINE: bool = false;

    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        self.of_all([x])[0]
    }

    #[inline(always)]
    fn of_all<const N: usize>(self, mut x: [f32; N]) -> [f32; N] {
        self.apply(&mut x);
        x
    }
}

impl Any {
    #[inline(never)]
    fn apply(self, x: &mut [f32]) {
        functions::with_value(self.activation, InPlace(x));
        take_part(self.part, x);
    }
}

/// v ← the part of v.
fn take_part(part: InputPart, v: &mut [f32]) {
    match part {
        InputPart::Positive => InPlace(v).run(functions::Relu),
        InputPart::Negative => InPlace(v).run(functions::Negative),
        InputPart::Magnitude => InPlace(v).run(functions::Abs),
        InputPart::Whole | InputPart::Low | InputPart::High | InputPart::One => {}
    }
}

/// v / stab(d), 0 where the stabilised denominator is exactly 0.
fn divide(v: &mut [f32], d: &[f32], stabilizer: Stabilizer, damping: f32) {
    match stabilizer {
        // A positive ε keeps the denominator from zero, which spares the test.
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) if damping > 0.0 => {
            zip(v, d, move |v: f32, d: f32| v / plainly_stabilized(damping, d));
        }
        _ => zip(v, d, move |v: f32, d: f32| {
            let stable = stabilize(stabilizer, damping, d);
            if stable == 0.0 { 0.0 } else { v / stable }
        }),
    }
}

/// v · (f / stab(d) + g / stab(e)), without the first where d ≤ 0 and the second where e ≥ 0. NaN stays NaN.
fn multiply_quotients(v: &mut [f32], [d, e]: [&[f32]; 2], [f, g]: [f32; 2], stabilizer: Stabilizer) {
    let epsilon = stabilizer.epsilon();
    match stabilizer {
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) => zip_two(v, d, e, move |v: f32, d: f32, e: f32| {
            let raising = if d <= 0.0 { 0.0 } else { f / (d + epsilon) };
            let lowering = if e >= 0.0 { 0.0 } else { g / (e - epsilon) };
            v * (raising + lowering)
        }),
        Stabilizer::Clip(_) => zip_two(v, d, e, move |v: f32, d: f32, e: f32| {
            let raising = if d <= 0.0 { 0.0 } else { f / if d < epsilon { epsilon } else { d } };
            let lowering = if e >= 0.0 { 0.0 } else { g / if e > -epsilon { -epsilon } else { e } };
            v * (raising + lowering)
        }),
    }
}

/// Whether stab(d) is d and an ε of its sign, which is never zero.
fn is_plain(stabilizer: Stabilizer) -> bool {
    matches!(stabilizer, Stabilizer::Absolute(_)) && stabilizer.epsilon() > 0.0
}

/// stab(d) of a stabiliser that adds a positive ε.
#[inline(always)]
fn plainly_stabilized(epsilon: f32, d: f32) -> f32 {
    d + if d >= 0.0 { epsilon } else { -epsilon }
}

/// stab(d); NaN stays NaN.
#[inline(always)]
fn stabilize(stabilizer: Stabilizer, damping: f32, d: f32) -> f32 {
    let sign = if d >= 0.0 { 1.0 } else { -1.0 };
    match stabilizer {
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) => d + damping * sign,
        Stabilizer::Clip(_) if d.abs() < damping => damping * sign,
        Stabilizer::Clip(_) => d,
    }
}

/// stab(d) − d, without the rounding of d.
#[inline(always)]
fn held(stabilizer: Stabilizer, damping: f32, d: f32) -> f32 {
    let sign = if d >= 0.0 { 1.0 } else { -1.0 };
    match stabilizer {
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) => damping * sign,
        Stabilizer::Clip(_) if d.abs() < damping => damping * sign - d,
        Stabilizer::Clip(_) => 0.0,
    }
}

/// Copies elements in pieces that a C library copies by vectors. What is longer it gives to `rep movsb`, which takes three times as long on
/// AMD's Zen 3 where both lie at one distance from a page's begin, as buffers do that the system hands out.
fn copy(from: &[f32], to: &mut [f32]) {
    const PIECE: usize = 256;
    for (to, from) in to.chunks_mut(PIECE).zip(from.chunks(PIECE)) {
        to.copy_from_slice(from);
    }
}

/// Copies elements as an operand reads them.
pub(super) fn read(operand: &Operand, from: &[f32], to: &mut [f32]) {
    if operand.is_whole() {
        return copy(from, to);
    }
    through(operand.activation, operand.part, Zip { v: to, x: from, join: |_: f32, x: f32| x });
}

/// Turns elements as they are stored into elements as an operand reads them.
pub(super) fn read_through(operand: &Operand, v: &mut [f32]) {
    if let Some(activation) = operand.activation {
        functions::with_value(activation, InPlace(v));
    }
    take_part(operand.part, v);
}
