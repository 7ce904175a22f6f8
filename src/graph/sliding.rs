//! Attributes of operators that slide a window or interpolate, as the model states them and unchecked.

/// How a window moves, with the model's own numbers; what is left out has ONNX's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sliding {
    /// Positions of the window along each axis; a convolution's weight has them too.
    pub kernel: Option<Vec<i64>>,
    /// How far it moves; 1 if left out.
    pub strides: Option<Vec<i64>>,
    /// Distance of its positions; 1 if left out.
    pub dilations: Option<Vec<i64>>,
    /// What is around the input.
    pub padding: Padding,
    /// Whether the last window may reach beyond the padding.
    pub ceil: bool,
}

/// What is around the input of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Padding {
    /// Positions before each axis, then behind each axis; none if left out.
    Explicit(Option<Vec<i64>>),
    /// As much as gives an output for every stride, the odd one behind.
    SameUpper,
    /// As much as gives an output for every stride, the odd one in front.
    SameLower,
    /// Nothing.
    Valid,
}

impl Default for Padding {
    fn default() -> Self {
        Padding::Explicit(None)
    }
}

/// How a resize maps positions and elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// How an element is found between positions.
    pub interpolation: Interpolation,
    /// Where an output's position lies in the input.
    pub coordinates: Coordinates,
    /// Where the factors are.
    pub scales: Scales,
    /// The axes that factors and extents are for; all if left out.
    pub axes: Option<Vec<i64>>,
    /// What extents mean that would change the proportions.
    pub policy: Policy,
}

/// How a resize finds an element between positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest position.
    Nearest(Rounding),
    /// Between the two positions around.
    Linear,
}

/// Which position is the nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// The closer one; the lower one of two.
    PreferFloor,
    /// The closer one; the upper one of two.
    PreferCeil,
    /// The lower one.
    Floor,
    /// The upper one.
    Ceil,
    /// The lower one where the axis grows, the upper one where it shrinks, as before opset 11.
    Simple,
}

/// Where an output's position lies in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// (x + ½) / scale − ½.
    HalfPixel,
    /// That, about the centre of the output that the scale has without rounding.
    HalfPixelSymmetric,
    /// (x + ½) / scale − ½, but 0 for an output of one position.
    PytorchHalfPixel,
    /// (x + ½) / scale.
    TfHalfPixelForNearest,
    /// x / scale.
    Asymmetric,
    /// The first and the last position stay.
    AlignCorners,
}

/// Where the factors of a resize are.
#[derive(Debug, Clone, PartialEq)]
pub enum Scales {
    /// In the node.
    Attribute(Vec<f32>),
    /// In an input; extents may stand in the input behind it.
    Input(usize),
}

/// What extents mean that would change the proportions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They are taken as they are.
    Stretch,
    /// The largest output within them that keeps the proportions.
    NotLarger,
    /// The smallest output around them that keeps the proportions.
    NotSmaller,
}
