//! Every backend that this machine has.

use relprop::{Backend, Result};

use super::adapters::adapters;
use super::engine::BackendChoice;

/// A backend that is there.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// How it is asked for.
    pub choice: BackendChoice,
    /// Whether it is a program that acts as a GPU.
    pub is_software: bool,
}

/// Every backend that is there but the reference: first the one that `auto` takes, last the software adapters.
///
/// # Errors
/// If the environment asks for devices that there are not.
pub fn candidates() -> Result<Vec<Candidate>> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for adapter in adapters()? {
        // Two of one name cannot be told apart: the first is the one that its name takes.
        let choice = BackendChoice { backend: Backend::Gpu, adapter: Some(adapter.full_name) };
        if candidates.iter().all(|known| known.choice != choice) {
            candidates.push(Candidate { choice, is_software: adapter.is_software });
        }
    }
    let software = candidates.iter().position(|candidate| candidate.is_software).unwrap_or(candidates.len());
    candidates.insert(software, Candidate { choice: BackendChoice::of(Backend::Cpu), is_software: false });
    Ok(candidates)
}
