//! What a comparison found.

use std::path::PathBuf;

use measure::noise::NoiseSource;
use measure::origin::{DataFlow, OriginKind};
use measure::tolerance::{Failure, Preset, Verdict};

use crate::answer::{AnswerReport, Comparison};
use crate::diagnosis::Findings;
use crate::entry::EntryReport;
use crate::note::Note;
use crate::relation::Alignment;
use crate::tiles::Tiles;
use crate::tokens::Tokens;

/// What a comparison found, whatever it is to be presented as.
#[derive(Debug, Clone)]
pub struct DiffReport {
    /// The dump that is right.
    pub golden: Side,
    /// The dump that is to be judged.
    pub candidate: Side,
    /// The policy file; `None` for the built-in tolerances.
    pub policy: Option<PathBuf>,
    /// The policy's preset.
    pub preset: Option<Preset>,
    /// Whether the bytes of both dumps were checked against their recorded hashes.
    pub verified: bool,
    /// The golden dump's entries in order of execution, then those that only the candidate has.
    pub entries: Vec<EntryReport>,
    /// Prompt and answer.
    pub answer: AnswerReport,
    /// What the reader ought to know, though it decides nothing.
    pub notes: Vec<Note>,
    /// What was found in the entry where both part first.
    pub findings: Option<Findings>,
    /// The right runs that the limits come from.
    pub noise: Option<NoiseSource>,
    /// The picture, as the golden run saw it.
    pub tiles: Option<Tiles>,
    /// The map of names and layouts; `None` if equal names belong together.
    pub names: Option<String>,
    /// Where it is known from what each module computes from.
    pub data_flow: DataFlow,
    /// How two related runs belong together; `None` if every entry is the other's of the same name.
    pub relation: Option<Alignment>,
}

/// One of the two dumps.
#[derive(Debug, Clone)]
pub struct Side {
    /// Its folder.
    pub path: PathBuf,
    /// The program that made it, with its version if it told it.
    pub producer: String,
    /// The run's dtype.
    pub dtype: String,
    /// The device.
    pub device: Option<String>,
    /// The checkpoint's name.
    pub checkpoint: Option<String>,
    /// The number of entries.
    pub entries: usize,
}

/// The counts at a report's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// All entries of both sides.
    pub entries: usize,
    /// Entries within their tolerance.
    pub passed: usize,
    /// Entries that are not a pass.
    pub failed: usize,
    /// Entries that are not judged.
    pub ignored: usize,
    /// Entries whose bytes are equal.
    pub bit_equal: usize,
    /// Entries with an error that their module made, whether it is a failure or not.
    pub fresh: usize,
    /// The index of the entry with the largest relative difference.
    pub worst_relative_l2: Option<usize>,
}

/// Where two dumps part first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Divergence {
    /// Already in the prompt.
    Prompt,
    /// In the entry of this index.
    Entry(usize),
    /// In the generated ids only.
    GeneratedIds,
    /// In the answer's text only.
    Text,
}

impl DiffReport {
    /// Whether everything is within its tolerance.
    pub fn passes(&self) -> bool {
        self.first_divergence().is_none()
    }

    /// Where the dumps part first: in the prompt, else in the first failing entry that both sides have and whose error
    /// is not inherited, else in the first of those whose error is, else in an entry that only one side has, else in
    /// the answer.
    ///
    /// An entry that is missing comes after one that was compared, since it tells of the recording rather than of the
    /// computation.
    pub fn first_divergence(&self) -> Option<Divergence> {
        if self.answer.prompt.is_failure() {
            return Some(Divergence::Prompt);
        }
        let compared = |entry: &EntryReport| entry.is_failure() && !entry.is_unpaired();
        let made = |entry: &EntryReport| compared(entry) && entry.origin.kind != OriginKind::Inherited;
        let first = self.entries.iter().position(made).or_else(|| self.entries.iter().position(compared));
        if let Some(index) = first.or_else(|| self.entries.iter().position(EntryReport::is_failure)) {
            return Some(Divergence::Entry(index));
        }
        if self.answer.generated_ids.is_failure() {
            return Some(Divergence::GeneratedIds);
        }
        self.answer.text.is_failure().then_some(Divergence::Text)
    }

    /// The golden entries that have no counterpart and need one, in order of execution.
    pub fn not_recorded(&self) -> impl Iterator<Item = &EntryReport> {
        self.entries.iter().filter(|entry| entry.verdict == Verdict::Fail(Failure::Missing))
    }

    /// Tells the texts of the ids where the answers part.
    pub fn name_tokens(&mut self, tokens: &Tokens) {
        if let Comparison::Differs(difference) = &mut self.answer.generated_ids {
            let ids = [difference.expected(), difference.found()];
            difference.texts = ids.map(|id| tokens.text(id?));
        }
    }

    /// The last entry that passes before the one of an index.
    pub fn last_agreement_before(&self, index: usize) -> Option<&EntryReport> {
        self.entries.iter().take(index).rev().find(|entry| entry.verdict == Verdict::Pass)
    }

    /// The entries with an error that their module made, in order of execution.
    pub fn fresh(&self) -> impl Iterator<Item = &EntryReport> {
        self.entries.iter().filter(|entry| entry.origin.is_fresh())
    }

    /// The counts.
    pub fn summary(&self) -> Summary {
        let count = |of: fn(&EntryReport) -> bool| self.entries.iter().filter(|entry| of(entry)).count();
        let relative_l2 = |entry: &EntryReport| entry.measurement.as_ref()?.relative_l2;
        let worst = self
            .entries
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| Some((index, relative_l2(entry)?)))
            // The earliest of several equal ones; NaN, were there one, is the worst of all.
            .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        Summary {
            entries: self.entries.len(),
            passed: count(|entry| entry.verdict == Verdict::Pass),
            failed: count(EntryReport::is_failure),
            ignored: count(|entry| matches!(entry.verdict, Verdict::Ignored { .. })),
            bit_equal: count(EntryReport::is_bit_equal),
            fresh: count(|entry| entry.origin.is_fresh()),
            worst_relative_l2: worst.map(|(index, _)| index),
        }
    }
}
