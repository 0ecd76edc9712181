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
use crate::tolerance::AnswerPolicy;

pub use builtin::{BUILTIN, Builtin};
pub(crate) use pairing::Idle;
pub use pairing::{Counterpart, Pairing};
use pattern::{Pattern, Template, readings};
pub use propose::{Proposal, propose};
use step::Step;

/// A map from a candidate's names and layouts to those of a golden dump.
#[derive(Debug, Clone)]
pub struct NameMap {
    /// The file it came from, or its name if it is a ready-made one.
    pub source: String,
    rules: Vec<Rule>,
    ignored: Vec<Ignored>,
    absent: Vec<Absent>,
    /// What the engine can answer.
    pub(crate) answer: AnswerPolicy,
}

/// Which rule of which map.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Tensors of the candidate that stand for none of the golden dump.
#[derive(Debug, Clone)]
struct Ignored {
    patterns: Vec<Pattern>,
    reason: String,
}

/// Golden sites that the engine does not expose.
#[derive(Debug, Clone)]
struct Absent {
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

    /// Why a golden site need not be in the candidate's dump; `None` if it must be.
    fn absent(&self, golden: &str) -> Option<&str> {
        let matching = |absent: &&Absent| {
            absent.patterns.iter().any(|pattern| readings(golden).any(|(name, _)| pattern.matches(name)))
        };
        self.absent.iter().find(matching).map(|absent| absent.reason.as_str())
    }

    /// Why a tensor of the candidate stands for no golden one; `None` if nothing is said of it.
    fn ignored(&self, candidate: &str) -> Option<&str> {
        let matching = |ignored: &&Ignored| {
            ignored.patterns.iter().any(|pattern| readings(candidate).any(|(name, _)| pattern.matches(name)))
        };
        self.ignored.iter().find(matching).map(|ignored| ignored.reason.as_str())
    }
}

impl std::fmt::Display for RulePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rules[{}] of {}", self.index, self.map)
    }
}
