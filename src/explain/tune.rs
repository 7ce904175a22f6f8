//! Tuning: which of a device's kernels are the fastest for what is explained here.

use super::batch::Filled;
use super::engine::Engine;
use super::{Explainer, Input, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Clock, Tuning, Wanted};
use crate::start::Start;

impl Explainer {
    /// Times the kernels that may compute each product of a request on these inputs, and takes the fastest from now on: on this device, and where
    /// [`DeviceOptions::cache`](crate::gpu::DeviceOptions::cache) names a folder at every later start. No bit of any result changes.
    ///
    /// As many samples should come as are explained at a time, for the fastest kernel depends on their number; more than a
    /// [`Plan`](crate::plan::Plan) computes together add nothing. Explanations that this explainer has planned already go on as
    /// they are. `heed` is told now and then how many shapes of product are done, and of how many; its error ends the work.
    ///
    /// # Errors
    /// As [`explain`](Self::explain); [`ErrorKind::Unsupported`] where no device computes; [`ErrorKind::Io`] if the choices
    /// cannot be written; what `heed` gives.
    pub fn tune(
        &self,
        inputs: &[Input<'_>],
        request: &Request,
        clock: Clock,
        heed: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Tuning> {
        let Engine::Gpu { gpu, resident, .. } = &self.engine else {
            let message = format!("the {} backend has no kernels to choose from", self.backend());
            return Err(Error::new(ErrorKind::Unsupported, message).help("take the gpu backend"));
        };
        let batch = self.check(inputs, request.allow_nonfinite)?;
        request.targets.check(batch.samples, self.outputs())?;
        let ask = self.ask(request)?;
        let start = request.start.clone().unwrap_or_else(|| self.composite.default_start());
        self.check_start(&start, batch.samples, ask.targets)?;
        let mut filled = Filled::new(self, &batch, &ask);
        let work = filled.batch(inputs, batch.samples, &request.targets, &start);
        let (network, target) = (self.network_with_weights()?, self.target(&ask));
        let is_given = matches!(start, Start::Given(_));
        let wanted = Wanted { ask: &ask, target: &target, samples: batch.samples, is_given };
        pollster::block_on(gpu.tune(&network, &self.rules, (resident, &wanted), work, clock, heed))
    }
}
