//! The names of tensors, in the source and in the normalized checkpoint: one table, read in both directions.

use super::pattern::Captured;
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

impl Axis {
    /// The dimension, from 0.
    pub const fn dimension(self) -> usize {
        match self {
            Self::Rows => 0,
            Self::Columns => 1,
        }
    }
}

impl Mapping {
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
