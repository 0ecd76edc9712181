//! A map of names and layouts, as it was read.

use measure::tolerance::AnswerPolicy;

use super::layout_step::LayoutStep;
use super::pattern::{Names, Pattern, Template};

/// A map from a candidate's names and layouts to those of a golden dump.
#[derive(Debug, Clone)]
pub struct NameMap {
    /// The file it came from, or its name if it is a ready-made one.
    pub source: String,
    pub(super) rules: Vec<Rule>,
    /// Tensors of the candidate that stand for none of the golden dump.
    pub(super) ignored: Vec<Excuse>,
    /// Golden sites that the engine does not expose.
    pub(super) absent: Vec<Excuse>,
    /// What the engine can answer.
    pub(crate) answer: AnswerPolicy,
}

/// Which rule of which map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RulePlace {
    /// The map's file or name.
    pub map: String,
    /// The place among its rules, from 0.
    pub index: usize,
}

/// What some tensors of the candidate are called, and how they lie, in the golden dump.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) place: RulePlace,
    pub(super) candidates: Vec<Pattern>,
    pub(super) goldens: Vec<Template>,
    pub(super) join: Join,
    /// Along which dimension the tensor is cut into one piece for each golden name.
    pub(super) split: Option<i64>,
    pub(super) sizes: Option<Vec<usize>>,
    pub(super) each: Vec<LayoutStep>,
    pub(super) steps: Vec<LayoutStep>,
    pub(super) pieces: Vec<LayoutStep>,
    pub(super) golden_steps: Vec<LayoutStep>,
    pub(super) any_dtype: bool,
    pub(super) optional: bool,
}

/// What becomes of the tensors that several expressions match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    /// There is one only.
    One,
    /// They are put one after the other along a dimension.
    Concat(i64),
    /// They are added.
    Add,
}

/// Names that need no counterpart, and why.
#[derive(Debug, Clone)]
pub(super) struct Excuse {
    pub(super) patterns: Vec<Pattern>,
    pub(super) reason: String,
}

/// Why each of a dump's entries needs no counterpart, by the first excuse that says so.
pub(super) fn excused(excuses: &[Excuse], names: &Names<'_>, count: usize) -> Vec<Option<String>> {
    let mut reasons = vec![None; count];
    for excuse in excuses {
        for found in excuse.patterns.iter().flat_map(|pattern| names.matching(pattern)) {
            reasons[found.index].get_or_insert_with(|| excuse.reason.clone());
        }
    }
    reasons
}

impl std::fmt::Display for RulePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rules[{}] of {}", self.index, self.map)
    }
}
