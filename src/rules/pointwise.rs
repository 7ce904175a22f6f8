//! What elementwise layers y = f(x) do with relevance.
//!
//! ```text
//! pass               R_in = R                   Bach et al. 2015, On Pixel-Wise Explanations
//! gradient           R_in = f′(x) R             the chain rule
//! deconvnet          R_in = R⁺                  Zeiler & Fergus 2014, Visualizing and Understanding Convolutional Networks
//! guided backprop    R_in = R⁺ where x > 0      Springenberg et al. 2015, Striving for Simplicity
//! ReLU-β-smooth      R_in = σ(βx) R             Dombrowski et al. 2019, Explanations can be manipulated and geometry is to blame
//! ```
//!
//! The last three are made for rectifiers. σ(βx) is the derivative of softplus with β, `Activation::Softplus`: the
//! gradient of a network whose rectifiers are smooth, at the values of the one that is there.
//!
//! Where tools differ: all pass relevance through rectifiers. zennit's presets pass it through every activation that is a
//! module, and take the gradient of one that is called as a function; captum passes it through relu, tanh and dropout and
//! refuses gelu, silu and sigmoid. At a dead rectifier pass and gradient differ only where relevance arrives there: below
//! flat, w² and box, which do not multiply by x. Guided backprop and deconvnet are zennit's composites, and methods of
//! their own in captum and innvestigate, by the same formulas; β-smooth is zennit's alone.

/// What an elementwise layer y = f(x) does with relevance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PointwiseRule {
    /// R_in = R: activations neither make nor lose relevance.
    Pass,
    /// R_in = f′(x) R: the chain rule.
    Gradient,
    /// R_in = R⁺; for rectifiers.
    Deconvnet,
    /// R_in = R⁺ where x > 0; for rectifiers.
    GuidedBackprop,
    /// R_in = σ(βx) R; for rectifiers.
    BetaSmooth {
        /// β: the larger, the nearer to the rectifier's own derivative.
        beta: f32,
    },
}

impl PointwiseRule {
    /// Whether the rule is made for rectifiers alone.
    pub fn is_for_rectifiers(self) -> bool {
        match self {
            PointwiseRule::Pass | PointwiseRule::Gradient => false,
            PointwiseRule::Deconvnet | PointwiseRule::GuidedBackprop | PointwiseRule::BetaSmooth { .. } => true,
        }
    }

    /// The rule's name, with its parameters, as reports print it.
    pub fn describe(self) -> String {
        match self {
            PointwiseRule::Pass => "pass".to_owned(),
            PointwiseRule::Gradient => "gradient".to_owned(),
            PointwiseRule::Deconvnet => "deconvnet".to_owned(),
            PointwiseRule::GuidedBackprop => "guided-backprop".to_owned(),
            PointwiseRule::BetaSmooth { beta } => format!("beta-smooth({beta})"),
        }
    }
}
