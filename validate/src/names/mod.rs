//! Other people's names and layouts: maps from a candidate's tensors to the golden dump's. `docs/names.md` describes
//! them.
//!
//! A map is read and checked on its own (`file`), then resolved against the names and shapes of two dumps (`pairing`);
//! only then are bytes touched (`assembly`), and only those of tensors that lie otherwise are copied (`strides`).

mod assembly;
pub mod builtin;
mod file;
mod pairing;
mod pattern;
mod propose;
mod step;
mod strides;

use crate::Result;
use measure::tolerance::AnswerPolicy;

pub use builtin::{BUILTIN, Builtin};
pub(crate) use pairing::Idle;
pub use pairing::{Counterpart, Pairing};
use pattern::{Names, Pattern, Template};
pub use propose::{Proposal, propose};
use step::Step;

/// A map from a candidate's names and layouts to those of a golden dump.
#[derive(Debug, Clone)]
pub struct NameMap {
    /// The file it came from, or its name if it is a ready-made one.
    pub source: String,
    rules: Vec<Rule>,
    /// Tensors of the candidate that stand for none of the golden dump.
    ignored: Vec<Excuse>,
    /// Golden sites that the engine does not expose.
    absent: Vec<Excuse>,
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
struct Rule {
    place: RulePlace,
    candidates: Vec<Pattern>,
    goldens: Vec<Template>,
    join: Join,
    /// Along which dimension the tensor is cut into one piece for each golden name.
    split: Option<i64>,
    sizes: Option<Vec<usize>>,
    each: Vec<Step>,
    steps: Vec<Step>,
    pieces: Vec<Step>,
    golden_steps: Vec<Step>,
    any_dtype: bool,
    optional: bool,
}

/// What becomes of the tensors that several expressions match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    /// There is one only.
    One,
    /// They are put one after the other along a dimension.
    Concat(i64),
    /// They are added.
    Add,
}

/// Names that need no counterpart, and why.
#[derive(Debug, Clone)]
struct Excuse {
    patterns: Vec<Pattern>,
    reason: String,
}

impl NameMap {
    /// Reads a map: a file, or a ready-made one by its name. A file of that name comes first.
    ///
    /// # Errors
    ///
    /// [`crate::Error::ReadNames`] if there is no such file and no such map, [`crate::Error::NamesFile`] if it is no
    /// TOML or has other fields, [`crate::Error::Names`] if a rule makes no sense.
    pub fn read(name_or_path: &str) -> Result<Self> {
        file::read(name_or_path)
    }

    /// Reads a map from its text; `source` is what messages call it.
    ///
    /// # Errors
    ///
    /// Those of [`NameMap::read`].
    pub fn parse(source: &str, text: &str) -> Result<Self> {
        file::parse(source, text)
    }
}

/// Why each of a dump's entries needs no counterpart, by the first excuse that says so.
fn excused(excuses: &[Excuse], names: &Names<'_>, count: usize) -> Vec<Option<String>> {
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
