//! What an explanation gives: relevance, the logits and targets it is for, and each layer's sums.

/// What one layer did with the relevance that arrived: it measures, it never alters.
///
/// at_output = at_input + bias + epsilon + dropped.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LayerSums {
    /// Relevance that arrives at the layer's output.
    pub at_output: f64,
    /// Relevance that it gives to its inputs.
    pub at_input: f64,
    /// Relevance that its bias absorbs: Σ λ b̃ q.
    pub bias: f64,
    /// Relevance that the stabiliser absorbs: Σ λ (stab(d) − d) q.
    pub epsilon: f64,
    /// The rest: outputs that no group serves, denominators of zero, rounding, and whatever a rule does not conserve.
    pub dropped: f64,
    /// How many relevances that it gives are NaN or infinite.
    pub nonfinite: u64,
}

impl LayerSums {
    /// Sets the rest from the other sums.
    pub(crate) fn close(&mut self) {
        self.dropped = self.at_output - self.at_input - self.bias - self.epsilon;
    }

    /// Adds another sample's sums.
    pub(crate) fn add(&mut self, other: &LayerSums) {
        self.at_output += other.at_output;
        self.at_input += other.at_input;
        self.bias += other.bias;
        self.epsilon += other.epsilon;
        self.dropped += other.dropped;
        self.nonfinite += other.nonfinite;
    }
}
