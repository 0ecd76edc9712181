//! Reading a dump, for Python.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{exception, of_golden};
use crate::threads;

/// An open dump: its manifest, checked against its mapped tensors.
#[pyclass(frozen, module = "nvl_golden._core")]
pub(crate) struct Dump {
    dump: golden::Dump,
}

#[pymethods]
impl Dump {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let dump = py.detach(|| golden::Dump::open(path)).map_err(|error| of_golden(py, &error))?;
        Ok(Dump { dump })
    }

    /// The dump's folder.
    #[getter]
    fn path(&self) -> PathBuf {
        self.dump.path().to_owned()
    }

    /// The manifest as JSON.
    #[getter]
    fn manifest_json(&self, py: Python<'_>) -> PyResult<String> {
        let bytes =
            self.dump.manifest().to_json().map_err(|error| exception(py, &error.to_string(), None))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The sum of all tensors' sizes.
    #[getter]
    fn size_bytes(&self) -> u64 {
        self.dump.size_bytes()
    }

    /// Checks that the bytes of every tensor are those that were recorded.
    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        threads::run(py, || self.dump.verify())?.map_err(|error| of_golden(py, &error))
    }

    /// The little-endian bytes of a tensor in row-major order.
    fn bytes<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyBytes>> {
        let tensor = self.dump.require(name).map_err(|error| of_golden(py, &error))?;
        let bytes = PyBytes::new(py, tensor.data());
        self.dump.check().map_err(|error| of_golden(py, &error))?;
        Ok(bytes)
    }
}
