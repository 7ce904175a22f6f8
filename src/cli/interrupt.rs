//! Ctrl-C and requests to end: the work stops at its next pause, so that temporary files are removed.

use std::sync::atomic::{AtomicBool, Ordering};

use relprop::output::abandon_files;
use relprop::{Error, ErrorKind, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Exit status of a program that a second Ctrl-C ends at once, as shells have it.
const STATUS: i32 = 130;

/// Listens for Ctrl-C, and for the signals that end a program where there are such, from now on. Where that is not
/// possible they end the program as usual.
pub fn listen() {
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            abandon_files();
            std::process::exit(STATUS);
        }
    });
}

/// # Errors
/// Once a signal came.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Err(interrupted("interrupted before the work was done", "run the command again"));
    }
    Ok(())
}

/// Work that is done when a signal came too late to stop it: whoever sent it must still see that it came.
///
/// # Errors
/// Once a signal came.
pub fn check_done() -> Result<()> {
    check().map_err(|_| interrupted("interrupted after all results were written", "they are whole and can be used"))
}

fn interrupted(message: &str, help: &str) -> Error {
    Error::new(ErrorKind::Io, message).help(help)
}
