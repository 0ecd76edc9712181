//! Which sites are recorded: the globs of `--sites`, as the Rust programs read them.

use globset::{Glob, GlobSet, GlobSetBuilder};
use pyo3::prelude::*;

use crate::error::exception;

/// A set of globs; a name that one of them matches is chosen.
#[pyclass(frozen, module = "nvl_golden._core")]
pub(crate) struct Sites {
    set: GlobSet,
}

#[pymethods]
impl Sites {
    #[new]
    fn new(py: Python<'_>, patterns: Vec<String>) -> PyResult<Self> {
        let mut builder = GlobSetBuilder::new();
        for pattern in &patterns {
            let glob = Glob::new(pattern).map_err(|error| {
                let message = format!("sites: expected a glob, found `{pattern}`: {}", error.kind());
                exception(py, &message, None)
            })?;
            builder.add(glob);
        }
        let set = builder.build().map_err(|error| exception(py, &format!("sites: {error}"), None))?;
        Ok(Sites { set })
    }

    fn matches(&self, name: &str) -> bool {
        self.set.is_match(name)
    }
}
