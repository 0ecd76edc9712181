//! Pairs the entries of two dumps and gathers measurements and verdicts.

mod flow;
mod judged;
mod notes;

use std::collections::HashMap;
use std::fmt;

use golden::{Dump, Entry, Role};
use measure::model::{Model, SiteRole, any_model, family_of};
use measure::origin::{Inputs, found_roles, origins};
use measure::tolerance::{AnswerPolicy, Failure};
use measure::{Compared, Noise, Policy};
use rayon::prelude::*;

use crate::answer::{self, Skipped};
use crate::diagnosis::findings;
use crate::entry::EntryReport;
use crate::error::{Error, Result};
use crate::names::{NameMap, Pairing};
use crate::note::Note;
use crate::relation::{self, Alignment, Relation};
use crate::result::{DiffReport, Divergence, Side};
use crate::tiles;
use judged::{Judged, Limits, paired, unpaired};

/// What a comparison can be told.
#[derive(Clone, Copy)]
pub struct DiffOptions<'a> {
    /// The tolerances.
    pub policy: &'a Policy,
    /// The noise of right runs, for limits: each site may be off by some times as much as they are.
    ///
    /// Where they have a site in another dtype than the golden dump, the candidate may have it in that dtype too.
    pub noise: Option<&'a Noise>,
    /// What translates a candidate with names and layouts of its own.
    pub names: Option<&'a NameMap>,
    /// How the candidate's run belongs to the golden one, where both are of one engine and not of the same passes.
    pub relation: Option<Relation>,
    /// Whether the bytes of both are first checked against their recorded hashes.
    pub verify: bool,
    /// Called with the number of bytes that each entry had, on both sides together.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a> DiffOptions<'a> {
    /// Tolerances alone: equal names belong together, hashes are checked.
    pub fn new(policy: &'a Policy) -> Self {
        DiffOptions { policy, noise: None, names: None, relation: None, verify: true, progress: &|_| {} }
    }
}

impl fmt::Debug for DiffOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DiffOptions { policy, noise, names, relation, verify, progress: _ } = self;
        let mut debug = f.debug_struct("DiffOptions");
        debug.field("policy", policy).field("noise", noise).field("names", names);
        debug.field("relation", relation).field("verify", verify);
        debug.finish_non_exhaustive()
    }
}

/// Compares two dumps entry by entry, on all threads.
///
/// # Errors
///
/// [`crate::Error::Dump`] for the first entry, in order of execution, whose bytes are not those that were recorded;
/// [`crate::Error::Names`] if the map does not fit the dumps; [`crate::Error::Relation`] if the candidate's tokens are not those of
/// the golden run in the way that the relation says.
pub fn diff(golden: &Dump, candidate: &Dump, options: &DiffOptions<'_>) -> Result<DiffReport> {
    let &DiffOptions { policy, noise, names, verify, .. } = options;
    let (pairing, related) = match (options.relation, names) {
        (None, names) => (Pairing::new(golden, candidate, names)?, None),
        (Some(relation), None) => {
            let related = relation::relate(relation, golden, candidate)?;
            (related.pairing, Some((related.alignment, related.starts)))
        }
        (Some(_), Some(_)) => return Err(Error::RelationAndNames),
    };
    let limits = Limits::new(golden.manifest().producer.dtype.parse().ok(), policy, noise);
    // Of what only the candidate has, the candidate's names may tell more.
    let model = family_of(golden.entries()).or_else(|| family_of(candidate.entries())).unwrap_or(any_model());
    let judged =
        Comparison { golden, candidate, model, pairing: &pairing, limits: &limits, options }.judged()?;
    let compared: Vec<Compared<'_>> = judged.iter().map(Judged::compared).collect();
    let (data_flow, flows) = flow::flows(golden, candidate, &pairing, &compared);
    let origins = origins(model, &compared, &flows, Inputs::Computed, limits.run);
    let sites: Vec<&Entry> = compared.iter().map(|compared| compared.entry).collect();
    let roles = found_roles(&sites, &flows);
    let judged = judged.into_iter().zip(origins).zip(roles);
    let entries: Vec<EntryReport> = judged
        .map(|((judged, origin), role)| judged.with_origin(model, origin, role, policy.fresh))
        .collect();
    let mut notes = notes::notes(&pairing, golden, candidate, policy, &entries);
    notes.extend(notes::dtypes(&pairing, noise.is_some(), &entries));
    notes.extend(notes::estimated(&entries));
    let mut report = DiffReport {
        golden: side(golden),
        candidate: side(candidate),
        policy: policy.path.clone(),
        preset: policy.preset,
        verified: verify,
        entries,
        noise: noise.map(Noise::source),
        answer: answer::compare(golden, candidate, policy.answer, answers_left(&pairing, related.as_ref())),
        notes,
        tiles: tiles::tiles(golden),
        findings: None,
        names: names.map(|names| names.source.clone()),
        data_flow,
        relation: None,
    };
    let place = match report.first_divergence() {
        Some(Divergence::Entry(index)) => Some(index),
        // Another number of tiles shows in the prompt first.
        Some(Divergence::Prompt) => {
            report.entries.iter().position(|entry| entry.site_role == Some(SiteRole::Pixels))
        }
        _ => None,
    };
    report.findings = place.and_then(|index| findings(golden, &pairing, &report.entries, index));
    if let Some((alignment, starts)) = related {
        relation::restore(&mut report.entries, report.findings.as_mut(), &starts);
        report.notes.extend(alignment.facts.iter().cloned().map(Note::Relation));
        // Of several requests' logits nobody knows whose they are.
        report.answer.logits = report.answer.logits.filter(|_| !alignment.others);
        report.relation = Some(alignment);
    }
    // Whatever was measured of files that somebody writes to does not hold.
    golden.check()?;
    candidate.check()?;
    Ok(report)
}

/// What a map or a relation leaves to compare of prompt and answer, with the reason for the rest.
fn answers_left(
    pairing: &Pairing<'_>,
    related: Option<&(Alignment, HashMap<String, Vec<usize>>)>,
) -> Option<(AnswerPolicy, Skipped)> {
    if let Some((Alignment { relation, others, .. }, _)) = related {
        // The tokens are aligned by their ids, and of several requests a dump has one answer at most.
        let (prompt, answer) = (*relation == Relation::Same, !others);
        return Some((AnswerPolicy { prompt, generated_ids: answer, text: answer }, Skipped::Relation));
    }
    pairing.map().map(|map| (map.answer, Skipped::Names))
}

/// Two dumps, and what they are held to.
struct Comparison<'a> {
    golden: &'a Dump,
    candidate: &'a Dump,
    model: &'a Model,
    pairing: &'a Pairing<'a>,
    limits: &'a Limits<'a>,
    options: &'a DiffOptions<'a>,
}

impl Comparison<'_> {
    /// The golden entries in order of execution, then those that only the candidate has.
    fn judged(&self) -> Result<Vec<Judged>> {
        // What must be copied comes one after the other, so that one such tensor at most is in memory; each is itself put
        // together and measured on all threads.
        let golden_entries = self.golden.entries();
        let at_once = |entry: &Entry| !self.pairing.copies(&entry.key());
        let mut judged: Vec<Result<Option<Judged>>> = golden_entries
            .par_iter()
            .map(|entry| at_once(entry).then(|| self.of_golden(entry)).transpose())
            .collect();
        for (entry, judged) in golden_entries.iter().zip(&mut judged) {
            if let Ok(None) = judged {
                *judged = self.of_golden(entry).map(Some);
            }
        }
        let left: Vec<_> = self.pairing.left().collect();
        let extra: Vec<Result<Option<Judged>>> =
            left.into_par_iter().map(|(entry, excuse)| self.extra(entry, excuse).map(Some)).collect();
        judged.into_iter().chain(extra).filter_map(Result::transpose).collect()
    }

    fn of_golden(&self, entry: &Entry) -> Result<Judged> {
        let pairing = self.pairing;
        let key = entry.key();
        if self.options.verify {
            // Just before it is measured, while its pages are at hand. Equal bytes are hashed once: that is what takes
            // longest by far.
            self.golden.verify_entry(&key)?;
            if !pairing.has_same_bytes(entry) {
                pairing.verify(&key)?;
            }
        }
        let golden_bytes = self.golden.get(&key).map_or(0, |tensor| tensor.data().len());
        let bytes = (golden_bytes + pairing.size_bytes(&key)) as u64;
        let judged = match pairing.counterpart(&key) {
            Some(counterpart) => paired(pairing, entry, counterpart, self.limits)?,
            None => {
                let no_generation = answer::generated_nothing(self.candidate.manifest());
                let step_logits = self.model.role(&entry.name) == Some(SiteRole::StepLogits);
                let no_logits = step_logits && entry.role == Role::Output && no_generation;
                let excuse = pairing.absent(&key).or(no_logits.then_some("the candidate generated nothing"));
                unpaired(entry, Failure::Missing, excuse, self.limits)
            }
        };
        (self.options.progress)(bytes);
        Ok(judged)
    }

    /// An entry that only the candidate has.
    fn extra(&self, entry: &Entry, excuse: Option<&str>) -> Result<Judged> {
        if self.options.verify {
            self.pairing.verify_left(entry)?;
        }
        (self.options.progress)(
            self.candidate.get(&entry.key()).map_or(0, |tensor| tensor.data().len() as u64),
        );
        Ok(unpaired(entry, Failure::Extra, excuse, self.limits))
    }
}

fn side(dump: &Dump) -> Side {
    let manifest = dump.manifest();
    let producer = &manifest.producer;
    Side {
        path: dump.path().to_owned(),
        producer: match &producer.version {
            Some(version) => format!("{} {version}", producer.name),
            None => producer.name.clone(),
        },
        dtype: producer.dtype.clone(),
        device: producer.device.clone(),
        checkpoint: manifest.checkpoint.as_ref().map(|checkpoint| checkpoint.name.clone()),
        entries: dump.entries().len(),
    }
}
