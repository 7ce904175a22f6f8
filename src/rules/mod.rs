//! LRP rules as data: what each layer's relevance is divided by and multiplied with.
//!
//! For a linear layer z = W x + b a rule is a list of [`Group`]s; each has a factor λ, [`Term`]s with a sign σ, a bias
//! part, an optional mask on the sign of z and a stabiliser:
//!
//! ```text
//! d_g  = Σ_t σ_t W̃_t x̃_t + b̃_g
//! q_g  = mask_g(z) R / stab_g(d_g)          (or mask_g(z) R: gradient and its kin have no quotient)
//! R_in = Σ_g λ_g Σ_t σ_t x̃_t ⊙ W̃_tᵀ q_g + share_g
//! ```
//!
//! A rule names no layer, buffer or backend: one algorithm applies every rule to every linear layer. Each file of
//! this folder makes one rule's data; see `CONTRIBUTING.md` for how to add one.

mod alpha_beta;
mod bias;
mod bilinear;
mod bounds;
mod dialect;
mod epsilon;
mod flat;
mod gamma;
mod gradient;
mod pointwise;
mod stabilizer;
mod w_square;
mod zbox;

pub use bias::Bias;
pub use bilinear::BilinearRule;
pub use bounds::Bounds;
pub use dialect::Dialect;
pub use pointwise::PointwiseRule;
pub use stabilizer::Stabilizer;

/// What a layer does with the relevance that arrives at its output.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// For layers z = W x + b (and elementwise factors, which are diagonal W).
    Linear(LinearRule),
    /// For elementwise layers.
    Pointwise(PointwiseRule),
    /// For products of two activations.
    Bilinear(BilinearRule),
}

impl Rule {
    /// The rule's name, with its parameters, as reports print it.
    pub fn describe(&self) -> String {
        match self {
            Rule::Linear(rule) => rule.name.clone(),
            Rule::Pointwise(rule) => rule.describe(),
            Rule::Bilinear(rule) => rule.describe(),
        }
    }
}

/// A rule for linear layers: groups whose relevances are added.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearRule {
    /// The rule's name with its parameters.
    pub name: String,
    /// The groups; relevance is the sum of what each gives.
    pub groups: Vec<Group>,
    /// The lowest and highest values of the input, where a term reads them.
    pub bounds: Option<Bounds>,
}

/// One denominator with the terms it sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// λ: the group's share of the relevance.
    pub factor: f32,
    /// The terms of the denominator, each of which also receives relevance.
    pub terms: Vec<Term>,
    /// The part of the bias that stands in the denominator.
    pub bias: BiasPart,
    /// Which outputs the group serves, by the sign of the forward pass's own z (bias included).
    pub mask: Mask,
    /// How relevance becomes the quotient.
    pub quotient: Quotient,
    /// What becomes of the relevance that the bias and the stabiliser hold.
    pub share: Share,
}

/// σ x̃ W̃: one contribution to a denominator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// σ.
    pub sign: TermSign,
    /// x̃.
    pub input: InputPart,
    /// W̃.
    pub weight: WeightPart,
}

/// σ of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TermSign {
    /// +1.
    Plus,
    /// −1.
    Minus,
}

impl TermSign {
    /// +1 or −1.
    pub fn factor(self) -> f32 {
        match self {
            TermSign::Plus => 1.0,
            TermSign::Minus => -1.0,
        }
    }
}

/// x̃: which part of the input a term reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InputPart {
    /// x.
    Whole,
    /// max(x, 0).
    Positive,
    /// min(x, 0).
    Negative,
    /// |x|.
    Magnitude,
    /// The lowest value that the input can take.
    Low,
    /// The highest value that the input can take.
    High,
    /// 1 (0 in padding).
    One,
}

impl InputPart {
    /// Whether the part is zero wherever x is.
    pub fn vanishes_with_input(self) -> bool {
        match self {
            InputPart::Whole | InputPart::Positive | InputPart::Negative | InputPart::Magnitude => true,
            InputPart::Low | InputPart::High | InputPart::One => false,
        }
    }
}

/// W̃: how a term changes the weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WeightPart {
    /// c₊ W⁺ + c₋ W⁻: the weight itself is (1, 1), its positive part (1, 0).
    Scaled {
        /// c₊.
        positive: f32,
        /// c₋.
        negative: f32,
    },
    /// W², element by element.
    Squared,
    /// 1 wherever there is a weight.
    One,
}

impl WeightPart {
    /// W.
    pub const WHOLE: WeightPart = WeightPart::Scaled { positive: 1.0, negative: 1.0 };
    /// max(W, 0).
    pub const POSITIVE: WeightPart = WeightPart::Scaled { positive: 1.0, negative: 0.0 };
    /// min(W, 0).
    pub const NEGATIVE: WeightPart = WeightPart::Scaled { positive: 0.0, negative: 1.0 };
    /// ½ W.
    pub const HALF: WeightPart = WeightPart::Scaled { positive: 0.5, negative: 0.5 };
    /// ½ |W|.
    pub const HALF_MAGNITUDE: WeightPart = WeightPart::Scaled { positive: 0.5, negative: -0.5 };

    /// The part of one weight.
    pub fn of(self, weight: f32) -> f32 {
        match self {
            // What sums and products below would come to of any number, by one instruction in a loop.
            WeightPart::WHOLE => weight,
            WeightPart::POSITIVE if weight > 0.0 => weight,
            WeightPart::NEGATIVE if weight < 0.0 => weight,
            WeightPart::POSITIVE | WeightPart::NEGATIVE => 0.0,
            WeightPart::Scaled { positive, negative } => weight.max(0.0) * positive + weight.min(0.0) * negative,
            WeightPart::Squared => weight * weight,
            WeightPart::One => 1.0,
        }
    }

    /// Whether no two weights' parts differ in sign, so that a sum of them times rectified inputs never cancels.
    pub(crate) fn has_one_sign(self) -> bool {
        match self {
            WeightPart::Scaled { positive, negative } => positive * negative <= 0.0,
            WeightPart::Squared | WeightPart::One => true,
        }
    }

    /// Whether it is ½ W or ½ |W|, whose products make a denominator together and must round alike.
    pub(crate) fn is_half(self) -> bool {
        self == WeightPart::HALF || self == WeightPart::HALF_MAGNITUDE
    }
}

/// b̃: the part of the bias in a denominator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BiasPart {
    /// No bias.
    Absent,
    /// c₊ b⁺ + c₋ b⁻.
    Scaled {
        /// c₊.
        positive: f32,
        /// c₋.
        negative: f32,
    },
    /// b².
    Squared,
}

impl BiasPart {
    /// b.
    pub const WHOLE: BiasPart = BiasPart::Scaled { positive: 1.0, negative: 1.0 };

    /// The part of one bias.
    pub fn of(self, bias: f32) -> f32 {
        match self {
            BiasPart::Absent => 0.0,
            BiasPart::Scaled { positive, negative } => bias.max(0.0) * positive + bias.min(0.0) * negative,
            BiasPart::Squared => bias * bias,
        }
    }
}

/// Which outputs a group serves. z = 0 is in neither of the two signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Every output.
    Everywhere,
    /// Outputs with z > 0.
    Positive,
    /// Outputs with z < 0.
    Negative,
}

/// How relevance becomes what is sent back through the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quotient {
    /// q = R / stab(d).
    Divided(Stabilizer),
    /// q = R: the gradient and its kin.
    Plain,
}

/// What becomes of the relevance that the bias and the stabiliser hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Bias and ε keep it: it leaves the network there.
    Absorbed,
    /// Each in-image input of output i gets (b̃_i ± ε) q_i / N_i.
    Redistributed,
}

impl LinearRule {
    /// Whether every term multiplies by a part of x that vanishes with x, and nothing is redistributed: then an
    /// input of zero receives no relevance.
    pub fn vanishes_with_input(&self) -> bool {
        self.groups.iter().filter(|group| group.factor != 0.0).all(|group| {
            group.share == Share::Absorbed && group.terms.iter().all(|term| term.input.vanishes_with_input())
        })
    }

    /// Whether any term reads the lowest or highest values of the input.
    pub fn reads_bounds(&self) -> bool {
        let terms = self.groups.iter().flat_map(|group| &group.terms);
        terms.into_iter().any(|term| matches!(term.input, InputPart::Low | InputPart::High))
    }
}

fn plus(input: InputPart, weight: WeightPart) -> Term {
    Term { sign: TermSign::Plus, input, weight }
}

/// A group that serves every output with factor 1 and lets bias and ε absorb their part.
fn divided(terms: Vec<Term>, bias: BiasPart, stabilizer: Stabilizer) -> Group {
    Group {
        factor: 1.0,
        terms,
        bias,
        mask: Mask::Everywhere,
        quotient: Quotient::Divided(stabilizer),
        share: Share::Absorbed,
    }
}

fn minus(input: InputPart, weight: WeightPart) -> Term {
    Term { sign: TermSign::Minus, input, weight }
}
