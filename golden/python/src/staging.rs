//! A folder in the making, for Python.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use store::StagingError;

use crate::error::exception;

/// What stands in the lock of the temporary folder.
const MARK: &[u8] = b"nvl-golden\n";

/// A folder that appears under its name when it is complete. Discarded, or killed, it leaves what was there before.
#[pyclass(frozen, module = "nvl_golden._core")]
pub(crate) struct Staging {
    staging: Mutex<Option<store::Staging>>,
    folder: PathBuf,
}

#[pymethods]
impl Staging {
    /// Begins the folder that will be called `target`; no other process can meanwhile.
    #[new]
    fn new(py: Python<'_>, target: PathBuf) -> PyResult<Self> {
        let staging =
            py.detach(|| store::Staging::exclusive(&target, MARK)).map_err(|error| of_staging(py, &error))?;
        Ok(Staging { folder: staging.dir(), staging: Mutex::new(Some(staging)) })
    }

    /// Where its files are written.
    #[getter]
    fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// Gives the folder its name, where nothing may be. With `check`, in the place of what is there: `check` is called with the
    /// folder that is replaced, once nobody can change that any more, and refuses it by an exception.
    #[pyo3(signature = (check = None))]
    fn publish(&self, py: Python<'_>, check: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let Some(staging) = self.take() else {
            return Err(exception(py, "expected a folder in the making, found one that has ended", None));
        };
        let published = match check {
            None => staging.publish().map_err(Failure::from),
            Some(check) => staging.publish_over(|replaced: &Path| {
                check.call1((replaced,)).map(|_| ()).map_err(Failure::Refused)
            }),
        };
        published.map_err(|failure| match failure {
            Failure::Staging(error) => of_staging(py, &error),
            Failure::Refused(error) => error,
        })
    }

    /// Removes what was written.
    fn discard(&self, py: Python<'_>) {
        let staging = self.take();
        py.detach(|| drop(staging));
    }
}

impl Staging {
    fn take(&self) -> Option<store::Staging> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Why a folder did not get its name.
enum Failure {
    Staging(StagingError),
    /// What `check` has raised.
    Refused(PyErr),
}

impl From<StagingError> for Failure {
    fn from(error: StagingError) -> Self {
        Failure::Staging(error)
    }
}

fn of_staging(py: Python<'_>, error: &StagingError) -> PyErr {
    exception(py, &error.to_string(), None)
}
