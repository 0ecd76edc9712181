//! Writing files, for Python.

use std::path::PathBuf;

use pyo3::prelude::*;

/// Writes a file in the place of what is there: at every moment the old content or the new one has the name, whole.
#[pyfunction]
pub(crate) fn replace_file(py: Python<'_>, path: PathBuf, content: &[u8]) -> PyResult<()> {
    Ok(py.detach(|| store::replace_file(&path, content))?)
}
