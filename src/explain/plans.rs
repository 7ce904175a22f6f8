//! Plans that were made ready, by what was asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;

/// How many plans are kept: each holds memory, on a device a lot.
const KEPT: usize = 4;

/// The plans used last.
#[derive(Debug)]
pub(super) struct Plans<K, P> {
    /// The one used last comes last.
    known: Mutex<Vec<(K, Arc<P>)>>,
}

impl<K, P> Default for Plans<K, P> {
    fn default() -> Self {
        Plans { known: Mutex::default() }
    }
}

impl<K: Clone + PartialEq, P> Plans<K, P> {
    /// The plan for what is asked; made if it is not there, and made anew where the one that is there does not serve.
    pub(super) fn find_or(
        &self,
        key: &K,
        serves: impl Fn(&P) -> bool,
        make: impl FnOnce() -> Result<P>,
    ) -> Result<Arc<P>> {
        let mut known = self.locked();
        let found = known.iter().position(|(asked, _)| asked == key).map(|position| known.remove(position).1);
        let found = match found.filter(|plan| serves(plan)) {
            Some(found) => found,
            None => {
                if known.len() == KEPT {
                    known.remove(0);
                }
                Arc::new(make()?)
            }
        };
        known.push((key.clone(), Arc::clone(&found)));
        Ok(found)
    }

    /// Every plan that is kept.
    #[cfg(feature = "gpu")]
    pub(super) fn all(&self) -> Vec<Arc<P>> {
        self.locked().iter().map(|(_, plan)| Arc::clone(plan)).collect()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<(K, Arc<P>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_used_last_are_kept() {
        let plans: Plans<usize, usize> = Plans::default();
        let made = |key: usize| {
            let mut made = false;
            plans
                .find_or(
                    &key,
                    |_| true,
                    || {
                        made = true;
                        Ok(key)
                    },
                )
                .unwrap();
            made
        };
        assert!((0..KEPT).all(made));
        assert!(!made(0));
        assert!(made(KEPT));
        assert!(!made(0), "the one used last stays");
        assert!(made(1), "the one used longest ago went");
    }
}
