//! Loops over elements: what steps' chains and tools do to one element after another, compiled for the widest instruction set.

use super::functions::{self, Function, WithFunction};
use super::simd::{self, Level, Loop};
use crate::layers::Activation;
use crate::plan::Operand;
use crate::rules::{InputPart, Stabilizer};

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

/// to ← join(to, x, f(x)) for each element of two slices of one length.
///
/// Blocks of elements are for functions that are calls: where nothing is called, the compiler may take a loop over blocks for one over
/// single elements, and make vectors of the first elements of several blocks, of the second, and so on.
#[inline(always)]
pub(super) fn each<F: Function>(f: F, from: &[f32], to: &mut [f32], join: impl Fn(f32, f32, f32) -> f32) {
    /// Elements for which a function is called at a time.
    const BLOCK: usize = 256;
    assert_eq!(from.len(), to.len(), "as many elements");
    if F::IS_INLINE {
        for (to, &x) in to.iter_mut().zip(from) {
            *to = join(*to, x, f.of(x));
        }
        return;
    }
    let mut block = [0.0; BLOCK];
    for (to, from) in to.chunks_mut(BLOCK).zip(from.chunks(BLOCK)) {
        let read = &mut block[..from.len()];
        read.copy_from_slice(from);
        f.in_place(read);
        for ((to, &x), &read) in to.iter_mut().zip(from).zip(&*read) {
            *to = join(*to, x, read);
        }
    }
}

/// v ← join(v, f(x)) for each element.
pub(super) struct Zip<'a, J> {
    pub(super) v: &'a mut [f32],
    pub(super) x: &'a [f32],
    pub(super) join: J,
}

impl<J: Join> WithFunction for Zip<'_, J> {
    fn run(self, f: impl Function) {
        struct Body<'a, J, F>(Zip<'a, J>, F);
        impl<J: Join, F: Function> Loop for Body<'_, J, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                let Body(Zip { v, x, join }, f) = self;
                each(f, x, v, |v, _, x| join.join(v, x));
            }
        }
        simd::run(Level::widest(), Body(self, f));
    }
}

/// v ← v · f(x) / stab(d) for each element, of a [plain](is_plain) stabiliser.
pub(super) struct Share<'a> {
    pub(super) v: &'a mut [f32],
    pub(super) x: &'a [f32],
    pub(super) d: &'a [f32],
    pub(super) epsilon: f32,
}

impl WithFunction for Share<'_> {
    fn run(self, f: impl Function) {
        struct Body<'a, F>(Share<'a>, F);
        impl<F: Function> Loop for Body<'_, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                let Body(Share { v, x, d, epsilon }, f) = self;
                let length = v.len();
                if F::IS_INLINE {
                    for ((v, &x), &d) in v.iter_mut().zip(&x[..length]).zip(&d[..length]) {
                        *v = *v * f.of(x) / plainly_stabilized(epsilon, d);
                    }
                    return;
                }
                each(f, x, v, |v, _, share| v * share);
                v.iter_mut().zip(d).for_each(|(v, &d)| *v /= plainly_stabilized(epsilon, d));
            }
        }
        simd::run(Level::widest(), Body(self, f));
    }
}

/// v ← f(v) for each element.
pub(super) struct InPlace<'a>(pub(super) &'a mut [f32]);

impl WithFunction for InPlace<'_> {
    fn run(self, f: impl Function) {
        struct Body<'a, F>(&'a mut [f32], F);
        impl<F: Function> Loop for Body<'_, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                self.1.in_place(self.0);
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
pub(super) fn zip_two(v: &mut [f32], x: &[f32], y: &[f32], join: impl Fn(f32, f32, f32) -> f32) {
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
pub(super) fn scale(v: &mut [f32], factor: f32) {
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
pub(super) fn repeat(v: &mut [f32], period: &[f32], from: usize, join: impl Join) {
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

/// v ← v + factor · x + p for each element, with `period` as [`repeat`] has it.
pub(super) fn add_and_repeat(v: &mut [f32], (x, factor): (&[f32], f32), period: &[f32], from: usize) {
    struct Body<'a>(&'a mut [f32], &'a [f32], f32, &'a [f32], usize);
    impl Loop for Body<'_> {
        #[inline(always)]
        fn run<const FUSED: bool, const LANES: usize>(self) {
            let Body(v, x, factor, period, first) = self;
            let add = |v: &mut [f32], x: &[f32], period: &[f32]| {
                for ((v, &x), &p) in v.iter_mut().zip(x).zip(period) {
                    *v = *v + factor * x + p;
                }
            };
            let head = (period.len() - first).min(v.len());
            let ((of_head, rest), (beside_head, beside_rest)) = (v.split_at_mut(head), x.split_at(head));
            add(of_head, beside_head, &period[first..]);
            for (v, x) in rest.chunks_mut(period.len()).zip(beside_rest.chunks(period.len())) {
                add(v, x, period);
            }
        }
    }
    assert_eq!(v.len(), x.len(), "as many elements");
    simd::run(Level::widest(), Body(v, x, factor, period, from % period.len()));
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
        self.in_place(&mut x);
        x
    }

    #[inline(never)]
    fn in_place(self, v: &mut [f32]) {
        functions::with_value(self.activation, InPlace(v));
        take_part(self.part, v);
    }
}

/// v ← the part of v.
pub(super) fn take_part(part: InputPart, v: &mut [f32]) {
    match part {
        InputPart::Positive => InPlace(v).run(functions::Relu),
        InputPart::Negative => InPlace(v).run(functions::Negative),
        InputPart::Magnitude => InPlace(v).run(functions::Abs),
        InputPart::Whole | InputPart::Low | InputPart::High | InputPart::One => {}
    }
}

/// v / stab(d), 0 where the stabilised denominator is exactly 0.
pub(super) fn divide(v: &mut [f32], d: &[f32], stabilizer: Stabilizer, damping: f32) {
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

/// v / stab(a − b), as [`divide`] makes it.
pub(super) fn divide_by_rest(v: &mut [f32], a: &[f32], b: &[f32], stabilizer: Stabilizer, damping: f32) {
    match stabilizer {
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) if damping > 0.0 => {
            zip_two(v, a, b, move |v: f32, a: f32, b: f32| v / plainly_stabilized(damping, a - b));
        }
        _ => zip_two(v, a, b, move |v: f32, a: f32, b: f32| {
            let stable = stabilize(stabilizer, damping, a - b);
            if stable == 0.0 { 0.0 } else { v / stable }
        }),
    }
}

/// v · (f / stab(d) + g / stab(e)), without the first where d ≤ 0 and the second where e ≥ 0; `OF_SUM`: given d + e in place of d. NaN
/// stays NaN.
pub(super) fn multiply_quotients<const OF_SUM: bool>(
    v: &mut [f32],
    [first, e]: [&[f32]; 2],
    [f, g]: [f32; 2],
    stabilizer: Stabilizer,
) {
    let epsilon = stabilizer.epsilon();
    match stabilizer {
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) => zip_two(v, first, e, move |v: f32, first: f32, e: f32| {
            let d = if OF_SUM { first - e } else { first };
            let raising = if d <= 0.0 { 0.0 } else { f / (d + epsilon) };
            let lowering = if e >= 0.0 { 0.0 } else { g / (e - epsilon) };
            v * (raising + lowering)
        }),
        Stabilizer::Clip(_) => zip_two(v, first, e, move |v: f32, first: f32, e: f32| {
            let d = if OF_SUM { first - e } else { first };
            let raising = if d <= 0.0 { 0.0 } else { f / if d < epsilon { epsilon } else { d } };
            let lowering = if e >= 0.0 { 0.0 } else { g / if e > -epsilon { -epsilon } else { e } };
            v * (raising + lowering)
        }),
    }
}

/// Whether stab(d) is d and an ε of its sign, which is never zero.
pub(super) fn is_plain(stabilizer: Stabilizer) -> bool {
    matches!(stabilizer, Stabilizer::Absolute(_)) && stabilizer.epsilon() > 0.0
}

/// stab(d) of a stabiliser that adds a positive ε.
#[inline(always)]
pub(super) fn plainly_stabilized(epsilon: f32, d: f32) -> f32 {
    d + if d >= 0.0 { epsilon } else { -epsilon }
}

/// stab(d); NaN stays NaN.
#[inline(always)]
pub(super) fn stabilize(stabilizer: Stabilizer, damping: f32, d: f32) -> f32 {
    let sign = if d >= 0.0 { 1.0 } else { -1.0 };
    match stabilizer {
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) => d + damping * sign,
        Stabilizer::Clip(_) if d.abs() < damping => damping * sign,
        Stabilizer::Clip(_) => d,
    }
}

/// stab(d) − d, without the rounding of d.
#[inline(always)]
pub(super) fn held(stabilizer: Stabilizer, damping: f32, d: f32) -> f32 {
    let sign = if d >= 0.0 { 1.0 } else { -1.0 };
    match stabilizer {
        Stabilizer::Absolute(_) | Stabilizer::Rms(_) => damping * sign,
        Stabilizer::Clip(_) if d.abs() < damping => damping * sign - d,
        Stabilizer::Clip(_) => 0.0,
    }
}

/// Copies elements in pieces that glibc copies by vectors. What is longer it gives to `rep movsb`, which takes three times as long on AMD's
/// Zen 3 where both lie at the same offset in their pages, as large buffers do.
pub(super) fn copy(from: &[f32], to: &mut [f32]) {
    const PIECE: usize = 256;
    assert_eq!(from.len(), to.len(), "as many elements");
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

/// Copies runs of `count` elements as an operand reads them; `apart` are elements from one run to the next, where they are read and where
/// they are written. What is written between runs is anything.
pub(super) fn read_runs(operand: &Operand, from: &[f32], to: &mut [f32], count: usize, apart: [usize; 2]) {
    struct Runs<'a> {
        from: &'a [f32],
        to: &'a mut [f32],
        count: usize,
        apart: [usize; 2],
    }
    impl WithFunction for Runs<'_> {
        fn run(self, f: impl Function) {
            struct Body<'a, F>(Runs<'a>, F);
            impl<F: Function> Loop for Body<'_, F> {
                #[inline(always)]
                fn run<const FUSED: bool, const LANES: usize>(self) {
                    /// Runs for which a function is called each by itself; shorter ones have it called for all, and what lies between.
                    const LONG: usize = 96;
                    let Body(Runs { from, to, count, apart }, f) = self;
                    for (to, from) in to.chunks_mut(apart[1]).zip(from.chunks(apart[0])) {
                        let (to, from) = (&mut to[..count], &from[..count]);
                        if F::IS_INLINE {
                            each(f, from, to, |_, _, x| x);
                        } else {
                            copy(from, to);
                            if count >= LONG {
                                f.in_place(to);
                            }
                        }
                    }
                    if !F::IS_INLINE && count < LONG {
                        f.in_place(to);
                    }
                }
            }
            simd::run(Level::widest(), Body(self, f));
        }
    }
    through(operand.activation, operand.part, Runs { from, to, count, apart });
}

/// Turns elements as they are stored into elements as an operand reads them.
pub(super) fn read_through(operand: &Operand, v: &mut [f32]) {
    if let Some(activation) = operand.activation {
        functions::with_value(activation, InPlace(v));
    }
    take_part(operand.part, v);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVATIONS: [Option<Activation>; 4] = [
        None,
        Some(Activation::Relu),
        Some(Activation::Clip { low: 0.0, high: 6.0 }),
        Some(Activation::Silu { beta: 1.0 }),
    ];

    /// Numbers of all kinds, in another order for another `seed`.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let special =
            [0.0, -0.0, 1e-40, -1e-40, -1e-6, 1e-6, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 7.5, -7.5, f32::MAX];
        (0..count)
            .map(|index| match (index + seed) % 3 {
                0 => special[(index * 5 + seed) % special.len()],
                _ => (index * 7 + seed) as f32 * 0.37 - 9.0,
            })
            .collect()
    }

    fn bits(v: &[f32]) -> Vec<Option<u32>> {
        v.iter().map(|v| (!v.is_nan()).then_some(v.to_bits())).collect()
    }

    #[test]
    fn elements_of_any_count_are_read_as_single_ones_are() {
        for (activation, part) in ACTIVATIONS.iter().flat_map(|f| [(*f, InputPart::Whole), (*f, InputPart::Positive)]) {
            for count in (0..75).chain([255, 256, 257, 600]) {
                let (x, mut v) = (numbers(count, 1), numbers(count, 2));
                let expected: Vec<f32> = x
                    .iter()
                    .zip(&v)
                    .map(|(&x, &v)| {
                        let mut read = [x];
                        if let Some(activation) = activation {
                            functions::with_value(activation, InPlace(&mut read));
                        }
                        take_part(part, &mut read);
                        v - read[0]
                    })
                    .collect();
                through(activation, part, Zip { v: &mut v, x: &x, join: |v: f32, x: f32| v - x });
                assert_eq!(bits(&v), bits(&expected), "{activation:?}, {part:?}, {count} elements");
            }
        }
    }

    #[test]
    fn a_sum_and_a_parameter_are_added_in_one_pass_with_the_bits_of_two() {
        for (count, period, from) in [(0, 5, 3), (4, 16, 7), (75, 24, 0), (75, 24, 31), (100, 7, 6), (64, 64, 0)] {
            let (x, v, period) = (numbers(count, 3), numbers(count, 4), numbers(period, 5));
            let (mut apart, mut at_once) = (v.clone(), v);
            zip(&mut apart, &x, |v: f32, x: f32| v + 0.3 * x);
            repeat(&mut apart, &period, from, |v: f32, p: f32| v + p);
            add_and_repeat(&mut at_once, (&x, 0.3), &period, from);
            assert_eq!(bits(&at_once), bits(&apart), "{count} elements from {from} on");
        }
    }

    #[test]
    fn a_share_has_the_bits_of_a_product_and_a_quotient() {
        let stabilizer = Stabilizer::Absolute(1e-6);
        assert!(is_plain(stabilizer));
        for (activation, count) in ACTIVATIONS.iter().flat_map(|f| (0..75).map(move |count| (*f, count))) {
            let (x, v, other) = (numbers(count, 3), numbers(count, 4), numbers(count, 5));
            for d in [&x, &other] {
                let (mut apart, mut at_once) = (v.clone(), v.clone());
                let multiply = |v: f32, x: f32| v * x;
                through(activation, InputPart::Whole, Zip { v: &mut apart, x: &x, join: multiply });
                divide(&mut apart, d, stabilizer, stabilizer.epsilon());
                let epsilon = stabilizer.epsilon();
                through(activation, InputPart::Whole, Share { v: &mut at_once, x: &x, d, epsilon });
                assert_eq!(bits(&at_once), bits(&apart), "{activation:?}, {count} elements");
            }
        }
        for other in [Stabilizer::Absolute(0.0), Stabilizer::Clip(1e-6), Stabilizer::Rms(1e-6)] {
            assert!(!is_plain(other), "{other:?}");
        }
    }
}
