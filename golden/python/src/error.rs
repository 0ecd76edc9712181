//! Errors of the Rust libraries as a Python exception.

use cli::escape;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

pyo3::create_exception!(
    nvl_golden,
    GoldenError,
    PyException,
    "What can be wrong with a dump, or with what is asked of one; `hint` says what to try, where it is known."
);

/// The exception that says what an error says.
pub(crate) fn exception(py: Python<'_>, message: &str, hint: Option<&str>) -> PyErr {
    let error = GoldenError::new_err(escape::terminal(message));
    match error.value(py).setattr("hint", hint) {
        Ok(()) => error,
        Err(worse) => worse,
    }
}

/// A text for one line of a terminal or of a job's log: what is not seen, or is a command there, is escaped.
#[pyfunction]
pub(crate) fn terminal(text: &str) -> String {
    escape::terminal(text)
}

pub(crate) fn of_golden(py: Python<'_>, error: &golden::Error) -> PyErr {
    exception(py, &error.to_string(), error.hint())
}

pub(crate) fn of_validate(py: Python<'_>, error: &validate::Error) -> PyErr {
    exception(py, &error.to_string(), error.hint())
}
