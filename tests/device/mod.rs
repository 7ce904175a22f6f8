//! The GPU adapter that tests run on.

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

/// One device for all tests of a process, so that each kernel is compiled once.
pub fn shared() -> Arc<Gpu> {
    static SHARED: OnceLock<Arc<Gpu>> = OnceLock::new();
    Arc::clone(SHARED.get_or_init(|| Arc::new(pollster::block_on(Gpu::open(&options())).expect("the adapter opens"))))
}
