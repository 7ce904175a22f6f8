//! Operators: what nodes compute, in one form for all opsets.

use std::sync::Arc;

use super::{Constant, ElementType, Resize, Sliding};
use crate::layers::Activation;
use crate::tensor::Tensor;

/// An elementwise operation of two values with NumPy's broadcasting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a · b.
    Mul,
    /// a / b; integers are cut towards zero.
    Div,
}

/// A function of each element that activations, normalisations and softmax are spelled out with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elementary {
    /// |x|.
    Abs,
    /// eˣ.
    Exp,
    /// ln x.
    Log,
    /// √x.
    Sqrt,
    /// 1 / x.
    Reciprocal,
}

impl Elementary {
    /// f(x).
    pub fn of(self, x: f32) -> f32 {
        match self {
            Elementary::Abs => x.abs(),
            Elementary::Exp => x.exp(),
            Elementary::Log => x.ln(),
            Elementary::Sqrt => x.sqrt(),
            Elementary::Reciprocal => x.recip(),
        }
    }
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// a = b.
    Equal,
    /// a > b.
    Greater,
    /// a < b.
    Less,
}

/// One number from many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Their average.
    Mean,
    /// Their sum.
    Sum,
    /// The greatest.
    Max,
    /// (Σ|x|ᵖ)^(1/p).
    Norm {
        /// p, 1 or more.
        p: i64,
    },
}

/// What a normalisation subtracts and divides by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalization {
    /// Mean and deviation over all axes behind the channels, of each channel by itself; scale and bias in inputs 1 and 2
    /// are one number a channel.
    Instance {
        /// ε, added to the variance.
        epsilon: f32,
    },
    /// Mean and deviation over the axes from `axis` to the last; scale and bias in inputs 1 and 2 broadcast.
    Layer {
        /// The first axis; negative counts from the end.
        axis: i64,
        /// ε, added to the variance.
        epsilon: f32,
        /// Whether the mean is subtracted (else it is the root of the mean square that divides).
        centred: bool,
    },
    /// Mean and deviation of groups of channels with all axes behind them; scale and bias in inputs 1 and 2.
    Group {
        /// How many groups there are.
        groups: i64,
        /// ε, added to the variance.
        epsilon: f32,
        /// Whether scale and bias are one number a group, not one a channel.
        by_group: bool,
    },
    /// (bias + alpha / size · Σ x²)^beta, with the sum over `size` channels around each.
    LocalResponse {
        /// Channels of a sum.
        size: i64,
        /// The factor of their mean square.
        alpha: f32,
        /// The exponent.
        beta: f32,
        /// What is added.
        bias: f32,
    },
    /// The norm of the elements along an axis.
    Norm {
        /// The axis; negative counts from the end.
        axis: i64,
        /// Which norm: 1 or 2.
        p: i64,
    },
}

/// What a pad adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PadMode {
    /// One number.
    Constant,
    /// The elements inside, mirrored at the outermost one.
    Reflect,
    /// The outermost element.
    Edge,
    /// The elements of the other end.
    Wrap,
}

/// What a node computes, with attributes in one form for all opsets.
///
/// What ONNX moved from attributes to inputs over time (axes, slices) is always an input here.
#[derive(Debug, Clone)]
pub enum Op {
    /// α A′ B′ + β C, with A′ and B′ transposed on demand.
    Gemm {
        /// The factor of the product.
        alpha: f32,
        /// The factor of C.
        beta: f32,
        /// Whether A is transposed first.
        trans_a: bool,
        /// Whether B is transposed first.
        trans_b: bool,
    },
    /// NumPy's matmul.
    MatMul,
    /// An elementwise operation of two values.
    Arithmetic(Arithmetic),
    /// a to the power b, element by element.
    Pow,
    /// The sum of any number of values, with broadcasting.
    Sum,
    /// −x.
    Neg,
    /// An elementwise non-linear function.
    Activation(Activation),
    /// Input 0, at least input 1 and at most input 2, where they are there.
    Clip,
    /// Input 0, times the slope in input 1 below zero.
    PRelu,
    /// An elementary function of each element.
    Elementary(Elementary),
    /// How two values compare, element by element.
    Compare(Comparison),
    /// Input 1 where input 0 is true, else input 2, with broadcasting.
    Where,
    /// Softmax or its logarithm.
    Softmax {
        /// The axis; negative counts from the end.
        axis: i64,
        /// Whether it runs over all axes from `axis` to the last at once, as before opset 13.
        to_end: bool,
        /// Whether it is the logarithm of softmax.
        log: bool,
    },
    /// (x − offset) · scale along the last axis.
    Scaler {
        /// What is subtracted: one number, or one a feature.
        offset: Arc<Tensor>,
        /// The factor: one number, or one a feature.
        scale: Arc<Tensor>,
    },
    /// (x − mean) / √(variance + ε) · scale + bias along axis 1, with scale, bias, mean and variance in inputs 1 to 4.
    BatchNormalization {
        /// ε.
        epsilon: f32,
    },
    /// x itself (also dropout, which does nothing at inference).
    Identity,
    /// x as another element type.
    Cast(ElementType),
    /// x as a matrix, split before `axis`.
    Flatten {
        /// The first axis of the columns; negative counts from the end.
        axis: i64,
    },
    /// Input 0 under the shape in input 1.
    Reshape {
        /// Whether 0 in the shape means the input's extent (else an empty axis).
        zero_copies: bool,
    },
    /// Input 0 without the axes in input 1, or without any axis of 1.
    Squeeze,
    /// Input 0 with axes of 1 at the positions in input 1.
    Unsqueeze,
    /// Axes reordered.
    Transpose {
        /// Axis `i` of the output is axis `order[i]` of the input; reversed if none.
        order: Option<Vec<i64>>,
    },
    /// Values joined along an axis.
    Concat {
        /// The axis; negative counts from the end.
        axis: i64,
    },
    /// Slices of input 0 along `axis` at the positions in input 1.
    Gather {
        /// The axis; negative counts from the end.
        axis: i64,
    },
    /// Input 0 from the starts in input 1 to the ends in 2, along the axes in 3, by the steps in 4.
    Slice,
    /// Input 0 repeated to the shape in input 1.
    Expand,
    /// Input 0 laid side by side with itself as often as input 1 says, axis by axis.
    Tile,
    /// Input 0 cut along an axis into one part an output.
    Split {
        /// The axis; negative counts from the end.
        axis: i64,
        /// How many parts there are, where the node says it; their lengths may be in input 1.
        parts: Option<i64>,
    },
    /// Input 0 with positions added or taken at the starts and ends of its axes, as many as input 1 says (all starts,
    /// then all ends) for the axes in input 3; input 2 has the number that is added.
    Pad {
        /// What is added.
        mode: PadMode,
        /// The number that is added where no input has it.
        value: f32,
    },
    /// Interpolation along axes.
    Resize(Resize),
    /// Blocks of channels become blocks of the image.
    DepthToSpace {
        /// Positions of a block along each axis.
        block: i64,
        /// Whether the channel changes slowest (CRD), not the place in the block (DCR).
        channel_first: bool,
    },
    /// Blocks of the image become blocks of channels.
    SpaceToDepth {
        /// Positions of a block along each axis.
        block: i64,
        /// Whether the channel changes slowest (CRD), not the place in the block (DCR).
        channel_first: bool,
    },
    /// A convolution of input 0 with the weight in input 1 and the bias in input 2.
    Conv {
        /// How the window moves.
        sliding: Sliding,
        /// Groups of channels that are kept apart.
        groups: i64,
    },
    /// A convolution the other way: from its outputs to its inputs.
    ConvTranspose {
        /// How the window moves.
        sliding: Sliding,
        /// Groups of channels that are kept apart.
        groups: i64,
        /// Positions behind each axis that the window does not reach.
        output_padding: Option<Vec<i64>>,
        /// The extents that padding is chosen for.
        output_shape: Option<Vec<i64>>,
    },
    /// The greatest element of each window.
    MaxPool(Sliding),
    /// The average of each window.
    AveragePool {
        /// How the window moves.
        sliding: Sliding,
        /// Whether padding counts as elements of 0.
        counts_padding: bool,
    },
    /// (Σ|x|ᵖ)^(1/p) of each window.
    LpPool {
        /// How the window moves.
        sliding: Sliding,
        /// p, 1 or more.
        p: i64,
    },
    /// Input 0 divided by what it is normalised with, after its mean is taken away where there is one.
    Normalization(Normalization),
    /// One number a channel from all axes behind the channels.
    GlobalPool(Reduction),
    /// One number from all elements along the axes in input 1.
    Reduce {
        /// Which number.
        reduction: Reduction,
        /// Whether the axes stay as axes of 1.
        keep_axes: bool,
        /// Whether no axes means none instead of all.
        empty_is_none: bool,
    },
    /// Input 0 in steps of the scale in input 1, with the zero point in input 2.
    Quantize {
        /// The axis of a scale of several numbers.
        axis: i64,
    },
    /// The real numbers of a quantised input 0, with the scale in input 1 and the zero point in input 2.
    Dequantize {
        /// The axis of a scale of several numbers.
        axis: i64,
    },
    /// The extents of a value.
    Shape {
        /// The first axis that is reported.
        start: i64,
        /// The axis before which the report ends; all if none.
        end: Option<i64>,
    },
    /// The number of elements of a value.
    Size,
    /// Numbers from input 0 to input 1 by input 2.
    Range,
    /// A tensor of the shape in input 0, filled with one number.
    ConstantOfShape(Constant),
    /// The product over all or some axes (input 1); used on shapes.
    ReduceProd {
        /// Whether the axes stay as axes of 1.
        keep_axes: bool,
    },
    /// Probabilities turned into a dictionary by class name.
    ZipMap,
    /// What relprop does not know.
    Unsupported {
        /// Why, in words; empty if the operator as such is unknown.
        reason: String,
    },
}

impl Op {
    /// The most inputs that a node of this operator can have.
    pub fn max_inputs(&self) -> usize {
        match self {
            Op::Neg
            | Op::MaxPool(_)
            | Op::AveragePool { .. }
            | Op::LpPool { .. }
            | Op::Normalization(Normalization::LocalResponse { .. } | Normalization::Norm { .. })
            | Op::GlobalPool(_)
            | Op::DepthToSpace { .. }
            | Op::SpaceToDepth { .. }
            | Op::Activation(_)
            | Op::Elementary(_)
            | Op::Softmax { .. }
            | Op::Scaler { .. }
            | Op::Cast(_)
            | Op::Flatten { .. }
            | Op::Transpose { .. }
            | Op::Shape { .. }
            | Op::Size
            | Op::ConstantOfShape(_)
            | Op::ZipMap => 1,
            Op::MatMul
            | Op::Arithmetic(_)
            | Op::Pow
            | Op::PRelu
            | Op::Compare(_)
            | Op::Reshape { .. }
            | Op::Squeeze
            | Op::Unsqueeze
            | Op::Gather { .. }
            | Op::Expand
            | Op::Tile
            | Op::Split { .. }
            | Op::Reduce { .. }
            | Op::ReduceProd { .. } => 2,
            // Dropout, which is read as the identity, has a ratio and a mode.
            Op::Gemm { .. }
            | Op::Range
            | Op::Identity
            | Op::Clip
            | Op::Where
            | Op::Normalization(
                Normalization::Instance { .. } | Normalization::Layer { .. } | Normalization::Group { .. },
            )
            | Op::Conv { .. }
            | Op::ConvTranspose { .. }
            | Op::Quantize { .. }
            | Op::Dequantize { .. } => 3,
            Op::Pad { .. } | Op::Resize(_) => 4,
            Op::Slice | Op::BatchNormalization { .. } => 5,
            Op::Sum | Op::Concat { .. } | Op::Unsupported { .. } => usize::MAX,
        }
    }
}
