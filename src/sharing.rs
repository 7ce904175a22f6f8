//! Parts of one work shared among threads that live no longer than it does.
//!
//! For work that is memory's more than arithmetic's: a device's executor and the checks around it have no pool of their own, and a common one
//! would make a thread that waits take up other callers' work.

/// Bytes that are worth a thread: it takes some 20 µs to start, and copies as many as these in ten times that.
const WORTHWHILE: usize = 2 << 20;

/// How many threads work on so many bytes is worth.
#[cfg_attr(not(feature = "gpu"), allow(dead_code))]
pub(crate) fn threads_for(bytes: usize) -> usize {
    #[cfg(all(feature = "threads", not(target_family = "wasm")))]
    {
        use std::sync::OnceLock;
        static CORES: OnceLock<usize> = OnceLock::new();
        let cores = *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
        (bytes / WORTHWHILE).clamp(1, cores)
    }
    #[cfg(not(all(feature = "threads", not(target_family = "wasm"))))]
    {
        let _ = (bytes, WORTHWHILE);
        1
    }
}

/// Does each part on this thread and `threads` − 1 others, as far as the system gives them.
pub(crate) fn share<T: Send>(parts: Vec<T>, threads: usize, work: impl Fn(T) + Sync) {
    #[cfg(all(feature = "threads", not(target_family = "wasm")))]
    if threads > 1 {
        use std::sync::{Mutex, PoisonError};
        let others = (threads - 1).min(parts.len().saturating_sub(1));
        let left = Mutex::new(parts);
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let worker = || {
            while let Some(part) = next() {
                work(part);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..others {
                if std::thread::Builder::new().spawn_scoped(scope, worker).is_err() {
                    break;
                }
            }
            worker();
        });
        return;
    }
    let _ = threads;
    parts.into_iter().for_each(work);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_part_is_done_once() {
        for threads in [1, 2, 7] {
            for parts in [0, 1, 5, 40] {
                let done: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                share((0..parts).collect(), threads, |part: usize| {
                    done[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1), "{parts} parts, {threads} threads");
            }
        }
    }

    #[test]
    fn few_bytes_are_worth_one_thread() {
        assert_eq!(threads_for(0), 1);
        assert_eq!(threads_for(WORTHWHILE), 1);
        assert!(threads_for(usize::MAX) >= 1);
    }
}
