//! A plan in the making: which source tensors belong to which normalized ones, and what is wrong with them.

use std::collections::{HashMap, HashSet};

use super::inputs::{check_inputs, of_no_weight};
use super::row::{Action, Row};
use super::source_tensor::SourceTensor;
use crate::TensorProblem;
use crate::architecture::{Architecture, Duplicate, Mapping, NameMatch, TensorLayout};
use crate::normalized::TorchDtype;

/// A plan in the making.
pub(super) struct PlanBuilder<'a> {
    architecture: &'a Architecture,
    duplicates: &'a [Duplicate],
    /// Shapes of all normalized tensors, whatever part is written.
    shapes: HashMap<&'a str, &'a [usize]>,
    /// Shapes of the source tensors that are fused.
    fused: &'a [TensorLayout],
    pub(super) rows: Vec<Row>,
    /// The normalized tensors by name, those of parts that are left out included.
    pub(super) made: HashMap<String, Made>,
    pub(super) problems: Vec<TensorProblem>,
}

/// A normalized tensor, and where its sources are.
pub(super) struct Made {
    /// What becomes of its sources.
    pub(super) names: NameMatch,
    /// Each source's place in the rows, in the order of its names, where it was found.
    pub(super) sources: Vec<Option<usize>>,
}

impl<'a> PlanBuilder<'a> {
    pub(super) fn new(
        architecture: &'a Architecture,
        expected: &'a [TensorLayout],
        fused: &'a [TensorLayout],
        duplicates: &'a [Duplicate],
    ) -> Self {
        let shapes = expected.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
        Self {
            architecture,
            duplicates,
            shapes,
            fused,
            rows: Vec::new(),
            made: HashMap::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, source: SourceTensor) {
        let Some(names) = self.architecture.names.of_source(&source.name) else {
            return self.unknown(source);
        };
        match names.mapping {
            Mapping::Value(field) => {
                self.skip(source, format!("a buffer, not a weight: its value is `{field}`"), None)
            }
            Mapping::Skip(reason) => self.skip(source, reason.to_string(), None),
            Mapping::Refuse(reason) => {
                self.problems.push(TensorProblem::Refused { name: source.name, reason })
            }
            _ => match self.duplicates.iter().find(|duplicate| duplicate.name == source.name) {
                Some(duplicate) => self.skip(source, duplicate.reason.to_string(), Some(*duplicate)),
                None => self.make(source, names),
            },
        }
    }

    fn make(&mut self, source: SourceTensor, names: NameMatch) {
        if names.targets.iter().any(|target| !self.shapes.contains_key(target.as_str())) {
            return self.unknown(source);
        }
        // What has several sources is looked at when all are there.
        if names.sources.len() == 1 {
            let expected = self.source_shape(&names);
            if source.shape != expected {
                let problem = TensorProblem::Shape { name: source.name, expected, found: source.shape };
                return self.problems.push(problem);
            }
            if TorchDtype::from_dtype(source.dtype).is_none() {
                return self.problems.push(of_no_weight(&source));
            }
        }
        let row = self.rows.len();
        let place = names.sources.iter().position(|name| *name == source.name).unwrap_or_default();
        for target in &names.targets {
            let made = self
                .made
                .entry(target.clone())
                .or_insert_with(|| Made { sources: vec![None; names.sources.len()], names: names.clone() });
            // Another line of the table makes it, too.
            let taken = if made.names == names {
                made.sources[place]
            } else {
                made.sources.iter().find_map(|&row| row)
            };
            match taken {
                Some(first) => self.problems.push(TensorProblem::Collision {
                    name: source.name.clone(),
                    target: target.clone(),
                    first: self.rows[first].source.name.clone(),
                }),
                None => made.sources[place] = Some(row),
            }
        }
        let (action, reason) = (Action::Kept, String::new());
        self.rows.push(Row { source, action, reason, outputs: Vec::new(), same_as: None });
    }

    fn skip(&mut self, source: SourceTensor, reason: String, same_as: Option<Duplicate>) {
        self.rows.push(Row { source, action: Action::Skipped, reason, outputs: Vec::new(), same_as });
    }

    fn unknown(&mut self, source: SourceTensor) {
        self.problems.push(TensorProblem::Unknown { name: source.name, file: source.file });
    }

    /// Names what is missing of `expected`, and what is wrong with tensors that have several sources.
    pub(super) fn finish(&mut self, expected: &[TensorLayout], dtype: Option<TorchDtype>) {
        // Three targets of one missing `qkv` are one problem.
        let mut named: HashSet<String> = self.problems.iter().filter_map(expected_name).collect();
        for tensor in expected {
            let made = self.made.get(&tensor.name);
            let found = |place: usize| made.and_then(|made| made.sources[place]);
            let names = made.map(|made| made.names.clone());
            let Some(names) = names.or_else(|| self.architecture.names.of_target(&tensor.name)) else {
                let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
                self.problems.push(TensorProblem::Missing { name, shape });
                continue;
            };
            let rows: Option<Vec<usize>> = (0..names.sources.len()).map(found).collect();
            if let Some(rows) = rows {
                if rows.len() > 1 {
                    let sources: Vec<&SourceTensor> =
                        rows.iter().map(|&row| &self.rows[row].source).collect();
                    self.problems.extend(check_inputs(names.mapping, tensor, &sources, self.fused, dtype));
                }
                continue;
            }
            let missing: Vec<String> = (0..names.sources.len())
                .filter(|&i| found(i).is_none())
                .map(|i| names.sources[i].clone())
                .collect();
            for name in missing.into_iter().filter(|name| named.insert(name.clone())) {
                self.problems.push(if names.sources.len() == 1 {
                    TensorProblem::Missing { name, shape: self.source_shape(&names) }
                } else {
                    TensorProblem::MissingInput { name, target: tensor.name.clone() }
                });
            }
        }
    }

    /// The shape of a source that is alone: that of its target, or what it is cut into together.
    fn source_shape(&self, names: &NameMatch) -> Vec<usize> {
        let shapes = || names.targets.iter().filter_map(|target| self.shapes.get(target.as_str()));
        let mut shape = shapes().next().map(|shape| shape.to_vec()).unwrap_or_default();
        if let Mapping::Split { along, .. } = names.mapping
            && let Some(size) = shape.get_mut(along.dimension())
        {
            *size = shapes().filter_map(|shape| shape.get(along.dimension())).sum();
        }
        shape
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
