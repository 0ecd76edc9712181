//! Decides what is read and written: headers in, plan out, nothing touched.

mod output;
mod shards;
mod size;

pub use output::Output;
pub use shards::Shard;
pub use size::{ShardSize, human_bytes};

use std::collections::{HashMap, HashSet};

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::TensorProblem;
use crate::nemotron_vl::names::{Fate, fate, source_of};
use crate::nemotron_vl::parts::{PartName, buffers, name_in};
use crate::normalized::{Config, Part, TorchDtype, layout};
use crate::weights::Weights;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// The dtype to convert weights to; `None` keeps each.
    pub dtype: Option<TorchDtype>,
    /// The largest file, unless a single tensor is larger.
    pub max_shard_size: ShardSize,
}

/// A tensor of the source, as its file's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTensor {
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The file that has it.
    pub file: String,
}

/// Everything that a conversion will do to tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// A row for each tensor of the source, in the order of its files.
    pub rows: Vec<Row>,
    /// The tensors to write, in the order in which the model uses them.
    pub outputs: Vec<Output>,
    /// The files to write.
    pub shards: Vec<Shard>,
}

/// What becomes of one tensor of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The tensor.
    pub source: SourceTensor,
    /// What is done with it.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// Its targets, as places in [`Plan::outputs`].
    pub outputs: Vec<usize>,
    /// The tensor of the source whose bytes it must equal, or else nobody knows which of the two is meant.
    pub same_as: Option<String>,
}

/// What is done with a tensor of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Name and bytes stay.
    Kept,
    /// The bytes stay under another name.
    Renamed,
    /// The bytes go to several tensors.
    Split,
    /// The dtype changes; the name may, too.
    Converted,
    /// It is not written.
    Skipped,
}

impl SourceTensor {
    /// Every tensor of `weights`.
    pub fn all(weights: &Weights) -> Vec<Self> {
        weights
            .iter()
            .map(|tensor| Self {
                name: tensor.name.to_string(),
                dtype: tensor.dtype,
                shape: tensor.shape.to_vec(),
                file: tensor.file.name().to_string(),
            })
            .collect()
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

impl Plan {
    /// Plans the conversion of `tensors` under `config`: every one is accounted for exactly once, and together they make
    /// exactly what the configuration implies.
    ///
    /// # Errors
    /// Every tensor that is missing, unknown, of a wrong shape or dtype, in the way of another, or not supported.
    pub fn new(
        tensors: Vec<SourceTensor>,
        config: &Config,
        options: PlanOptions,
    ) -> Result<Self, Vec<TensorProblem>> {
        let whole = Config { part: Part::All, ..config.clone() };
        let expected = layout(&whole);
        let shapes: HashMap<&str, &[usize]> =
            expected.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
        let mut draft =
            Draft { config, shapes, rows: Vec::new(), made: HashMap::new(), problems: Vec::new() };
        for tensor in tensors {
            draft.take(tensor, options.dtype);
        }
        // Three targets of one missing `qkv` are one problem.
        let mut told: HashSet<String> = draft.problems.iter().filter_map(expected_name).collect();
        let mut missing = Vec::new();
        for tensor in expected.iter().filter(|tensor| !draft.made.contains_key(&tensor.name)) {
            let name = source_of(&tensor.name).unwrap_or_else(|| tensor.name.clone());
            if told.insert(name.clone()) {
                let shape = source_shape(&name, &tensor.shape);
                missing.push(TensorProblem::Missing { name, shape });
            }
        }
        let Draft { mut rows, mut made, mut problems, .. } = draft;
        problems.extend(missing);
        if !problems.is_empty() {
            return Err(problems);
        }

        let mut outputs = Vec::new();
        for tensor in layout(config) {
            if let Some(mut output) = made.remove(&tensor.name) {
                let row = &mut rows[output.row];
                match name_in(config.part, &output.name) {
                    PartName::InsideQkv => continue,
                    PartName::Plain(name) => (output.name, output.shape) = (name, tensor.shape),
                    PartName::Qkv(name) => {
                        (output.name, output.shape) = (name, row.source.shape.clone());
                        output.source_bytes = 0..row.source.bytes();
                    }
                }
                if !config.part.is_all() {
                    (row.action, row.reason) = describe_in_part(&row.source, &output);
                }
                row.outputs.push(outputs.len());
                outputs.push(output);
            }
        }
        // A split tensor's targets in the order of its rows.
        for row in &mut rows {
            row.outputs.sort_by_key(|&output| outputs[output].source_bytes.start);
        }
        let is_vision = config.part == Part::Vision;
        let buffers = if is_vision { buffers(&config.vision_config) } else { Vec::new() };
        let shards = shards::assign(&mut outputs, buffers, is_vision, options.max_shard_size);
        Ok(Self { rows, outputs, shards })
    }

    /// Bytes of all tensors to write.
    pub fn output_bytes(&self) -> u64 {
        self.outputs.iter().map(|output| output.bytes() as u64).sum()
    }
}

/// A plan in the making.
struct Draft<'a> {
    config: &'a Config,
    /// Shapes of all normalized tensors, whatever part is written.
    shapes: HashMap<&'a str, &'a [usize]>,
    rows: Vec<Row>,
    /// The outputs by name, those of parts that are left out included.
    made: HashMap<String, Output>,
    problems: Vec<TensorProblem>,
}

impl Draft<'_> {
    fn take(&mut self, source: SourceTensor, dtype: Option<TorchDtype>) {
        let Some((fate, targets)) = fate(&source.name) else { return self.unknown(source) };
        match fate {
            Fate::Value(buffer) => {
                self.skip(source, format!("a buffer, not a weight: its value is `{}`", buffer.field()));
            }
            Fate::Skip(reason) => self.skip(source, reason.to_string()),
            Fate::Refuse(reason) => {
                self.problems.push(TensorProblem::Refused { name: source.name, reason });
            }
            Fate::Keep | Fate::Rename(_) | Fate::SplitQkv(_) => self.make(source, fate, targets, dtype),
        }
    }

    fn make(&mut self, source: SourceTensor, fate: Fate, targets: Vec<String>, dtype: Option<TorchDtype>) {
        if self.is_tied_head(&source) {
            let same_as = EMBEDDING.to_string();
            let reason = format!("equal to `{EMBEDDING}`, which `tie_word_embeddings` uses in its place");
            let row =
                Row { source, action: Action::Skipped, reason, outputs: Vec::new(), same_as: Some(same_as) };
            self.rows.push(row);
            return;
        }
        let Some(shapes) =
            targets.iter().map(|target| self.shapes.get(target.as_str())).collect::<Option<Vec<_>>>()
        else {
            return self.unknown(source);
        };
        let expected = source_shape(&source.name, shapes[0]);
        if source.shape != expected {
            let problem = TensorProblem::Shape { name: source.name, expected, found: source.shape };
            self.problems.push(problem);
            return;
        }
        let Some(from) = TorchDtype::from_dtype(source.dtype) else {
            self.problems.push(TensorProblem::Dtype {
                name: source.name,
                expected: TorchDtype::CODES,
                found: source.dtype,
            });
            return;
        };
        let to = dtype.unwrap_or(from);
        let is_written = if source.name.starts_with("language_model.") {
            self.config.part.has_text()
        } else {
            self.config.part.has_vision()
        };
        let row = self.rows.len();
        let bytes = source.bytes() / targets.len();
        for (i, target) in targets.iter().enumerate() {
            let output = Output {
                name: target.clone(),
                dtype: to,
                shape: Vec::new(),
                row,
                source_bytes: i * bytes..(i + 1) * bytes,
                shard: 0,
                offset: 0,
            };
            if let Some(first) = self.made.insert(target.clone(), output) {
                self.problems.push(TensorProblem::Collision {
                    name: source.name.clone(),
                    target: target.clone(),
                    first: self.rows[first.row].source.name.clone(),
                });
            }
        }
        let (action, reason) = if is_written {
            describe(fate, &targets, from, to)
        } else {
            let part = if self.config.part == Part::Text { "text" } else { "vision" };
            (Action::Skipped, format!("not in the part that was asked for, `{part}`"))
        };
        self.rows.push(Row { source, action, reason, outputs: Vec::new(), same_as: None });
    }

    /// An output matrix beside tied embeddings: releases of transformers disagree on which of the two they use.
    fn is_tied_head(&self, source: &SourceTensor) -> bool {
        self.config.text_config.tie_word_embeddings && source.name == LM_HEAD
    }

    fn skip(&mut self, source: SourceTensor, reason: String) {
        let row = Row { source, action: Action::Skipped, reason, outputs: Vec::new(), same_as: None };
        self.rows.push(row);
    }

    fn unknown(&mut self, source: SourceTensor) {
        self.problems.push(TensorProblem::Unknown { name: source.name, file: source.file });
    }
}

/// The tensor that a problem is about, if the configuration implies it.
fn expected_name(problem: &TensorProblem) -> Option<String> {
    match problem {
        TensorProblem::Missing { name, .. }
        | TensorProblem::Shape { name, .. }
        | TensorProblem::Dtype { name, .. } => Some(name.clone()),
        _ => None,
    }
}

const EMBEDDING: &str = "language_model.model.embed_tokens.weight";
const LM_HEAD: &str = "language_model.lm_head.weight";

/// The shape of the source tensor `name`, one of whose targets has the shape `target`.
fn source_shape(name: &str, target: &[usize]) -> Vec<usize> {
    let mut shape = target.to_vec();
    if let Some((Fate::SplitQkv(targets), _)) = fate(name)
        && let Some(rows) = shape.first_mut()
    {
        *rows *= targets.len();
    }
    shape
}

fn describe_in_part(source: &SourceTensor, output: &Output) -> (Action, String) {
    let (action, reason) = if source.name == output.name {
        (Action::Kept, "the name is the same in both layouts".to_string())
    } else {
        (Action::Renamed, format!("the same tensor under the name `{}`", output.name))
    };
    match TorchDtype::from_dtype(source.dtype) {
        Some(from) if from != output.dtype => converted(from, output.dtype, &reason),
        _ => (action, reason),
    }
}

fn converted(from: TorchDtype, to: TorchDtype, reason: &str) -> (Action, String) {
    (Action::Converted, format!("{from} to {to}, rounded to nearest even; {reason}"))
}

fn describe(fate: Fate, targets: &[String], from: TorchDtype, to: TorchDtype) -> (Action, String) {
    let (action, reason) = match fate {
        Fate::SplitQkv(_) => {
            (Action::Split, "rows of queries, keys and values, one third each, in this order".to_string())
        }
        Fate::Rename(_) => (Action::Renamed, format!("the same tensor under the name `{}`", targets[0])),
        _ => (Action::Kept, "the name is the same in both layouts".to_string()),
    };
    if from == to { (action, reason) } else { converted(from, to, &reason) }
}
