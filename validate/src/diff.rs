//! Pairs the entries of two dumps and gathers measurements and verdicts.

use std::path::PathBuf;

use golden::{Dtype, Dump, Entry, Role};
use rayon::prelude::*;

use crate::Result;
use crate::answer::{self, AnswerReport, Comparison};
use crate::diagnosis::{Findings, findings};
use crate::metric::{Measurement, measure, measure_entry, measure_tensor};
use crate::names::{Counterpart, Idle, NameMap, Pairing, RulePlace};
use crate::noise::{Level, Noise};
use crate::origin::{Origin, OriginKind, origins, rounds_more};
use crate::tiles::{self, Tiles};
use crate::tokens::Tokens;
use crate::tolerance::{Failure, Fresh, Policy, Preset, Tolerance, Verdict, judge};

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
}

/// Where a report's limits come from.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSource {
    /// The folders of the right runs.
    pub paths: Vec<PathBuf>,
    /// How many times their noise an error may be.
    pub factor: f64,
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

/// What was found of one entry.
#[derive(Debug, Clone)]
pub struct EntryReport {
    /// The entry: the golden one, or the candidate's if the golden dump has none. Its shape is that of the part that is
    /// compared, where a map leaves some of it out.
    pub entry: Entry,
    /// Whether the golden dump has none, so that the entry and its order are the candidate's.
    pub only_candidate: bool,
    /// What it is held to.
    pub tolerance: Tolerance,
    /// How far it is off; `None` if one side lacks it, or its shapes or kinds of dtype differ.
    pub measurement: Option<Measurement>,
    /// The judgement.
    pub verdict: Verdict,
    /// Whether the module made the error or passed it on.
    pub origin: Origin,
    /// How far right runs are off at this site, where some were given.
    pub noise: Option<Level>,
    /// What stands for it in the candidate's dump; `None` if nothing does.
    pub counterpart: Option<Counterpart>,
}

/// A difference between the runs that may explain others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The dtypes of the runs differ.
    RunDtype,
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

impl EntryReport {
    /// Whether the entry is not a pass.
    pub fn is_failure(&self) -> bool {
        matches!(self.verdict, Verdict::Fail(_))
    }

    /// Whether one side lacks the entry.
    pub fn is_unpaired(&self) -> bool {
        matches!(self.verdict, Verdict::Fail(Failure::Missing | Failure::Extra))
    }

    /// Whether the bytes are equal.
    pub fn is_bit_equal(&self) -> bool {
        self.measurement.as_ref().is_some_and(|measurement| measurement.bit_equal)
    }
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
    let mut notes = notes(&pairing, golden, candidate, policy);
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

fn notes(pairing: &Pairing<'_>, golden: &Dump, candidate: &Dump, policy: &Policy) -> Vec<Note> {
    let (from, to) = (golden.manifest(), candidate.manifest());
    let mut notes = Vec::new();
    if from.producer.dtype != to.producer.dtype {
        notes.push(Note::RunDtype);
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
