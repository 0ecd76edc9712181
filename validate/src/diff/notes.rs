//! Differences between the runs that decide nothing and may explain others.

use golden::{Dump, Entry};

use super::EntryReport;
use crate::diagnosis::pixel_dtypes;
use crate::names::{Idle, Pairing, RulePlace};
use crate::tolerance::Policy;

/// A difference between the runs that may explain others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The dtypes of the runs differ.
    RunDtype,
    /// `pixel_values` reached the towers of both runs in different dtypes.
    PixelDtypes {
        /// The golden run's.
        golden: String,
        /// The candidate's.
        candidate: String,
    },
    /// One side alone has the weights of the attention, which only some attentions return.
    AttnWeights {
        /// Of how many modules.
        count: usize,
        /// Whether it is the candidate.
        only_candidate: bool,
    },
    /// The names of the checkpoints differ.
    Checkpoint,
    /// The file of a picture is not the same.
    Image {
        /// Its place in the request.
        index: usize,
    },
    /// The numbers of pictures differ.
    ImageCount {
        /// The golden request's.
        golden: usize,
        /// The candidate's.
        candidate: usize,
    },
    /// The common entries do not come in the same order.
    Order {
        /// The first entry that the candidate has earlier than the golden order allows.
        name: String,
    },
    /// Entries have another dtype than the golden ones, as the right runs do.
    AllowedDtypes {
        /// How many.
        count: usize,
    },
    /// Entries have another dtype than the golden ones, as the map allows.
    MappedDtypes {
        /// How many.
        count: usize,
    },
    /// Rules of the map match no tensor of the candidate.
    IdleNames {
        /// The map.
        map: String,
        /// Their expressions.
        expressions: Vec<String>,
    },
    /// A rule of the map matches, and no golden entry has a name that it gives.
    NoSuchSite {
        /// The rule.
        rule: RulePlace,
        /// One of the names.
        name: String,
    },
    /// Entries are compared by sketches.
    Estimated {
        /// How many.
        count: usize,
    },
    /// A rule of the policy matches no entry.
    IdleRule {
        /// Its globs.
        sites: Vec<String>,
    },
}

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
    let told = [&from.producer, &to.producer].map(|producer| producer.pixel_values_dtype.clone());
    let seen = || {
        let found = pixel_dtypes(golden, pairing, entries)?;
        Some([found.golden, found.candidate].map(|dtype| dtype.to_string()))
    };
    let dtypes = if let [Some(golden), Some(candidate)] = told { Some([golden, candidate]) } else { seen() };
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
    let all: Vec<Entry> = golden.entries().iter().chain(candidate.entries()).cloned().collect();
    notes.extend(policy.idle_rules(&all).map(|rule| Note::IdleRule { sites: rule.sites.clone() }));
    notes
}

/// The first common entry that the candidate does not have next.
fn first_out_of_order(pairing: &Pairing<'_>, golden: &Dump) -> Option<String> {
    let found = pairing.recorded_order();
    let expected = golden.entries().iter().filter(|entry| pairing.counterpart(&entry.name).is_some());
    expected.zip(found).find(|(expected, found)| expected.name != *found).map(|(_, found)| found.to_owned())
}
