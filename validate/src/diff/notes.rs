//! Gathers the differences between the runs that decide nothing and may explain others.

use golden::{Dump, Entry};
use measure::Policy;

use crate::diagnosis::pixel_dtypes;
use crate::entry::EntryReport;
use crate::names::{Idle, Pairing};
use crate::note::Note;

pub(super) fn notes(
    pairing: &Pairing<'_>,
    golden: &Dump,
    candidate: &Dump,
    policy: &Policy,
    entries: &[EntryReport],
) -> Vec<Note> {
    let (from, to) = (golden.manifest(), candidate.manifest());
    let mut notes = Vec::new();
    if from.producer.dtype != to.producer.dtype {
        notes.push(Note::RunDtype);
    }
    let recorded = [&from.producer, &to.producer].map(|producer| producer.pixel_values_dtype.clone());
    let seen = || {
        let found = pixel_dtypes(golden, pairing, entries)?;
        Some([found.golden, found.candidate].map(|dtype| dtype.to_string()))
    };
    let dtypes =
        if let [Some(golden), Some(candidate)] = recorded { Some([golden, candidate]) } else { seen() };
    if let Some([golden, candidate]) = dtypes.filter(|[golden, candidate]| golden != candidate) {
        notes.push(Note::PixelDtypes { golden, candidate });
    }
    for only_candidate in [false, true] {
        let weights =
            |entry: &&EntryReport| entry.is_other_attention() && entry.only_candidate == only_candidate;
        let count = entries.iter().filter(weights).count();
        notes.extend((count > 0).then_some(Note::AttnWeights { count, only_candidate }));
    }
    if let (Some(from), Some(to)) = (&from.checkpoint, &to.checkpoint)
        && from.name != to.name
    {
        notes.push(Note::Checkpoint);
    }
    if let (Some(from), Some(to)) = (&from.request, &to.request) {
        if from.images.len() != to.images.len() {
            notes.push(Note::ImageCount { golden: from.images.len(), candidate: to.images.len() });
        }
        let images = from.images.iter().zip(&to.images).enumerate();
        let changed = images.filter(|(_, (from, to))| from.sha256 != to.sha256);
        notes.extend(changed.map(|(index, _)| Note::Image { index }));
    }
    notes.extend(first_out_of_order(pairing, golden).map(|name| Note::Order { name }));
    idle_names(pairing, &mut notes);
    let all: Vec<Entry> = golden.entries().iter().chain(candidate.entries()).cloned().collect();
    notes.extend(policy.idle_rules(&all).map(|rule| Note::IdleRule { sites: rule.sites.clone() }));
    notes
}

/// The rules of the map that do nothing.
fn idle_names(pairing: &Pairing<'_>, notes: &mut Vec<Note>) {
    let mut unmatched: Vec<(&str, Vec<String>)> = Vec::new();
    for (rule, idle) in pairing.idle() {
        match idle {
            Idle::NoEntry(name) => notes.push(Note::NoSuchSite { rule: rule.clone(), name: name.clone() }),
            Idle::NoTensor(expressions) => match unmatched.last_mut() {
                Some((map, all)) if *map == rule.map => all.extend(expressions.iter().cloned()),
                _ => unmatched.push((&rule.map, expressions.clone())),
            },
        }
    }
    let idle_names = unmatched.into_iter().map(|(map, expressions)| (map.to_owned(), expressions));
    notes.extend(idle_names.map(|(map, expressions)| Note::IdleNames { map, expressions }));
}

/// Entries that have another dtype than the golden ones and may.
pub(super) fn dtypes(pairing: &Pairing<'_>, has_noise: bool, entries: &[EntryReport]) -> Vec<Note> {
    let other = |report: &&EntryReport| {
        !report.is_failure()
            && pairing.dtype(&report.entry.key()).is_some_and(|dtype| dtype != report.entry.dtype)
    };
    let (by_map, by_noise): (Vec<_>, Vec<_>) =
        entries.iter().filter(other).partition(|report| pairing.any_dtype(&report.entry.key()));
    let mut notes = Vec::new();
    if has_noise && !by_noise.is_empty() {
        notes.push(Note::AllowedDtypes { count: by_noise.len() });
    }
    if !by_map.is_empty() {
        notes.push(Note::MappedDtypes { count: by_map.len() });
    }
    notes
}

/// How many entries sketches stand for.
pub(super) fn estimated(entries: &[EntryReport]) -> Option<Note> {
    let estimated = entries.iter().filter_map(|entry| entry.measurement.as_ref()).filter(|m| m.estimated);
    let count = estimated.count();
    (count > 0).then_some(Note::Estimated { count })
}

/// The first common entry that the candidate does not have next.
fn first_out_of_order(pairing: &Pairing<'_>, golden: &Dump) -> Option<String> {
    let found = pairing.recorded_order();
    let expected = golden.entries().iter().filter(|entry| pairing.counterpart(&entry.key()).is_some());
    let other = expected.zip(found).find(|(expected, found)| expected.order != found.order);
    other.map(|(_, found)| found.key().into_owned())
}
