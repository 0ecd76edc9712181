//! Pairs the entries of two dumps and gathers measurements and verdicts.

mod notes;
mod report;

use golden::{Dtype, Dump, Entry, Role};
use rayon::prelude::*;

use crate::Result;
use crate::answer;
use crate::diagnosis::findings;
use crate::metric::{measure, measure_entry, measure_tensor};
use crate::names::{Counterpart, NameMap, Pairing};
use crate::noise::Noise;
use crate::origin::{Origin, origins, rounds_more};
use crate::tiles;
use crate::tolerance::{Failure, Fresh, Policy, Preset, Tolerance, Verdict, judge};
use notes::notes;

pub use notes::Note;
pub use report::{DiffReport, Divergence, EntryReport, NoiseSource, Side, Summary};

/// Compares two dumps entry by entry, on all threads.
///
/// With `verify`, the bytes of both are first checked against their recorded hashes. `progress` is called with the
/// number of bytes that each entry had, on both sides together.
///
/// # Errors
///
/// [`crate::Error::Dump`] for the first entry, in order of execution, whose bytes are not those that were recorded.
pub fn diff(
    golden: &Dump,
    candidate: &Dump,
    policy: &Policy,
    verify: bool,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<DiffReport> {
    diff_with_noise(golden, candidate, policy, None, verify, progress)
}

/// The same with limits from the noise of right runs: each site may be off by some times as much as they are.
///
/// Where they have a site in another dtype than the golden dump, the candidate may have it in that dtype too.
///
/// # Errors
///
/// Those of [`diff()`].
pub fn diff_with_noise(
    golden: &Dump,
    candidate: &Dump,
    policy: &Policy,
    noise: Option<&Noise>,
    verify: bool,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<DiffReport> {
    diff_with_names(golden, candidate, policy, noise, None, verify, progress)
}

/// The same of a candidate with names and layouts of its own, which a map translates.
///
/// # Errors
///
/// Those of [`diff()`]; [`crate::Error::Names`] if the map does not fit the dumps.
pub fn diff_with_names(
    golden: &Dump,
    candidate: &Dump,
    policy: &Policy,
    noise: Option<&Noise>,
    names: Option<&NameMap>,
    verify: bool,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<DiffReport> {
    let pairing = Pairing::new(golden, candidate, names)?;
    let mut run: Option<Dtype> = golden.manifest().producer.dtype.parse().ok();
    // What rounds is the coarsest that is known to be right.
    let coarser = noise.and_then(Noise::run).or(policy.preset.and_then(Preset::dtype));
    if let Some(dtype) = coarser
        && run.is_none_or(|run| rounds_more(dtype, run))
    {
        run = Some(dtype);
    }
    let no_generation = answer::generated_nothing(candidate.manifest());
    let limits = Limits { policy, run, noise };
    let of_golden = |entry: &Entry| {
        if verify {
            // Just before it is measured, while its pages are at hand. Equal bytes are hashed once: that is what takes
            // longest by far.
            golden.verify_entry(&entry.name)?;
            if !pairing.has_same_bytes(entry) {
                pairing.verify(&entry.name)?;
            }
        }
        let golden_bytes = golden.get(&entry.name).map_or(0, |tensor| tensor.data().len());
        let bytes = (golden_bytes + pairing.size_bytes(&entry.name)) as u64;
        let report = match pairing.counterpart(&entry.name) {
            Some(counterpart) => paired(&pairing, entry, counterpart, &limits)?,
            None => {
                let no_logits = entry.name == "step_logits" && entry.role == Role::Output && no_generation;
                let excuse =
                    pairing.absent(&entry.name).or(no_logits.then_some("the candidate generated nothing"));
                unpaired(entry, Failure::Missing, excuse, &limits)
            }
        };
        progress(bytes);
        Ok(report)
    };
    // What must be copied comes one after the other, so that one such tensor at most is in memory; each is itself put
    // together and measured on all threads.
    let golden_entries = golden.entries();
    let mut reports: Vec<Result<Option<EntryReport>>> = golden_entries
        .par_iter()
        .map(|entry| if pairing.copies(&entry.name) { Ok(None) } else { of_golden(entry).map(Some) })
        .collect();
    for (entry, report) in golden_entries.iter().zip(&mut reports) {
        if let Ok(None) = report {
            *report = of_golden(entry).map(Some);
        }
    }
    let extra: Vec<Result<Option<EntryReport>>> = pairing
        .left()
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|(entry, excuse)| {
            if verify {
                pairing.verify_left(entry)?;
            }
            progress(candidate.get(&entry.name).map_or(0, |tensor| tensor.data().len() as u64));
            Ok(Some(unpaired(entry, Failure::Extra, excuse, &limits)))
        })
        .collect();
    let reports = reports.into_iter().chain(extra).filter_map(Result::transpose);
    let mut entries = reports.collect::<Result<Vec<_>>>()?;
    let origins = origins(&entries, run);
    for (entry, origin) in entries.iter_mut().zip(origins) {
        if let (Verdict::Pass, Some(excess), Fresh::Fail) = (&entry.verdict, origin.excess, policy.fresh) {
            entry.verdict = Verdict::Fail(Failure::Fresh(excess));
        }
        entry.origin = origin;
    }
    let mut notes = notes(&pairing, golden, candidate, policy, &entries);
    let other = |report: &&EntryReport| {
        !report.is_failure()
            && pairing.dtype(&report.entry.name).is_some_and(|dtype| dtype != report.entry.dtype)
    };
    let (by_map, by_noise): (Vec<_>, Vec<_>) =
        entries.iter().filter(other).partition(|report| pairing.any_dtype(&report.entry.name));
    if noise.is_some() && !by_noise.is_empty() {
        notes.push(Note::AllowedDtypes { count: by_noise.len() });
    }
    if !by_map.is_empty() {
        notes.push(Note::MappedDtypes { count: by_map.len() });
    }
    let estimated = entries.iter().filter_map(|entry| entry.measurement.as_ref()).filter(|m| m.estimated);
    let count = estimated.count();
    notes.extend((count > 0).then_some(Note::Estimated { count }));
    let mut report = DiffReport {
        golden: side(golden),
        candidate: side(candidate),
        policy: policy.path.clone(),
        preset: policy.preset,
        verified: verify,
        entries,
        noise: noise.map(Noise::source),
        answer: answer::compare(golden, candidate, policy.answer, pairing.map().map(|map| map.answer)),
        notes,
        tiles: tiles::tiles(golden),
        findings: None,
        names: names.map(|names| names.source.clone()),
    };
    let place = match report.first_divergence() {
        Some(Divergence::Entry(index)) => Some(index),
        // Another number of tiles shows in the prompt first.
        Some(Divergence::Prompt) => {
            report.entries.iter().position(|entry| entry.entry.name == "pixel_values")
        }
        _ => None,
    };
    report.findings = place.and_then(|index| findings(golden, &pairing, &report.entries, index));
    // Whatever was measured of files that somebody writes to does not hold.
    golden.check()?;
    candidate.check()?;
    Ok(report)
}

/// Where an entry's limits come from.
struct Limits<'a> {
    policy: &'a Policy,
    run: Option<Dtype>,
    noise: Option<&'a Noise>,
}

fn paired(
    pairing: &Pairing<'_>,
    entry: &Entry,
    counterpart: &Counterpart,
    limits: &Limits<'_>,
) -> Result<EntryReport> {
    let mut entry = entry.clone();
    if let Some(shape) = pairing.compared_shape(&entry.name) {
        entry.shape = shape.to_vec();
    }
    let &Limits { policy, run, noise } = limits;
    let level = noise.and_then(|noise| noise.level(&entry.name));
    let bounds = noise.zip(level.as_ref()).map(|(noise, level)| noise.bounds(&entry, level, run));
    let tolerance = policy.tolerance_with(&entry, run, bounds);
    let (golden, candidate) = (pairing.golden(&entry.name), pairing.candidate(&entry.name));
    let views = [&golden, &candidate].map(|side| side.as_ref().and_then(|tensor| tensor.view()));
    let (measurement, shape, dtype) = match (views.into(), pairing.golden_sketch(&entry.name)) {
        ((Some(golden), Some(candidate)), _) => {
            (measure(&golden, &candidate), candidate.shape().to_vec(), candidate.dtype())
        }
        // The golden side is a sketch, and the candidate is sketched in the golden layout.
        ((None, Some(candidate)), Some(sketch)) => {
            (measure_tensor(sketch, &candidate)?, candidate.shape().to_vec(), candidate.dtype())
        }
        _ => {
            let (golden, candidate, found) = pairing.sketched(&entry.name)?;
            let measurement = measure_entry((golden, &entry.name), (candidate, &found.name))?;
            (measurement, found.shape.clone(), found.dtype)
        }
    };
    let dtype_allowed = |dtype: Dtype| {
        let of_noise = level.as_ref().is_some_and(|level| level.dtypes.contains(&dtype));
        of_noise || pairing.any_dtype(&entry.name) && measurement.is_some()
    };
    let verdict = match (&tolerance, &measurement) {
        (Tolerance::Ignored { reason }, _) => Verdict::Ignored { reason: reason.clone() },
        _ if entry.shape != shape => {
            Verdict::Fail(Failure::Shape { expected: entry.shape.clone(), found: shape })
        }
        _ if entry.dtype != dtype && !dtype_allowed(dtype) => {
            Verdict::Fail(Failure::Dtype { expected: entry.dtype, found: dtype })
        }
        (tolerance, Some(measurement)) => judge(measurement, tolerance),
        // Equal shapes and dtypes are always measured.
        (_, None) => Verdict::Fail(Failure::Missing),
    };
    Ok(EntryReport {
        entry,
        only_candidate: false,
        tolerance,
        measurement,
        verdict,
        origin: Origin::unknown(),
        noise: level,
        counterpart: Some(counterpart.clone()),
    })
}

/// An entry of one side only, which is no fault if the policy or an excuse says so.
fn unpaired(entry: &Entry, failure: Failure, excuse: Option<&str>, limits: &Limits<'_>) -> EntryReport {
    let only_candidate = failure == Failure::Extra;
    let excuse = excuse.or(is_attn_weights(entry).then_some(OTHER_ATTENTION));
    let verdict = match limits.policy.excuse(entry).or_else(|| excuse.map(str::to_owned)) {
        Some(reason) => Verdict::Ignored { reason },
        None => Verdict::Fail(failure),
    };
    EntryReport {
        entry: entry.clone(),
        only_candidate,
        tolerance: limits.policy.tolerance(entry, limits.run),
        measurement: None,
        verdict,
        origin: Origin::unknown(),
        noise: None,
        counterpart: None,
    }
}

/// Why the weights of an attention may be missing on a side, where neither policy nor map has a reason of its own.
const OTHER_ATTENTION: &str = "not every attention returns its weights";

/// Whether an entry is the weights of an attention, by the name that the output has in transformers.
fn is_attn_weights(entry: &Entry) -> bool {
    let name = entry.name.split('#').next().unwrap_or_default();
    name.ends_with(".attn_weights")
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
