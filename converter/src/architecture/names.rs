//! The names of tensors, in the source and in the normalized checkpoint: one table, read in both directions.

use super::pattern::Captured;
use crate::normalized::TorchDtype;

/// What becomes of the source tensors that a line's patterns match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
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
    /// The first source, times the second, becomes this tensor.
    Scale {
        /// The target.
        target: &'static str,
        /// Its dtype, unless the user asks for another.
        dtype: TorchDtype,
    },
    /// A buffer: its value becomes this field of the normalized configuration.
    Value(&'static str),
    /// Left out on purpose, for this reason.
    Skip(&'static str),
    /// A part of the model that is not supported: this one.
    Refuse(&'static str),
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
    pub fate: Fate,
}

/// A line of a table.
pub const fn rule(sources: &'static [&'static str], fate: Fate) -> Rule {
    Rule { sources, fate }
}

/// A table; the first line that matches holds.
#[derive(Debug, Clone, Copy)]
pub struct Names(pub &'static [Rule]);

/// The line that a tensor's name matches, with the names that its patterns then stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameMatch {
    /// What becomes of the sources.
    pub fate: Fate,
    /// The names of the sources.
    pub sources: Vec<String>,
    /// The names of the targets; none of a buffer, or of what is left out or refused.
    pub targets: Vec<String>,
}

/// Inside the name of a tensor that a weight is computed from, wherever torch's `register_parametrization` was used.
const PARAMETRIZED: &str = ".parametrizations.";
/// RADIO's own weights are no fixed function of these: torch's spectral norm is an estimate that depends on the kernels.
const NOT_FOLDED: &str = "parametrized weights are not supported; torch's `remove_parametrizations` writes the weights themselves down";

impl Axis {
    /// The dimension, from 0.
    pub const fn dimension(self) -> usize {
        match self {
            Self::Rows => 0,
            Self::Columns => 1,
        }
    }
}

impl Fate {
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
        let targets = if self.fate == Fate::Keep { sources.clone() } else { fill(self.fate.targets()) };
        NameMatch { fate: self.fate, sources, targets }
    }
}

impl Names {
    /// What becomes of the source tensor `name`; `None` for one that no line matches.
    pub fn of_source(self, name: &str) -> Option<NameMatch> {
        if name.contains(PARAMETRIZED) {
            let (fate, sources) = (Fate::Refuse(NOT_FOLDED), vec![name.to_string()]);
            return Some(NameMatch { fate, sources, targets: Vec::new() });
        }
        self.0.iter().find_map(|rule| {
            let captured = rule.sources.iter().find_map(|source| Captured::of(source, name))?;
            Some(rule.filled(&captured))
        })
    }

    /// Of what the normalized tensor `target` is made, by the first line that makes it.
    pub fn of_target(self, target: &str) -> Option<NameMatch> {
        self.0.iter().find_map(|rule| {
            let patterns = if rule.fate == Fate::Keep { rule.sources } else { rule.fate.targets() };
            let captured = patterns.iter().find_map(|pattern| Captured::of(pattern, target))?;
            Some(rule.filled(&captured))
        })
    }

    /// Whether the source tensor `name` is a buffer, and no weight.
    pub fn is_buffer(self, name: &str) -> bool {
        matches!(self.of_source(name), Some(NameMatch { fate: Fate::Value(_) | Fate::Skip(_), .. }))
    }

    /// The field of the normalized configuration that takes the value of the source tensor `name`.
    pub fn field(self, name: &str) -> Option<&'static str> {
        match self.of_source(name)?.fate {
            Fate::Value(field) => Some(field),
            _ => None,
        }
    }
}
