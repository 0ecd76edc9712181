//! What a diagnosis is.

use super::attention_core::Variant;
use super::explanation::Explanation;
use super::probe::Probe;

/// A test for one kind of mistake.
pub struct Diagnosis {
    /// The name in reports.
    pub name: &'static str,
    /// What it asks of the site.
    pub(super) asks: fn(&Probe<'_>) -> bool,
    /// Undoes the mistake, and tells whether that explains the error.
    pub(super) test: fn(&Probe<'_>) -> Option<Explanation>,
    /// Whether it is tested only where no other diagnosis explains the error.
    pub(super) last: bool,
    /// The names of the diagnoses that need not be told where this one explains as much.
    pub(super) supersedes: &'static [&'static str],
    /// How an attention is computed in which it was made: these compete with those of other diagnoses.
    pub(super) variants: &'static [Variant],
    /// One way to make the mistake.
    pub example: &'static str,
}
