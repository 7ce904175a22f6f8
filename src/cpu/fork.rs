//! Where a step goes on by two quotients of one element: both made in one pass.
//!
//! αβ divides the relevance of a layer by two denominators. Each by itself is a copy, a division and a product over what the step made; together
//! they read that and both denominators once.

use super::loops::{is_plain, plainly_stabilized};
use super::simd::{self, Level, Loop};
use crate::plan::{BufferId, Denominator, Op};
use crate::rules::Stabilizer;

/// Two ways to go on from an element, each by quotients of the same two denominators d and e.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fork {
    /// d and e.
    pub(super) by: [BufferId; 2],
    /// Whether the first buffer holds d + e in place of d.
    of_sum: bool,
    epsilon: f32,
    ways: Ways,
    /// For sums of quotients, what those of d and of e are multiplied by on each way. Else the factors of d's quotient and of e's stand on the
    /// diagonal.
    factors: [[f32; 2]; 2],
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ways {
    /// By both quotients, each of which counts for nothing where its denominator has the wrong sign.
    Sums,
    /// The first by d, the second by e.
    Apart,
    /// The first by e, the second by d.
    Crossed,
}

impl Fork {
    /// The fork that two chains make, if they do.
    pub(super) fn of(one: &[Op], other: &[Op]) -> Option<Fork> {
        match (one, other) {
            (
                [Op::MultiplyQuotients { by, of_sum, factors, stabilizer }],
                [
                    Op::MultiplyQuotients {
                        by: by_other,
                        of_sum: of_other,
                        factors: factors_of_other,
                        stabilizer: other,
                    },
                ],
            ) if (by, of_sum, stabilizer) == (by_other, of_other, other) && is_held(*stabilizer) => {
                let factors = [*factors, *factors_of_other];
                Some(Fork { by: *by, of_sum: *of_sum, epsilon: stabilizer.epsilon(), ways: Ways::Sums, factors })
            }
            _ => {
                let (one, other) = (Divided::of(one)?, Divided::of(other)?);
                if one.stabilizer != other.stabilizer || !is_held(one.stabilizer) {
                    return None;
                }
                let epsilon = one.stabilizer.epsilon();
                let fork = |by, of_sum, ways, [of_d, of_e]: [f32; 2]| {
                    Some(Fork { by, of_sum, epsilon, ways, factors: [[of_d, 0.0], [0.0, of_e]] })
                };
                let factors = [one.factor, other.factor];
                match (one.by, other.by) {
                    (Denominator::Buffer(d), Denominator::Buffer(e)) => fork([d, e], false, Ways::Apart, factors),
                    (Denominator::Rest { of, without }, Denominator::Buffer(e)) if without == e => {
                        fork([of, e], true, Ways::Apart, factors)
                    }
                    (Denominator::Buffer(e), Denominator::Rest { of, without }) if without == e => {
                        fork([of, e], true, Ways::Crossed, [other.factor, one.factor])
                    }
                    _ => None,
                }
            }
        }
    }

    /// Sends `v` the two ways: the first in place, the second to `other`. `first` and `second` hold what [`by`](Self::by) does beside it.
    pub(super) fn run(&self, v: &mut [f32], other: &mut [f32], [first, second]: [&[f32]; 2]) {
        let body = Body { fork: *self, v, other, first, second };
        match (self.ways, self.of_sum) {
            (Ways::Sums, true) => simd::run(Level::widest(), Sums::<true>(body)),
            (Ways::Sums, false) => simd::run(Level::widest(), Sums::<false>(body)),
            (Ways::Apart, true) => simd::run(Level::widest(), Apart::<true, false>(body)),
            (Ways::Apart, false) => simd::run(Level::widest(), Apart::<false, false>(body)),
            (Ways::Crossed, true) => simd::run(Level::widest(), Apart::<true, true>(body)),
            (Ways::Crossed, false) => simd::run(Level::widest(), Apart::<false, true>(body)),
        }
    }
}

struct Body<'a> {
    fork: Fork,
    v: &'a mut [f32],
    other: &'a mut [f32],
    first: &'a [f32],
    second: &'a [f32],
}

impl Body<'_> {
    /// Both ways from each element, by d and e.
    #[inline(always)]
    fn each<const OF_SUM: bool>(self, ways: impl Fn(f32, f32, f32) -> (f32, f32)) {
        let Body { v, other, first, second, .. } = self;
        let length = v.len();
        let beside = first[..length].iter().zip(&second[..length]);
        for ((v, other), (&first, &e)) in v.iter_mut().zip(&mut other[..length]).zip(beside) {
            let d = if OF_SUM { first - e } else { first };
            (*v, *other) = ways(*v, d, e);
        }
    }
}

struct Sums<'a, const OF_SUM: bool>(Body<'a>);

impl<const OF_SUM: bool> Loop for Sums<'_, OF_SUM> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        let Fork { epsilon, factors: [[a, b], [c, d]], .. } = self.0.fork;
        self.0.each::<OF_SUM>(|v, raising, lowering| {
            let raised = if raising <= 0.0 { 0.0 } else { 1.0 / (raising + epsilon) };
            let lowered = if lowering >= 0.0 { 0.0 } else { 1.0 / (lowering - epsilon) };
            (v * (a * raised + b * lowered), v * (c * raised + d * lowered))
        });
    }
}

struct Apart<'a, const OF_SUM: bool, const CROSSED: bool>(Body<'a>);

impl<const OF_SUM: bool, const CROSSED: bool> Loop for Apart<'_, OF_SUM, CROSSED> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        let Fork { epsilon, factors: [[of_d, _], [_, of_e]], .. } = self.0.fork;
        self.0.each::<OF_SUM>(|v, d, e| {
            let by_d = v / plainly_stabilized(epsilon, d) * of_d;
            let by_e = v / plainly_stabilized(epsilon, e) * of_e;
            if CROSSED { (by_e, by_d) } else { (by_d, by_e) }
        });
    }
}

/// Whether stab(d) is d and an ε of its sign, by which 1 can be divided.
fn is_held(stabilizer: Stabilizer) -> bool {
    is_plain(stabilizer) && stabilizer.epsilon() >= f32::MIN_POSITIVE
}

/// v / stab(d), times a factor.
struct Divided {
    by: Denominator,
    stabilizer: Stabilizer,
    factor: f32,
}

impl Divided {
    fn of(ops: &[Op]) -> Option<Self> {
        let [Op::Divide { by, stabilizer, rms: None }, rest @ ..] = ops else { return None };
        let factor = match rest {
            [] => 1.0,
            [Op::Scale(factor)] => *factor,
            _ => return None,
        };
        Some(Divided { by: *by, stabilizer: *stabilizer, factor })
    }
}

#[cfg(test)]
mod tests {
    use super::super::loops::{divide, divide_by_rest, multiply_quotients, scale};
    use super::*;

    const STABILIZER: Stabilizer = Stabilizer::Absolute(1e-6);
    const D: BufferId = BufferId::of(0);
    const E: BufferId = BufferId::of(1);

    fn divided(by: Denominator, factor: f32) -> Vec<Op> {
        let divide = Op::Divide { by, stabilizer: STABILIZER, rms: None };
        [divide].into_iter().chain((factor != 1.0).then_some(Op::Scale(factor))).collect()
    }

    fn quotients(of_sum: bool, factors: [f32; 2]) -> Vec<Op> {
        vec![Op::MultiplyQuotients { by: [D, E], of_sum, factors, stabilizer: STABILIZER }]
    }

    /// What a chain makes of v by itself.
    fn by_itself(ops: &[Op], v: &[f32], first: &[f32], second: &[f32]) -> Vec<f32> {
        let mut v = v.to_vec();
        for op in ops {
            match *op {
                Op::Scale(factor) => scale(&mut v, factor),
                Op::Divide { by: Denominator::Buffer(id), .. } => {
                    divide(&mut v, if id == D { first } else { second }, STABILIZER, STABILIZER.epsilon());
                }
                Op::Divide { .. } => divide_by_rest(&mut v, first, second, STABILIZER, STABILIZER.epsilon()),
                Op::MultiplyQuotients { of_sum, factors, .. } => match of_sum {
                    true => multiply_quotients::<true>(&mut v, [first, second], factors, STABILIZER),
                    false => multiply_quotients::<false>(&mut v, [first, second], factors, STABILIZER),
                },
                _ => unreachable!("no other operation here"),
            }
        }
        v
    }

    #[test]
    fn two_ways_at_once_are_each_by_itself_within_rounding() {
        let [buffer_d, buffer_e] = [D, E].map(Denominator::Buffer);
        let rest = Denominator::Rest { of: D, without: E };
        let ways = [
            (quotients(true, [2.0, 1.0]), quotients(true, [2.0, -1.0])),
            (quotients(false, [1.7, 0.7]), quotients(false, [1.7, -0.7])),
            (divided(buffer_d, 2.0), divided(buffer_e, -1.0)),
            (divided(rest, 1.7), divided(buffer_e, 1.0)),
            (divided(buffer_e, -1.0), divided(rest, 2.0)),
        ];
        for length in [1, 15, 16, 77, 300] {
            let number = |seed: usize| move |index: usize| ((index * 37 + seed * 11) % 101) as f32 / 25.0 - 2.0;
            let [v, second] = [3, 5].map(|seed| (0..length).map(number(seed)).collect::<Vec<_>>());
            let mut first: Vec<f32> = (0..length).map(number(8)).collect();
            first[length / 2] = 0.0;
            for (one, other) in &ways {
                let fork = Fork::of(one, other).unwrap();
                let (mut found, mut found_other) = (v.clone(), vec![f32::NAN; length]);
                let beside = fork.by.map(|id| if id == D { &first[..] } else { &second[..] });
                fork.run(&mut found, &mut found_other, beside);
                for (found, ops) in [(found, one), (found_other, other)] {
                    for (found, expected) in found.iter().zip(by_itself(ops, &v, &first, &second)) {
                        // Two quotients of either sign may cancel.
                        assert!(
                            (found - expected).abs() <= 4e-7 * (expected.abs() + 100.0),
                            "{found}, not {expected}: {ops:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_denominator_that_is_no_number_spoils_its_own_way_alone() {
        let [d, e] = [D, E].map(Denominator::Buffer);
        let fork = Fork::of(&divided(d, 2.0), &divided(e, -1.0)).unwrap();
        let (mut v, mut other) = ([3.0; 20], [0.0; 20]);
        fork.run(&mut v, &mut other, [&[1.5; 20], &[f32::NAN; 20]]);
        assert!(v.iter().all(|v| (v - 4.0).abs() < 1e-4), "{v:?}");
        assert!(other.iter().all(|v| v.is_nan()), "{other:?}");
    }

    #[test]
    fn ways_by_other_denominators_or_operations_are_no_fork() {
        let [d, e] = [D, E].map(Denominator::Buffer);
        let other = |by| vec![Op::Divide { by, stabilizer: Stabilizer::Absolute(1e-3), rms: None }];
        let exact = |by| vec![Op::Divide { by, stabilizer: Stabilizer::Absolute(0.0), rms: None }];
        let rest_of = Denominator::Rest { of: E, without: D };
        for (one, two) in [
            (divided(d, 2.0), other(e)),
            (exact(d), exact(e)),
            (divided(Denominator::Rest { of: D, without: E }, 1.0), divided(d, 1.0)),
            (divided(rest_of, 1.0), divided(rest_of, 1.0)),
            (quotients(true, [2.0, 1.0]), quotients(false, [2.0, 1.0])),
            (quotients(true, [2.0, 1.0]), divided(e, 1.0)),
            (divided(d, 1.0), Vec::new()),
            (divided(d, 1.0), [divided(e, 2.0), divided(e, 2.0)].concat()),
        ] {
            assert_eq!(Fork::of(&one, &two), None, "{one:?}, {two:?}");
        }
    }
}
