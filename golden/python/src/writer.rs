//! A dump in the making, for Python.

use std::path::PathBuf;
use std::process;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use golden::background::Tensor;
use golden::{BackgroundWriter, Dtype, DumpWriter, Manifest, ManifestHead, NewEntry, Role, WriteOptions};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use serde_json::{Map, Value, json};

use crate::dlpack;
use crate::error::{exception, of_golden};

/// How long the interpreter is left alone before it is asked whether somebody has pressed Ctrl-C.
const PATIENCE: Duration = Duration::from_millis(100);

/// Writes a dump on a thread of its own.
#[pyclass(frozen, module = "nvl_golden._core")]
pub(crate) struct Writer {
    /// Taken only while the interpreter's lock is not held: who waits for one must not keep the other. Never taken in a process
    /// that was forked from the one that has begun the dump: another thread may have held it then, and holds it for ever.
    writer: RwLock<Option<BackgroundWriter>>,
    process: u32,
}

#[pymethods]
impl Writer {
    #[new]
    #[pyo3(signature = (path, *, replace, max_shard_bytes, max_queued_bytes))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        replace: bool,
        max_shard_bytes: u64,
        max_queued_bytes: u64,
    ) -> PyResult<Self> {
        let mut options = WriteOptions::default();
        options.replace = replace;
        options.max_shard_bytes = max_shard_bytes;
        let writer = py
            .detach(|| BackgroundWriter::new(DumpWriter::create_with(path, options)?, max_queued_bytes))
            .map_err(|error| of_golden(py, &error))?;
        Ok(Writer { writer: RwLock::new(Some(writer)), process: process::id() })
    }

    /// Appends a tensor; waits, without the interpreter's lock, while too much is waiting already.
    ///
    /// `flow` is what it was computed from, as a JSON object: `inputs` (keys of entries that were appended before, nearest first), `input_rows` and `operations`.
    #[pyo3(signature = (name, *, role, module, dtype, shape, data, sketch = None, step = 0, flow = None, extra = None))]
    #[expect(clippy::too_many_arguments, reason = "the fields of an entry, by keyword")]
    fn push(
        &self,
        py: Python<'_>,
        name: String,
        role: &str,
        module: String,
        dtype: &str,
        shape: Vec<usize>,
        data: &Bound<'_, PyAny>,
        sketch: Option<u64>,
        step: u64,
        flow: Option<&str>,
        extra: Option<&str>,
    ) -> PyResult<()> {
        self.check_process(py)?;
        let role = match role {
            "input" => Role::Input,
            "activation" => Role::Activation,
            "output" => Role::Output,
            _ => {
                let expected = "expected one of `input`, `activation`, `output`";
                return Err(exception(
                    py,
                    &format!("entry `{name}`: role: {expected}, found `{role}`"),
                    None,
                ));
            }
        };
        let dtype: Dtype =
            dtype.parse().map_err(|error| exception(py, &format!("entry `{name}`: {error}"), None))?;
        let extra = parse_object(py, extra.unwrap_or("{}"))?;
        let flow = flow.map(serde_json::from_str).transpose();
        let flow = flow.map_err(|error| exception(py, &format!("entry `{name}`: flow: {error}"), None))?;
        let data = dlpack::take(data).map_err(|error| of_entry(py, &name, error))?;
        let entry = NewEntry { name, role, module, step, flow, extra };
        let mut waiting = Some(Tensor { entry, dtype, shape, sketch, data });
        while let Some(tensor) = waiting.take() {
            waiting = py
                .detach(|| {
                    let writer = self.writer.read().unwrap_or_else(PoisonError::into_inner);
                    writer.as_ref().ok_or(golden::Error::WriterStopped)?.try_push(tensor, PATIENCE)
                })
                .map_err(|error| of_golden(py, &error))?;
            py.check_signals()?;
        }
        Ok(())
    }

    /// The bytes that wait to be written.
    fn queued_bytes(&self, py: Python<'_>) -> u64 {
        if self.check_process(py).is_err() {
            return 0;
        }
        py.detach(|| {
            let writer = self.writer.read().unwrap_or_else(PoisonError::into_inner);
            writer.as_ref().map_or(0, BackgroundWriter::queued_bytes)
        })
    }

    /// Writes what waits and the manifest, a JSON object without `entries`, and gives the folder its name.
    fn finish(&self, py: Python<'_>, head: &str) -> PyResult<()> {
        self.check_process(py)?;
        let head = parse_head(py, head)?;
        let taken = py.detach(|| self.writer.write().unwrap_or_else(PoisonError::into_inner).take());
        let mut writer = taken.ok_or_else(|| of_golden(py, &golden::Error::WriterStopped))?;
        writer.begin_finish(head);
        loop {
            let (ended, returned) = py.detach(move || (writer.wait(PATIENCE), writer));
            writer = returned;
            let result = match ended {
                Ok(true) => Ok(()),
                Err(error) => Err(of_golden(py, &error)),
                Ok(false) => match py.check_signals() {
                    Ok(()) => continue,
                    Err(interrupt) => Err(interrupt),
                },
            };
            py.detach(move || drop(writer));
            return result;
        }
    }

    /// Ends without a dump; nothing is left behind. Nothing happens in a process that was forked from the dump's own.
    fn abandon(&self, py: Python<'_>) {
        if self.check_process(py).is_err() {
            return;
        }
        py.detach(|| drop(self.writer.write().unwrap_or_else(PoisonError::into_inner).take()));
    }
}

impl Writer {
    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        if self.process == process::id() { Ok(()) } else { Err(of_golden(py, &golden::Error::Forked)) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // The thread that this waits for may itself wait for the interpreter, to give a tensor back.
            Python::attach(|py| py.detach(move || drop(writer)));
        }
    }
}

/// What is wrong with an entry's tensor, with the entry's name. What is no error, such as Ctrl-C, stays what it is.
fn of_entry(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyException>(py) {
        return error;
    }
    let wrapped = exception(py, &format!("entry `{name}`: {}", error.value(py)), None);
    wrapped.set_cause(py, Some(error));
    wrapped
}

fn parse_object(py: Python<'_>, json: &str) -> PyResult<Map<String, Value>> {
    // Python writes `NaN` and `Infinity`, which JSON does not have.
    store::json::parse_keeping_literals(json.as_bytes())
        .map_err(|error| exception(py, &format!("expected a JSON object: {error}"), None))
}

fn parse_head(py: Python<'_>, json: &str) -> PyResult<ManifestHead> {
    let mut object = parse_object(py, json)?;
    object.insert("format".to_owned(), json!(golden::manifest::FORMAT));
    object.insert("version".to_owned(), json!(golden::manifest::VERSIONS[0]));
    object.insert("entries".to_owned(), json!([]));
    let manifest: Manifest = serde_json::from_value(Value::Object(object))
        .map_err(|error| exception(py, &format!("manifest: {error}"), None))?;
    Ok(manifest.head())
}
