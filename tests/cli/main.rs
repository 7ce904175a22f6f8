//! The built program, driven as users drive it.

mod bad_input;
mod explain;
mod inspect_and_demo;
mod program;
