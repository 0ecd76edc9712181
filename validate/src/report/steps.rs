//! Entries by the step of decoding that they belong to.

use cli::counted;

use crate::entry::EntryReport;
use crate::result::DiffReport;

/// What is to be said of the entries of a step, or of some steps one after the other in which nothing fails.
pub(super) struct Steps<'a> {
    first: u64,
    last: u64,
    pub(super) entries: Vec<&'a EntryReport>,
}

impl Steps<'_> {
    /// Which steps, and how many of their entries are how.
    pub(super) fn heading(&self) -> String {
        let mut heading = match (self.first, self.last) {
            (0, 0) => "step 0, the prefill".to_owned(),
            (first, last) if first == last => format!("step {first}"),
            (first, last) => format!("steps {first} to {last}"),
        };
        heading.push_str(&format!(": {}", counted(self.entries.len(), "entry")));
        for (count, what) in [(self.failed(), "fail"), (self.fresh(), "fresh")] {
            if count > 0 {
                heading.push_str(&format!(", {count} {what}"));
            }
        }
        heading
    }

    /// The number of the step, or the first and the last.
    pub(super) fn number(&self) -> String {
        if self.first == self.last { self.first.to_string() } else { format!("{}-{}", self.first, self.last) }
    }

    /// How many entries fail.
    pub(super) fn failed(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_failure()).count()
    }

    /// How many have an error of their own.
    pub(super) fn fresh(&self) -> usize {
        self.entries.iter().filter(|entry| entry.origin.is_fresh()).count()
    }
}

/// Whether a report has other steps than the prefill.
pub(super) fn has_steps(report: &DiffReport) -> bool {
    report.entries.iter().any(|entry| entry.entry.step != 0)
}

/// The entries by steps, in order; steps in which nothing fails share one place if they may.
pub(super) fn by_step(entries: &[EntryReport], shared: bool) -> Vec<Steps<'_>> {
    let mut all: Vec<Steps<'_>> = Vec::new();
    for run in entries.chunk_by(|a, b| (a.entry.step, a.only_candidate) == (b.entry.step, b.only_candidate)) {
        let step = run[0].entry.step;
        let next = Steps { first: step, last: step, entries: run.iter().collect() };
        match all.last_mut() {
            Some(before) if shared && before.failed() + next.failed() == 0 && before.last < step => {
                before.last = step;
                before.entries.extend(next.entries);
            }
            _ => all.push(next),
        }
    }
    all
}
