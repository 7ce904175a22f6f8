//! Weights that are on a device only, and read again where they are needed.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use super::engine::Engine;
use super::{Explainer, Reload};
use crate::error::{Error, ErrorKind, Result};
use crate::network::{LayerNode, Network};

/// Where a network with its weights comes from.
#[derive(Debug)]
pub(super) struct Source {
    reload: Reload,
    /// Of the parameters as they were given.
    fingerprint: u64,
    /// The network as it was given, until its weights are on the device.
    given: Mutex<Option<Arc<Network>>>,
}

/// The network to keep: without weights where a device holds them and they can be read again.
pub(super) fn released(
    network: Arc<Network>,
    engine: &Engine,
    reload: Option<Reload>,
) -> (Arc<Network>, Option<Source>) {
    match (engine, reload) {
        (Engine::Gpu { .. }, Some(reload)) => {
            let outline = Arc::new(network.without_weights());
            let fingerprint = fingerprint(&network);
            (outline, Some(Source { reload, fingerprint, given: Mutex::new(Some(network)) }))
        }
        (Engine::Gpu { .. } | Engine::Cpu { .. } | Engine::Reference, _) => (network, None),
    }
}

impl Explainer {
    /// The network with its weights, read again where they are on the device only.
    ///
    /// # Errors
    /// If it cannot be read, or is another network now.
    pub(super) fn network_with_weights(&self) -> Result<Arc<Network>> {
        let Some(source) = &self.weights else { return Ok(Arc::clone(&self.network)) };
        if let Some(given) = source.given.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(given);
        }
        let network = source.reload.read()?;
        if !is_alike(&network, &self.network) || fingerprint(&network) != source.fingerprint {
            return Err(Error::new(ErrorKind::Data, "the model is another one than when it was first read")
                .help("leave the file as it is while it is explained"));
        }
        Ok(Arc::new(network))
    }
}

/// A number that changes with any parameter.
fn fingerprint(network: &Network) -> u64 {
    let mut hasher = DefaultHasher::new();
    for tensor in network.layers().iter().flat_map(|node| node.layer.parameters()) {
        for block in tensor.data().chunks(1024) {
            let bits: Vec<u32> = block.iter().map(|number| number.to_bits()).collect();
            bits.hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Whether two networks have the same values and layers, as far as shapes, names and kinds say.
fn is_alike(a: &Network, b: &Network) -> bool {
    let values = |network: &Network| -> Vec<_> {
        network.values().iter().map(|value| (value.name.clone(), value.shape.clone())).collect()
    };
    let layers = |network: &Network| -> Vec<_> {
        let of_layer = |node: &LayerNode| (node.name.clone(), node.layer.kind(), node.inputs.clone(), node.output);
        network.layers().iter().map(of_layer).collect()
    };
    values(a) == values(b) && layers(a) == layers(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn network(outputs: usize) -> Network {
        let mut builder = Network::builder();
        let x = builder.input("x", [3]);
        let y = builder.dense("fc", x, Tensor::from_fn([outputs, 3], |i| i as f32), None).unwrap();
        builder.build(y).unwrap()
    }

    #[test]
    fn a_network_without_weights_is_alike_but_cannot_compute() {
        let full = network(2);
        let outline = full.without_weights();
        assert!(is_alike(&full, &outline) && !is_alike(&full, &network(4)));
        assert!(fingerprint(&full) == fingerprint(&network(2)) && fingerprint(&full) != fingerprint(&outline));
        assert_eq!(outline.check_weights().unwrap_err().node(), Some("fc"));
        let explainer =
            crate::Explainer::new(outline, &crate::Composite::preset("epsilon").unwrap(), crate::Backend::Cpu);
        assert_eq!(explainer.unwrap_err().kind(), ErrorKind::Argument);
    }
}
