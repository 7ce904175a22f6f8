//! The built program, driven as users drive it.

mod bad_input;
mod drawing;
mod explain;
mod formats;
mod inspect_and_demo;
mod linear_model;
mod pixels;
mod program;
mod signals;
