//! The names of tensors, in the source and in the normalized checkpoint: one table, read in both directions.

use std::fmt::{self, Display};

use super::pattern::Captured;
use crate::TensorProblem;
use crate::normalized::TorchDtype;

/// What becomes of the source tensors that a line's patterns match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// The name stays.
    Keep,
    /// The name becomes this one.
    Rename(&'static str),
    /// The rows, or columns, are cut into these targets, in this order: each takes as many as it has.
    Split {
        /// The targets.
        targets: &'static [&'static str],
        /// What is cut.
        along: Axis,
        /// What the pieces are, for the ledger.
        reason: &'static str,
    },
    /// The sources become this one tensor: the rows of the first, then those of the second, and so on.
    Fuse(&'static str),
    /// The first source, times the second, its scale, becomes this tensor.
    Scale {
        /// The target.
        target: &'static str,
        /// Its dtype, unless the user asks for another.
        dtype: TorchDtype,
        /// What one number of the scale is for.
        block: Block,
    },
    /// A buffer: its value becomes this field of the normalized configuration.
    Value(&'static str),
    /// Left out on purpose, for this reason.
    Skip(&'static str),
    /// A part of the model that is not supported: this one.
    Refuse(&'static str),
}

/// The elements of a weight that have one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// All.
    All,
    /// Those of a row.
    Row,
    /// Blocks of so many elements along each dimension; the last one may be shorter.
    Of(&'static [usize]),
}

/// Along what a tensor is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Its first dimension.
    Rows,
    /// Its second and last dimension.
    Columns,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Patterns of the sources' names: `{i}` stands for a layer's number, a `*` at the end for any rest. Of several, each is an
    /// input of the targets, in this order.
    pub sources: &'static [&'static str],
    /// What becomes of them.
    pub mapping: Mapping,
}

/// A line of a table.
pub const fn rule(sources: &'static [&'static str], mapping: Mapping) -> Rule {
    Rule { sources, mapping }
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// Its lines; the first one that matches holds.
    pub rules: &'static [Rule],
    /// A source tensor with the first text anywhere in its name is refused before any line is read, for the second.
    pub refused: &'static [(&'static str, &'static str)],
}

/// The line that a tensor's name matches, with the names that its patterns then stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameMatch {
    /// What becomes of the sources.
    pub mapping: Mapping,
    /// The names of the sources.
    pub sources: Vec<String>,
    /// The names of the targets; none of a buffer, or of what is left out or refused.
    pub targets: Vec<String>,
}

impl Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rows => "rows",
            Self::Columns => "columns",
        })
    }
}

impl Axis {
    /// The dimension, from 0.
    pub const fn dimension(self) -> usize {
        match self {
            Self::Rows => 0,
            Self::Columns => 1,
        }
    }
}

impl Block {
    /// Its size along each dimension of a weight of the shape `weight`; `None` where it has not as many dimensions, or no size.
    pub(crate) fn sizes(self, weight: &[usize]) -> Option<Vec<usize>> {
        let sizes: Vec<usize> = match self {
            Self::All => weight.iter().map(|&size| size.max(1)).collect(),
            Self::Row => {
                weight.iter().enumerate().map(|(i, &size)| if i == 0 { 1 } else { size.max(1) }).collect()
            }
            Self::Of(sizes) => sizes.to_vec(),
        };
        (sizes.len() == weight.len() && !sizes.contains(&0)).then_some(sizes)
    }
}

impl Mapping {
    /// How many sources it takes, in words, if `count` are not so many.
    fn other_count(&self, count: usize) -> Option<&'static str> {
        match self {
            Self::Fuse(_) if count == 0 => Some("one source or more"),
            Self::Scale { .. } if count != 2 => Some("two sources, a weight and its scale"),
            Self::Keep | Self::Rename(_) | Self::Split { .. } if count != 1 => Some("one source"),
            _ => None,
        }
    }

    /// The patterns of the targets' names; none where the name stays, or nothing is made.
    fn targets(&self) -> &[&'static str] {
        match self {
            Self::Rename(target) | Self::Fuse(target) | Self::Scale { target, .. } => {
                std::slice::from_ref(target)
            }
            Self::Split { targets, .. } => targets,
            Self::Keep | Self::Value(_) | Self::Skip(_) | Self::Refuse(_) => &[],
        }
    }
}

impl Rule {
    fn filled(&self, captured: &Captured<'_>) -> NameMatch {
        let fill =
            |patterns: &[&str]| patterns.iter().map(|pattern| captured.fill(pattern)).collect::<Vec<_>>();
        let sources = fill(self.sources);
        let targets =
            if self.mapping == Mapping::Keep { sources.clone() } else { fill(self.mapping.targets()) };
        NameMatch { mapping: self.mapping, sources, targets }
    }
}

impl Names {
    /// What becomes of the source tensor `name`; `None` for one that no line matches.
    pub fn of_source(self, name: &str) -> Option<NameMatch> {
        if let Some((_, reason)) = self.refused.iter().find(|(text, _)| name.contains(text)) {
            let (mapping, sources) = (Mapping::Refuse(reason), vec![name.to_string()]);
            return Some(NameMatch { mapping, sources, targets: Vec::new() });
        }
        self.rules.iter().find_map(|rule| {
            let captured = rule.sources.iter().find_map(|source| Captured::of(source, name))?;
            Some(rule.filled(&captured))
        })
    }

    /// The lines that can't be followed: their number of sources is not what their mapping takes.
    pub(crate) fn wrong_lines(self) -> Vec<TensorProblem> {
        let wrong = |rule: &Rule| {
            let count = rule.sources.len();
            let expected = rule.mapping.other_count(count)?.to_string();
            let name = rule.sources.first().or(rule.mapping.targets().first()).copied().unwrap_or_default();
            let found = format!("{count} in its line of the family's table");
            Some(TensorProblem::Value { name: name.to_string(), expected, found })
        };
        self.rules.iter().filter_map(wrong).collect()
    }

    /// Of what the normalized tensor `target` is made, by the first line that makes it.
    pub fn of_target(self, target: &str) -> Option<NameMatch> {
        self.rules.iter().find_map(|rule| {
            let patterns = if rule.mapping == Mapping::Keep { rule.sources } else { rule.mapping.targets() };
            let captured = patterns.iter().find_map(|pattern| Captured::of(pattern, target))?;
            Some(rule.filled(&captured))
        })
    }

    /// Whether the source tensor `name` is a buffer, and no weight.
    pub fn is_buffer(self, name: &str) -> bool {
        matches!(self.of_source(name), Some(NameMatch { mapping: Mapping::Value(_) | Mapping::Skip(_), .. }))
    }

    /// The field of the normalized configuration that takes the value of the source tensor `name`.
    pub fn field(self, name: &str) -> Option<&'static str> {
        match self.of_source(name)?.mapping {
            Mapping::Value(field) => Some(field),
            _ => None,
        }
    }
}
