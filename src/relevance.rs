//! What an explanation gives: relevance, the logits and targets it is for, and each layer's sums.

use crate::tensor::Tensor;

/// The relevance of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Relevance {
    /// The relevance of each float input: `[samples, …sample]`, or `[samples, targets, …sample]` where several targets
    /// were asked for; without the leading axis where one sample was given without it.
    pub inputs: Vec<Named>,
    /// The relevance of each value that was asked for by name, shaped likewise.
    pub kept: Vec<Named>,
    /// The explained outputs: `[samples, …output]`.
    pub logits: Tensor,
    /// Which output each relevance is for: `[samples, targets]`.
    pub targets: Tensor<usize>,
    /// What each layer did with its relevance, if a report was asked for.
    pub report: Option<Report>,
    /// What the backend did.
    pub run: Run,
}

impl Relevance {
    /// The relevance of the first float input.
    ///
    /// # Panics
    /// If the network has no float input; [`Explainer::explain`](crate::Explainer::explain) gives an error then.
    pub fn input(&self) -> &Tensor {
        &self.inputs[0].relevance
    }

    /// The logit of each target: `[samples, targets]`.
    pub fn scores(&self) -> Tensor {
        let outputs = self.logits.count() / self.logits.rows().max(1);
        let per_sample = self.targets.count() / self.logits.rows().max(1);
        let logits = self.logits.data();
        Tensor::from_fn(self.targets.shape().clone(), |position| {
            logits[position / per_sample * outputs + self.targets.data()[position]]
        })
    }
}

/// A value's name and its relevance.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// The name that the model gave the value.
    pub name: String,
    /// Its relevance.
    pub relevance: Tensor,
}

/// What a backend did for a batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Run {
    /// Pieces that the batch was cut into for a device; none on the CPU.
    pub chunks: usize,
    /// Kernels that a device ran; none on the CPU.
    pub dispatches: usize,
    /// Seconds that inputs took to the device; none on the CPU.
    pub upload: f64,
    /// Seconds that a device computed, if it can tell; uploads, computing and downloads of several chunks overlap.
    pub compute: Option<f64>,
    /// Seconds that results took from the device; none on the CPU.
    pub download: f64,
    /// Seconds of each of the plan's steps: on the CPU as if all threads had shared it, steps that run together with equal
    /// shares, on a device where it was asked to time them (`DeviceOptions::profile`).
    pub steps: Vec<f64>,
}

impl Run {
    /// Adds another batch's work; steps of different plans are no longer told apart, and fall.
    pub(crate) fn add(&mut self, other: &Run) {
        self.chunks += other.chunks;
        self.dispatches += other.dispatches;
        self.upload += other.upload;
        self.compute = self.compute.zip(other.compute).map(|(own, other)| own + other);
        self.download += other.download;
        self.steps.clear();
    }
}

/// What each layer did with the relevance that arrived, over all samples and targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The layers that took a rule, from the input on.
    pub layers: Vec<LayerReport>,
}

/// A layer's line of a [`Report`].
#[derive(Debug, Clone, PartialEq)]
pub struct LayerReport {
    /// The layer's name.
    pub name: String,
    /// The rule it got, with its parameters.
    pub rule: String,
    /// What became of its relevance.
    pub sums: LayerSums,
}

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
    /// Σ |dropped| over samples and targets, so that losses of opposite sign do not hide each other.
    pub unaccounted: f64,
    /// Σ |R| over the elements of the layer's output and inputs: what `unaccounted` is measured against.
    pub size: f64,
}

impl LayerSums {
    /// Whether all relevance is accounted for: at most a thousandth of it was dropped.
    ///
    /// A thousandth is far above the rounding of float32 sums and far below what a rule that does not conserve loses.
    pub fn conserves(&self) -> bool {
        self.nonfinite == 0 && self.unaccounted <= 1e-3 * self.size
    }

    /// Sets the rest from the other sums of one sample and target.
    pub(crate) fn close(&mut self) {
        self.dropped = self.at_output - self.at_input - self.bias - self.epsilon;
        self.unaccounted = self.dropped.abs();
    }

    /// Adds the sums of other samples.
    pub fn add(&mut self, other: &LayerSums) {
        self.at_output += other.at_output;
        self.at_input += other.at_input;
        self.bias += other.bias;
        self.epsilon += other.epsilon;
        self.dropped += other.dropped;
        self.nonfinite += other.nonfinite;
        self.unaccounted += other.unaccounted;
        self.size += other.size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(at_output: f64, at_input: f64) -> LayerSums {
        let mut sums =
            LayerSums { at_output, at_input, size: at_output.abs() + at_input.abs(), ..LayerSums::default() };
        sums.close();
        sums
    }

    #[test]
    fn losses_of_opposite_sign_do_not_hide_each_other() {
        let mut total = closed(10.0, 5.0);
        total.add(&closed(5.0, 10.0));
        approx::assert_abs_diff_eq!(total.dropped, 0.0);
        approx::assert_abs_diff_eq!(total.unaccounted, 10.0);
        assert!(!total.conserves());
    }

    #[test]
    fn rounding_is_no_loss_but_nan_is() {
        let rounded = closed(10.0, 10.0 - 1e-5);
        assert!(rounded.conserves());
        assert!(!LayerSums { nonfinite: 1, ..rounded }.conserves());
        assert!(!closed(10.0, 9.9).conserves());
    }
}
