//! Threads to compute on, in a process that may be forked from one that has had some.

use std::process;
use std::sync::OnceLock;

use pyo3::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::error::exception;

/// Runs on rayon's threads without the interpreter's lock; on new ones in a process that was forked when there were some
/// already: work that is given to those would wait for ever.
pub(crate) fn run<R: Send>(py: Python<'_>, work: impl FnOnce() -> R + Send) -> PyResult<R> {
    static BEGUN_IN: OnceLock<u32> = OnceLock::new();
    if *BEGUN_IN.get_or_init(process::id) == process::id() {
        return Ok(py.detach(work));
    }
    let pool = ThreadPoolBuilder::new().build().map_err(|error| {
        exception(py, &format!("expected threads to compute on, found none: {error}"), None)
    })?;
    Ok(py.detach(|| pool.install(work)))
}
