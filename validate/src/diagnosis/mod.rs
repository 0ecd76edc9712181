//! Says where in a tensor an error is, and what known mistake it is.
//!
//! A mistake is named only if undoing it makes the candidate match: every diagnosis is tested against the data.

mod attention;
mod case;
mod decoding;
mod layout;
mod missing;
mod mistakes;
mod norm;
mod order;
mod pixels;
mod place;
mod position;
mod rotary;

use golden::Dump;

use crate::entry::EntryReport;
use crate::names::Pairing;

pub use mistakes::{Diagnosis, Mistake};
pub(crate) use pixels::dtypes as pixel_dtypes;

/// What was found in an entry.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Findings {
    /// The index of the entry.
    pub index: usize,
    /// Which tokens and channels are off, a sentence each.
    pub places: Vec<String>,
    /// The mistakes that explain the error, the best first.
    pub diagnoses: Vec<Diagnosis>,
}

/// Looks into an entry that both dumps have.
pub(crate) fn findings(
    golden: &Dump,
    pairing: &Pairing<'_>,
    entries: &[EntryReport],
    index: usize,
) -> Option<Findings> {
    let entry = entries.get(index)?;
    let name = &entry.entry.name;
    let (expected, found) = (pairing.golden(name)?, pairing.candidate(name)?);
    let (expected, found) = (expected.view()?, found.view()?);
    if expected.shape() != found.shape() {
        let decoding = decoding::diagnose(pairing, entry);
        let diagnoses =
            decoding.or_else(|| missing::diagnose(pairing, entry)).into_iter().collect::<Vec<_>>();
        return Some(Findings { index, places: Vec::new(), diagnoses })
            .filter(|found| !found.diagnoses.is_empty());
    }
    let measurement = entry.measurement.as_ref()?;
    if measurement.rows.is_empty() {
        return None;
    }
    let layout = layout::Layout::of(golden, &entry.entry);
    let case = case::Case::new(expected, found, entry)?;
    Some(Findings {
        index,
        places: place::places(&case, entry, &layout, mistakes::head_dim(golden)),
        diagnoses: mistakes::diagnose(golden, pairing, entries, entry, &case, &layout),
    })
}
