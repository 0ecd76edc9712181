//! Rows of parts as the rows of the whole: a report counts tokens as the plain run does.

use std::collections::HashMap;

use measure::metric::RowError;

use crate::diagnosis::{Findings, Place, Token};
use crate::entry::EntryReport;
use crate::tolerance::{Failure, Verdict};

/// Counts rows and indices from the beginning of the golden entries of which only a part was compared. `starts` has where the parts
/// begin, by the entries' keys.
pub(crate) fn restore(
    entries: &mut [EntryReport],
    findings: Option<&mut Findings>,
    starts: &HashMap<String, Vec<usize>>,
) {
    if let Some(findings) = findings
        && let Some(rows) = entries.get(findings.index).and_then(|entry| Rows::of(entry, starts))
    {
        findings.places.iter_mut().for_each(|place| rows.restore_place(place));
    }
    for entry in entries {
        if let Some(rows) = Rows::of(entry, starts) {
            rows.restore(entry);
        }
    }
}

/// The rows of a part, and of the whole.
struct Rows {
    part: Vec<usize>,
    whole: Vec<usize>,
    starts: Vec<usize>,
}

impl Rows {
    fn of(entry: &EntryReport, starts: &HashMap<String, Vec<usize>>) -> Option<Self> {
        let starts = starts.get(entry.entry.key().as_ref()).filter(|_| !entry.only_candidate)?.clone();
        let whole = entry.counterpart.as_ref()?.recorded_shape.clone();
        Some(Rows { part: entry.entry.shape.clone(), whole, starts })
    }

    /// The place of a row among those of the whole.
    fn row(&self, mut row: usize) -> usize {
        let (mut found, mut size) = (0, 1);
        for dim in (0..self.part.len().saturating_sub(1)).rev() {
            found += (row % self.part[dim].max(1) + self.starts[dim]) * size;
            row /= self.part[dim].max(1);
            size *= self.whole[dim];
        }
        found
    }

    fn restore(&self, entry: &mut EntryReport) {
        if let Some(excess) = &mut entry.origin.excess {
            excess.row = excess.row.map(|row| self.row(row));
        }
        if let Verdict::Fail(Failure::Fresh(excess)) = &mut entry.verdict {
            excess.row = excess.row.map(|row| self.row(row));
        }
        entry.entry.shape.clone_from(&self.whole);
        let Some(measurement) = &mut entry.measurement else { return };
        let differences =
            [&mut measurement.first, &mut measurement.largest, &mut measurement.first_non_finite_mismatch];
        for difference in differences.into_iter().flatten() {
            difference.index.iter_mut().zip(&self.starts).for_each(|(index, start)| *index += start);
        }
        if !measurement.rows.is_empty() {
            // What was not compared is not off.
            let equal = RowError { golden: 0.0, difference: 0.0, relative: 0.0 };
            let outer = &self.whole[..self.whole.len().saturating_sub(1)];
            let mut rows = vec![equal; outer.iter().product()];
            for (row, error) in measurement.rows.iter().enumerate() {
                rows[self.row(row)] = *error;
            }
            measurement.rows = rows;
        }
    }

    fn restore_place(&self, place: &mut Place) {
        let Place::Tokens(off) = place else { return };
        off.run = off.run.map(|(first, last)| (self.row(first), self.row(last)));
        for token in &mut off.few {
            match token {
                Token::Image { index } | Token::Text { index } | Token::Row { index } => {
                    *index = self.row(*index);
                }
                // Tiles are compared whole.
                Token::Prefix { .. } | Token::Patch { .. } => {}
            }
        }
    }
}
