//! Graphics drivers stay loaded when the last device that used them is gone. A process of its own: no device of another test
//! may hold the driver.

#![cfg(target_os = "linux")]

use std::collections::BTreeSet;

use relprop::gpu::{DeviceOptions, Gpu, adapters};

/// The libraries that are loaded into this process.
fn loaded() -> BTreeSet<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.filter(|path| path.contains(".so")).map(str::to_owned).collect()
}

#[test]
fn what_a_driver_leaves_to_a_threads_end_is_there_when_it_ends() {
    let without = loaded();
    let first = adapters(&DeviceOptions::default()).first().expect("an adapter").to_string();
    let with = loaded();
    assert!(with.difference(&without).next().is_some(), "a list of adapters loads no driver");
    let device = DeviceOptions { adapter: Some(first), ..DeviceOptions::default() };
    // As a server might: a thread opens a device, closes it and ends.
    let user = std::thread::spawn(move || drop(pollster::block_on(Gpu::open(&device)).unwrap()));
    user.join().unwrap();
    // What a driver loads for one device alone may go with that.
    assert_eq!(with.difference(&loaded()).collect::<Vec<_>>(), Vec::<&String>::new());
}
