//! Elementwise operations on an element on its way from one buffer to another: what fused epilogues are made of.
//!
//! A [`Plan`](crate::plan::Plan)'s steps and GPU kernels speak of the same operations; what names a buffer (`B`) and
//! what names columns of numbers (`P`) is theirs.

use crate::layers::Activation;
use crate::rules::{InputPart, Mask, Stabilizer};

/// A buffer as it is read: through an activation, then a part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Operand<B> {
    /// Where the elements are.
    pub buffer: B,
    /// The function applied on reading, so that a = f(z) is not stored beside z.
    pub activation: Option<Activation>,
    /// The part taken after the activation: whole, positive, negative or the magnitude.
    pub part: InputPart,
}

impl<B> Operand<B> {
    /// A buffer as it is.
    pub fn whole(buffer: B) -> Self {
        Operand { buffer, activation: None, part: InputPart::Whole }
    }

    /// Whether elements are read as they are.
    pub fn is_whole(&self) -> bool {
        self.activation.is_none() && self.part == InputPart::Whole
    }
}

/// What a quotient divides by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Denominator<B, P> {
    /// d, computed for each sample.
    Buffer(B),
    /// d is what is left of a buffer without another.
    Rest {
        /// d + e.
        of: B,
        /// e.
        without: B,
    },
    /// d is the same for every sample.
    Parameter(P),
}

/// An elementwise operation on the element v of a row on its way to the target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op<B, P> {
    /// v ← factor · v.
    Scale(f32),
    /// v ← v + p.
    AddParameter(P),
    /// v ← v · p.
    MultiplyParameter(P),
    /// v ← f(v).
    Activate(Activation),
    /// v ← the part of v.
    Part(InputPart),
    /// v ← v + factor · operand.
    Add {
        /// What is added.
        operand: Operand<B>,
        /// Its factor.
        factor: f32,
    },
    /// v ← v · operand.
    Multiply(Operand<B>),
    /// v ← v · (b + c).
    MultiplySum([B; 2]),
    /// v ← v · f′(z).
    MultiplyDerivative {
        /// f.
        activation: Activation,
        /// z.
        at: Operand<B>,
    },
    /// v ← v where z has the mask's sign, 0 elsewhere.
    Mask {
        /// z.
        by: Operand<B>,
        /// The sign.
        mask: Mask,
    },
    /// v ← v / stab(d); 0 where the stabilised denominator is exactly 0.
    Divide {
        /// d.
        by: Denominator<B, P>,
        /// stab.
        stabilizer: Stabilizer,
        /// The rms of d for each row, if `stabilizer` needs it and d is computed.
        rms: Option<B>,
    },
    /// v ← n / stab(v); 0 where the stabilised denominator is exactly 0.
    DivideInto {
        /// n.
        numerator: Operand<B>,
        /// stab, absolute or clipping.
        stabilizer: Stabilizer,
    },
    /// v ← v · (f / stab(d) + g / stab(e)), without the first where d ≤ 0 and the second where e ≥ 0.
    MultiplyQuotients {
        /// d, a sum of what raises, and e, of what lowers.
        by: [B; 2],
        /// Whether the first buffer holds d + e in place of d.
        of_sum: bool,
        /// f and g.
        factors: [f32; 2],
        /// stab, absolute or clipping.
        stabilizer: Stabilizer,
    },
    /// v ← v · (stab(d) − d): what the stabiliser absorbs.
    MultiplyDamping {
        /// d.
        by: Denominator<B, P>,
        /// stab.
        stabilizer: Stabilizer,
        /// The rms of d for each row, if `stabilizer` needs it and d is computed.
        rms: Option<B>,
    },
}

impl<B: Copy, P: Copy> Op<B, P> {
    /// The buffers that the operation reads.
    pub fn reads(&self) -> impl Iterator<Item = B> + use<B, P> {
        let buffers = match self {
            Op::Scale(_) | Op::AddParameter(_) | Op::MultiplyParameter(_) | Op::Activate(_) | Op::Part(_) => [None; 3],
            Op::Add { operand, .. } | Op::Multiply(operand) => [Some(operand.buffer), None, None],
            Op::MultiplySum([one, other]) | Op::MultiplyQuotients { by: [one, other], .. } => {
                [Some(*one), Some(*other), None]
            }
            Op::MultiplyDerivative { at, .. } => [Some(at.buffer), None, None],
            Op::DivideInto { numerator, .. } => [Some(numerator.buffer), None, None],
            Op::Mask { by, .. } => [Some(by.buffer), None, None],
            Op::Divide { by, rms, .. } | Op::MultiplyDamping { by, rms, .. } => match *by {
                Denominator::Buffer(buffer) => [Some(buffer), None, *rms],
                Denominator::Rest { of, without } => [Some(of), Some(without), *rms],
                Denominator::Parameter(_) => [None, None, *rms],
            },
        };
        buffers.into_iter().flatten()
    }

    /// The parameters that the operation reads.
    pub fn parameter(&self) -> Option<P> {
        match self {
            Op::AddParameter(parameter) | Op::MultiplyParameter(parameter) => Some(*parameter),
            Op::Divide { by: Denominator::Parameter(parameter), .. }
            | Op::MultiplyDamping { by: Denominator::Parameter(parameter), .. } => Some(*parameter),
            Op::Divide { by: Denominator::Buffer(_) | Denominator::Rest { .. }, .. }
            | Op::MultiplyDamping { by: Denominator::Buffer(_) | Denominator::Rest { .. }, .. }
            | Op::Scale(_)
            | Op::Activate(_)
            | Op::Part(_)
            | Op::Add { .. }
            | Op::Multiply(_)
            | Op::MultiplySum(_)
            | Op::MultiplyDerivative { .. }
            | Op::DivideInto { .. }
            | Op::MultiplyQuotients { .. }
            | Op::Mask { .. } => None,
        }
    }
}
