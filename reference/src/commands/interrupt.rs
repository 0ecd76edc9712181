//! Ctrl-C: the first asks to end cleanly, the second ends at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static STOPPED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C, and the signals that end a job, ask to stop.
pub fn listen() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOPPED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .context("listening for Ctrl-C")
}

/// Whether the user has asked to stop.
pub fn is_stopped() -> bool {
    STOPPED.load(Ordering::SeqCst)
}
