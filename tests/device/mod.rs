//! The GPU adapter that tests run on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use relprop::gpu::{DeviceOptions, Gpu, adapters};

/// Names the adapter: the one that `RELPROP_TEST_ADAPTER` is part of the name of, else the best there is, software too.
pub fn options() -> DeviceOptions {
    let adapter = std::env::var("RELPROP_TEST_ADAPTER").ok().unwrap_or_else(|| {
        let found = adapters(&DeviceOptions::default());
        let first = found.first().expect("no GPU adapter: run tests/run.sh, which installs a software driver");
        first.to_string()
    });
    DeviceOptions { adapter: Some(adapter), ..DeviceOptions::default() }
}

/// A device for each of two tests that run at once, each for all tests that come to it: a software adapter compiles kernels on
/// one thread a device, which takes longer than all that the tests compute.
pub fn shared() -> Arc<Gpu> {
    static SHARED: [OnceLock<Arc<Gpu>>; 2] = [const { OnceLock::new() }; 2];
    static TESTS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static TURN: usize = TESTS.fetch_add(1, Ordering::Relaxed) % SHARED.len();
    }
    let device = &SHARED[TURN.with(|turn| *turn)];
    Arc::clone(device.get_or_init(|| Arc::new(pollster::block_on(Gpu::open(&options())).expect("the adapter opens"))))
}
