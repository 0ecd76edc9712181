//! The Python module `nvl_golden._core`: the Rust part of the recorder.
//!
//! It writes dumps on its own thread ([`writer`]), reads and checks them ([`dump`]), and compares them as `nvl-validate diff`
//! does ([`comparison`]). Nothing here depends on torch: tensors come through DLPack ([`dlpack`]).

mod comparison;
mod dlpack;
mod dump;
mod error;
mod files;
mod sites;
mod staging;
mod stand_ins;
mod threads;
mod writer;

use pyo3::prelude::*;

/// The compiled half of `nvl_golden`.
#[pymodule]
mod _core {
    use golden::Dtype;
    use pyo3::prelude::*;
    use pyo3::types::{IntoPyDict as _, PyTuple};
    use validate::arguments::NOISE_FACTOR;
    use validate::report::FORMATS;
    use validate::tolerance::Preset;

    #[pymodule_export]
    use super::comparison::compare;
    #[pymodule_export]
    use super::comparison::is_report;
    #[pymodule_export]
    use super::cpu_vendor;
    #[pymodule_export]
    use super::dump::Dump;
    #[pymodule_export]
    use super::error::GoldenError;
    #[pymodule_export]
    use super::error::terminal;
    #[pymodule_export]
    use super::files::replace_file;
    #[pymodule_export]
    use super::sites::Sites;
    #[pymodule_export]
    use super::staging::Staging;
    #[pymodule_export]
    use super::stand_ins::refuse_stand_ins;
    #[pymodule_export]
    use super::writer::Writer;

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "a Python module's own name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// The commit, where it is known.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "as above")]
    const __commit__: Option<&str> = cli::COMMIT;

    /// The version, and the commit where it is known.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "as above")]
    const __build__: &str = cli::VERSION;

    /// Adds the lists that the crates have: of dtypes, formats and presets.
    #[pymodule_init]
    fn lists(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("DTYPES", PyTuple::new(module.py(), Dtype::ALL.map(Dtype::name))?)?;
        let computed = Dtype::ALL.into_iter().filter(|dtype| dtype.size_bytes() > 1);
        let precision = computed.filter_map(|dtype| Some((dtype.name(), dtype.precision()?)));
        module.add("PRECISION", precision.into_py_dict(module.py())?)?;
        let extensions = FORMATS.iter().map(|format| (format.name, format.extension));
        module.add("EXTENSIONS", extensions.into_py_dict(module.py())?)?;
        module.add("PRESETS", PyTuple::new(module.py(), Preset::ALL.map(Preset::name))?)?;
        module.add("NOISE_FACTOR", NOISE_FACTOR)
    }
}

/// Who made the processor, as it says itself.
#[pyo3::pyfunction]
fn cpu_vendor() -> Option<String> {
    golden::cpu_vendor()
}
