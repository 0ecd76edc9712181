//! The comparison of `nvl-validate diff`, for Python.

use std::collections::HashMap;
use std::path::PathBuf;

use golden::Dump;
use pyo3::prelude::*;
use validate::arguments::NOISE_FACTOR;
use validate::tolerance::{Preset, Unpaired};
use validate::{DiffOptions, NameMap, Noise, Policy, Relation, diff, report};

use crate::error::{exception, of_validate};
use crate::threads;

/// Compares two dumps; whether the candidate passes, and the report in each format that was asked for.
#[pyfunction]
#[pyo3(signature = (
    golden, candidate, *, policy = None, preset = None, names = None, relation = None, noise = Vec::new(),
    noise_factor = NOISE_FACTOR, ignore_unpaired = false, verify = true, formats = Vec::new(), all = false
))]
#[expect(clippy::too_many_arguments, reason = "the options of `nvl-validate diff`, by keyword")]
pub(crate) fn compare(
    py: Python<'_>,
    golden: PathBuf,
    candidate: PathBuf,
    policy: Option<PathBuf>,
    preset: Option<String>,
    names: Option<String>,
    relation: Option<String>,
    noise: Vec<PathBuf>,
    noise_factor: f64,
    ignore_unpaired: bool,
    verify: bool,
    formats: Vec<String>,
    all: bool,
) -> PyResult<(bool, HashMap<String, String>)> {
    let preset = match preset.as_deref() {
        None => None,
        Some(name) => Some(Preset::named(name).ok_or_else(|| {
            let names = Preset::ALL.map(|preset| format!("`{}`", preset.name())).join(", ");
            exception(py, &format!("preset: expected one of {names}, found `{name}`"), None)
        })?),
    };
    if !(noise_factor.is_finite() && noise_factor >= 1.0) {
        let message = format!("noise_factor: expected a number from 1 on, found `{noise_factor}`");
        return Err(exception(py, &message, None));
    }
    let relation = relation.map(|name| relation_of(py, &name)).transpose()?;
    let mut presentations = Vec::with_capacity(formats.len());
    for name in formats {
        presentations.push(report::format(&name).ok_or_else(|| {
            let names: Vec<String> =
                report::FORMATS.iter().map(|format| format!("`{}`", format.name)).collect();
            let names = names.join(", ");
            exception(py, &format!("format: expected one of {names}, found `{name}`"), None)
        })?);
    }
    let result = threads::run(py, || {
        let mut policy = policy.map_or_else(|| Ok(Policy::default()), Policy::read)?;
        if preset.is_some() {
            policy.preset = preset;
        }
        if ignore_unpaired {
            policy.unpaired = Unpaired::Ignore;
        }
        let names = names.as_deref().map(NameMap::read).transpose()?;
        let golden = Dump::open(&golden)?;
        let candidate = Dump::open(&candidate)?;
        let runs: Vec<Dump> = noise.iter().map(Dump::open).collect::<Result<_, _>>()?;
        let noise = if runs.is_empty() {
            None
        } else {
            Some(Noise::measure(&golden, &runs, noise_factor, verify, &|_| {})?)
        };
        diff(
            &golden,
            &candidate,
            &DiffOptions {
                noise: noise.as_ref(),
                names: names.as_ref(),
                relation,
                verify,
                ..DiffOptions::new(&policy)
            },
        )
    })?;
    let report = result.map_err(|error| of_validate(py, &error))?;
    let options = report::Options { all, colour: false };
    let texts =
        presentations.into_iter().map(|format| (format.name.to_owned(), format.render(&report, options)));
    Ok((report.passes(), texts.collect()))
}

fn relation_of(py: Python<'_>, name: &str) -> PyResult<Relation> {
    Relation::named(name).ok_or_else(|| {
        let names = Relation::ALL.map(|relation| format!("`{}`", relation.name())).join(", ");
        exception(py, &format!("relation: expected one of {names}, found `{name}`"), None)
    })
}

/// Whether a file of this extension that begins with `head` is an earlier report.
#[pyfunction]
pub(crate) fn is_report(extension: &str, head: &str) -> bool {
    report::is_report(extension, head)
}
