//! Rules for products of two activations.

/// How the relevance of y = a ⊙ b is shared between a and b.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BilinearRule {
    /// A factor that comes out of a sigmoid, a hard sigmoid or a softmax is a gate: it gets nothing and its partner
    /// everything (the signal-take-all of Arras et al. 2017, arXiv:1706.07206). So is the inverse of something, by which
    /// the partner is normalised (Ali et al. 2022, arXiv:2202.07304: the deviation is a constant). Half each where neither
    /// or both are gates.
    Gated,
    /// Half each: the uniform rule for products of AttnLRP (Achtibat et al. 2024, arXiv:2402.05602, proposition 3.3).
    Half,
    /// These shares of R: what [`Gated`](Self::Gated) becomes once the factors are known.
    Shares([f32; 2]),
    /// The derivative: R b to a and R a to b.
    Gradient,
}

impl BilinearRule {
    /// The rule's name, as reports print it.
    pub fn describe(self) -> String {
        match self {
            BilinearRule::Gated => "gated".to_owned(),
            BilinearRule::Half | BilinearRule::Shares([0.5, 0.5]) => "half".to_owned(),
            BilinearRule::Shares([a, b]) => format!("gated({a}, {b})"),
            BilinearRule::Gradient => "gradient".to_owned(),
        }
    }
}
