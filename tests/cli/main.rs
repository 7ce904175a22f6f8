//! The built program, driven as users drive it.

#[cfg(feature = "gpu")]
mod adapter;
mod attributors;
mod bad_input;
mod bench;
mod composites;
#[cfg(feature = "gpu")]
mod devices;
mod drawing;
mod evaluate;
mod explain;
mod formats;
#[cfg(feature = "gpu")]
mod gpu;
mod inspect_and_demo;
mod linear_model;
mod pixels;
mod program;
mod signals;
#[cfg(feature = "gpu")]
mod tune;
