//! Ctrl-C: the work stops between two blocks of samples, so that temporary files are removed.

use std::sync::atomic::{AtomicBool, Ordering};

use relprop::{Error, ErrorKind, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Exit status of a program that a second Ctrl-C ends at once, as shells have it.
const STATUS: i32 = 130;

/// Listens for Ctrl-C from now on; where that is not possible, Ctrl-C ends the program as usual.
pub fn listen() {
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(STATUS);
        }
    });
}

/// # Errors
/// Once Ctrl-C was pressed.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Err(Error::new(ErrorKind::Io, "interrupted; no result was written").help("run the command again"));
    }
    Ok(())
}
