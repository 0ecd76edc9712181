//! What `inspect` tells: the JSON's structure is this one.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::Conversion;
use crate::normalized::Config;
use crate::plan::Action;
use crate::resolve::{DefaultedField, IgnoredField, ReadCode};
use crate::source::Behaviour;

/// Everything that is known of a source checkpoint before it is converted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The folder's or repository's own name.
    pub name: String,
    /// `owner/name` on the hub, where it is known.
    pub repository: Option<String>,
    /// The commit, where it is known.
    pub revision: Option<String>,
    /// Numbers in all weights; buffers are not counted.
    pub parameters: u64,
    /// Size of all weights.
    pub bytes: u64,
    /// Weights by part of the model, in the order in which they are used.
    pub parts: Vec<PartSummary>,
    /// The files of weights.
    pub files: Vec<FileSummary>,
    /// Tensors of the source by what a conversion does with them.
    pub actions: BTreeMap<String, usize>,
    /// Tensors of the source that are no weights.
    pub buffers: Vec<BufferValue>,
    /// The model in a few lines, each a label and a text.
    #[serde(skip)]
    pub model: Vec<(&'static str, String)>,
    /// The normalized configuration.
    pub config: Config,
    /// Every behaviour that came from Python code.
    pub behaviours: Vec<Behaviour>,
    /// Fields that the source does not write and a library's default gave.
    pub defaults: Vec<DefaultedField>,
    /// Fields of the source that were not used.
    pub ignored_fields: Vec<IgnoredField>,
    /// Files of other repositories' code that were read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub code: Vec<ReadCode>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// The weights of one part of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartSummary {
    /// `vision_model`, `multi_modal_projector` or `language_model`.
    pub name: &'static str,
    /// Normalized tensors.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: u64,
    /// Their size.
    pub bytes: u64,
    /// Tensors by dtype.
    pub dtypes: BTreeMap<String, usize>,
}

/// A file of weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSummary {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its tensors.
    pub tensors: usize,
}

/// A tensor of the source that is no weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BufferValue {
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The field of the normalized configuration that takes its value, where one does.
    pub field: Option<&'static str>,
    /// That value.
    pub value: Option<Value>,
}

impl Inspection {
    /// Tells what `conversion` found in its source.
    pub fn of(conversion: &Conversion) -> Self {
        let (plan, config, findings) = (conversion.plan(), conversion.config(), conversion.findings());
        let (repository, revision) = conversion.source().location().repository();
        let architecture = conversion.source().architecture();
        let parts: Vec<PartSummary> =
            architecture.modules.iter().map(|name| part(name, conversion)).collect();
        let mut actions = BTreeMap::new();
        for row in &plan.rows {
            let name = match row.action {
                Action::Kept => "kept",
                Action::Renamed => "renamed",
                Action::Split => "split",
                Action::Combined => "combined",
                Action::Converted => "converted",
                Action::Skipped => "skipped",
            };
            *actions.entry(name.to_string()).or_default() += 1;
        }
        let skipped = plan.rows.iter().filter(|row| row.action == Action::Skipped);
        Self {
            name: conversion.source().location().name(),
            repository: repository.map(str::to_string),
            revision: revision.map(str::to_string),
            parameters: parts.iter().map(|part| part.parameters).sum(),
            bytes: parts.iter().map(|part| part.bytes).sum(),
            parts,
            files: conversion
                .source()
                .weights()
                .files()
                .iter()
                .map(|file| FileSummary {
                    name: file.name().to_string(),
                    bytes: file.bytes(),
                    tensors: file.header().tensors.len(),
                })
                .collect(),
            actions,
            buffers: skipped
                .map(|row| {
                    let field = architecture.names.field(&row.source.name);
                    BufferValue {
                        name: row.source.name.clone(),
                        dtype: row.source.dtype.to_string(),
                        shape: row.source.shape.clone(),
                        field,
                        value: field.and_then(|field| value_of(config, field)),
                    }
                })
                .collect(),
            model: (architecture.describe)(config),
            config: config.clone(),
            behaviours: findings.behaviours.clone(),
            defaults: findings.defaults.clone(),
            ignored_fields: findings.ignored.clone(),
            code: findings.code.clone(),
            warnings: findings.warnings.clone(),
        }
    }
}

fn part(name: &'static str, conversion: &Conversion) -> PartSummary {
    let mut summary = PartSummary { name, tensors: 0, parameters: 0, bytes: 0, dtypes: BTreeMap::new() };
    for output in &conversion.plan().outputs {
        if output.name.split('.').next() == Some(name) {
            summary.tensors += 1;
            summary.parameters += output.shape.iter().product::<usize>() as u64;
            summary.bytes += output.bytes() as u64;
            *summary.dtypes.entry(output.dtype.to_string()).or_default() += 1;
        }
    }
    summary
}

fn value_of(config: &Config, field: &str) -> Option<Value> {
    let json = serde_json::to_value(config).ok()?;
    json.pointer(&format!("/{}", field.replace('.', "/"))).cloned()
}
