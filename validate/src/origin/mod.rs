//! Tells an error that a module made from one that it passed on; `docs/tolerances.md` says how.

mod nesting;
mod rounding;
mod structure;

use golden::{Dtype, Entry, Role};

use crate::diff::EntryReport;
use crate::metric::{Measurement, RowError};
use crate::tolerance::{Failure, Metric, Policy, Verdict};

pub(crate) use rounding::{least_bounds, rounds_more};
pub use structure::Step;
use structure::{Rows, Source};

/// Where an entry's error comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Made or passed on.
    pub kind: OriginKind,
    /// What the module does.
    pub step: Step,
    /// The indices of the entries that the module computes from.
    pub inputs: Vec<usize>,
    /// What the module's own rounding explains, relative to the length of the tensor; `None` where nothing was compared.
    pub rounding: Option<f64>,
    /// By what an error is beyond what rounding and the inputs explain.
    pub excess: Option<Excess>,
}

/// Made here or passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginKind {
    /// There is no error.
    Equal,
    /// The inputs are equal, and rounding explains the error.
    Rounding,
    /// The inputs differ, and their error with some rounding explains the output's.
    Inherited,
    /// The module made the error: neither its inputs nor rounding explain it.
    Fresh,
    /// It cannot be determined: one side lacks the entry, or has it in another shape or dtype.
    Unknown,
}

impl OriginKind {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            OriginKind::Equal => "equal",
            OriginKind::Rounding => "rounding",
            OriginKind::Inherited => "inherited",
            OriginKind::Fresh => "fresh",
            OriginKind::Unknown => "unknown",
        }
    }
}

/// An error that neither rounding nor the inputs explain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Excess {
    /// [`Metric::RelativeL2`], or [`Metric::RowRelativeL2`] if only rows are off.
    pub metric: Metric,
    /// The row that is furthest beyond its limit, as an index among the rows.
    pub row: Option<usize>,
    /// What the module's own rounding and its inputs explain.
    pub limit: f64,
    /// What is there. Of a row this is relative to the row's own length.
    pub found: f64,
}

impl Origin {
    fn of(kind: OriginKind, step: Step, inputs: Vec<usize>) -> Self {
        Origin { kind, step, inputs, rounding: None, excess: None }
    }

    /// Before anything is known of the other entries.
    pub(crate) fn unknown() -> Self {
        Origin::of(OriginKind::Unknown, Step::Unknown, Vec::new())
    }

    /// Whether the module made the error.
    pub fn is_fresh(&self) -> bool {
        self.kind == OriginKind::Fresh
    }
}

/// What each module does, in the order of a dump's entries.
pub(crate) fn steps(entries: &[Entry]) -> Vec<Step> {
    let all: Vec<&Entry> = entries.iter().collect();
    structure::sites(&all, &vec![true; all.len()]).into_iter().map(|site| site.step).collect()
}

/// How many times the true error its estimate is at most, in 95 % of cases and more.
const ESTIMATE: f64 = 1.25;

/// The origin of each entry's error, in the order of the entries.
///
/// `run` is the golden run's dtype.
pub(crate) fn origins(entries: &[EntryReport], run: Option<Dtype>) -> Vec<Origin> {
    origins_of(entries, run, true)
}

/// The same, with errors that inputs may pass on or without.
fn origins_of(entries: &[EntryReport], run: Option<Dtype>, inherit: bool) -> Vec<Origin> {
    let built_in = Policy::default();
    let all: Vec<&Entry> = entries.iter().map(|entry| &entry.entry).collect();
    let comparable = |entry: &EntryReport| {
        let another = matches!(entry.verdict, Verdict::Fail(Failure::Shape { .. } | Failure::Dtype { .. }));
        entry.measurement.is_some() && !another
    };
    let usable: Vec<bool> = entries.iter().map(comparable).collect();
    let sites = structure::sites(&all, &usable);
    let medians: Vec<f64> = entries.iter().map(|entry| median_length(rows(entry))).collect();
    let mut origins = Vec::with_capacity(entries.len());
    for (index, (entry, site)) in entries.iter().zip(sites).enumerate() {
        let inputs: Vec<usize> = site.sources.iter().map(|source| source.index).collect();
        let Some(measurement) = entry.measurement.as_ref().filter(|_| usable[index]) else {
            origins.push(Origin::of(OriginKind::Unknown, site.step, inputs));
            continue;
        };
        let of_inputs = |has: fn(&Measurement) -> bool| {
            inherit && inputs.iter().any(|&input| entries[input].measurement.as_ref().is_some_and(has))
        };
        let own = measurement.relative_l2.map(|_| {
            let own = rounding::own(entry, site.step, &built_in, run);
            // What right runs make of equal inputs is rounding, however much it is.
            let alone = entry.noise.is_some() && !of_inputs(Measurement::differs);
            if alone { own.at_least(&entry.tolerance) } else { own }
        });
        let rounding = own.map(|own| own.whole);
        if !measurement.differs() {
            origins.push(Origin { rounding, ..Origin::of(OriginKind::Equal, site.step, inputs) });
            continue;
        }
        let explained =
            if of_inputs(Measurement::differs) { OriginKind::Inherited } else { OriginKind::Rounding };
        let mut origin = Origin { rounding, ..Origin::of(explained, site.step, inputs.clone()) };
        if measurement.non_finite_mismatches > 0 {
            if !of_inputs(|input| input.non_finite_mismatches > 0) {
                origin.kind = OriginKind::Fresh;
            }
        } else if let Some(own) = own.as_ref().filter(|_| measurement.estimated) {
            // Without its rows nothing can be told of what the inputs passed on.
            if explained == OriginKind::Inherited {
                origin.kind = OriginKind::Unknown;
            } else {
                origin.excess = excess_of_estimate(measurement, own);
                if origin.excess.is_some() {
                    origin.kind = OriginKind::Fresh;
                }
            }
        } else if let Some(own) = own {
            let sources: Vec<(&EntryReport, Source)> = site
                .sources
                .iter()
                .filter(|_| inherit)
                .map(|&source| (&entries[source.index], source))
                .collect();
            origin.excess = excess(entry, measurement, &own, &sources, medians[index]);
            if origin.excess.is_some() {
                origin.kind = OriginKind::Fresh;
            }
        } else if explained == OriginKind::Rounding {
            // Of whole numbers every difference counts.
            origin.kind = OriginKind::Fresh;
        }
        origins.push(origin);
    }
    origins
}

/// The origin of each entry's error where every module was given the very inputs that it is compared for: what differs is
/// its own, and only rounding explains it.
///
/// Of an entry without a measurement the origin is unknown.
pub fn origins_alone(
    entries: &[Entry],
    measurements: &[Option<Measurement>],
    run: Option<Dtype>,
) -> Vec<Origin> {
    origins_of(&reports(entries, measurements, run), run, false)
}

/// The origin of each entry's error in a run whose modules computed from what the others had, as in a comparison.
///
/// Of an entry without a measurement the origin is unknown.
pub fn origins_together(
    entries: &[Entry],
    measurements: &[Option<Measurement>],
    run: Option<Dtype>,
) -> Vec<Origin> {
    origins_of(&reports(entries, measurements, run), run, true)
}

fn reports(entries: &[Entry], measurements: &[Option<Measurement>], run: Option<Dtype>) -> Vec<EntryReport> {
    let policy = Policy::default();
    entries
        .iter()
        .zip(measurements)
        .map(|(entry, measurement)| EntryReport {
            entry: entry.clone(),
            only_candidate: false,
            tolerance: policy.tolerance(entry, run),
            measurement: measurement.clone(),
            verdict: Verdict::Pass,
            origin: Origin::unknown(),
            noise: None,
            counterpart: None,
        })
        .collect()
}

/// What an error is beyond its limit by, if it is.
///
/// A row's limit is its own rounding plus what its inputs' rows pass on, grown by a bounded factor; the whole tensor's
/// is its own rounding plus what all rows pass on.
fn excess(
    entry: &EntryReport,
    measurement: &Measurement,
    own: &rounding::Own,
    sources: &[(&EntryReport, Source)],
    median: f64,
) -> Option<Excess> {
    let relative_l2 = measurement.relative_l2?;
    if measurement.rows.is_empty() {
        return None;
    }
    let inherited = inherited(entry, measurement.rows.len(), sources);
    let (mut passed_on, mut worst) = (0.0, None::<(f64, Excess)>);
    for (row, (error, inherited)) in measurement.rows.iter().zip(inherited).enumerate() {
        let (length, difference) = (f64::from(error.golden), f64::from(error.difference));
        let grown = own.growth * inherited * length.max(median);
        passed_on += grown * grown;
        let scale = length.max(own.unit * median);
        let limit = own.row * scale + grown;
        if difference <= limit || scale == 0.0 && difference.is_finite() {
            continue;
        }
        let beyond = difference / limit;
        if worst.is_none_or(|(so_far, _)| beyond > so_far) {
            let excess = Excess {
                metric: Metric::RowRelativeL2,
                row: Some(row),
                limit: limit / scale,
                found: difference / scale,
            };
            worst = Some((beyond, excess));
        }
    }
    let limit = own.whole + passed_on.sqrt();
    if relative_l2 > limit {
        let row = worst.and_then(|(_, excess)| excess.row);
        return Some(Excess { metric: Metric::RelativeL2, row, limit, found: relative_l2 });
    }
    worst.map(|(_, excess)| excess)
}

/// What an estimated error is beyond its limit by, if it is beyond it by more than the estimate can be off.
fn excess_of_estimate(measurement: &Measurement, own: &rounding::Own) -> Option<Excess> {
    let (limit, found) = (ESTIMATE * own.whole, measurement.relative_l2?);
    // Not the other way round, since NaN is beyond every limit.
    let within = found <= limit;
    (!within).then_some(Excess { metric: Metric::RelativeL2, row: None, limit, found })
}

/// The relative error that each of an entry's rows has from its inputs: the largest of them.
fn inherited(entry: &EntryReport, count: usize, sources: &[(&EntryReport, Source)]) -> Vec<f64> {
    /// Stands for the error of an input that is not known in parts: whole numbers, or rows of length zero.
    const ANY: f64 = 1e9;
    let mut largest = vec![0.0_f64; count];
    for (input, source) in sources {
        let Some(measurement) = input.measurement.as_ref().filter(|measurement| measurement.differs()) else {
            continue;
        };
        let errors: Vec<f64> = if measurement.rows.is_empty() {
            vec![ANY]
        } else {
            measurement.rows.iter().map(|row| f64::from(row.relative).clamp(0.0, ANY)).collect()
        };
        let aligned = align(source.rows, &entry.entry.shape, &input.entry.shape, errors.len(), count);
        let mut blocks = None;
        for (row, largest) in largest.iter_mut().enumerate() {
            let error = match &aligned {
                Aligned::Row(of) => of(row).and_then(|row| errors.get(row)).copied().unwrap_or(0.0),
                Aligned::Block { parts } => {
                    let maxima: &Vec<f64> = blocks.get_or_insert_with(|| {
                        let chunk = errors.len().div_ceil(*parts).max(1);
                        errors.chunks(chunk).map(|part| part.iter().copied().fold(0.0, f64::max)).collect()
                    });
                    maxima.get(row * maxima.len() / count).copied().unwrap_or(0.0)
                }
            };
            *largest = largest.max(error);
        }
    }
    largest
}

/// Which input rows belong to an output row.
enum Aligned {
    /// One, or none.
    Row(Box<dyn Fn(usize) -> Option<usize>>),
    /// All of the part of the same number.
    Block { parts: usize },
}

fn align(rows: Rows, output: &[usize], input: &[usize], input_rows: usize, output_rows: usize) -> Aligned {
    let sequence = |shape: &[usize]| match shape {
        &[.., tokens, _] if tokens > 0 => Some(tokens),
        _ => None,
    };
    match rows {
        Rows::Same if input_rows == output_rows => Aligned::Row(Box::new(Some)),
        Rows::Same | Rows::FromEnd => match (sequence(output), sequence(input)) {
            (Some(to), Some(from)) if output_rows / to == input_rows / from => {
                Aligned::Row(Box::new(move |row| {
                    let (batch, token) = (row / to, row % to);
                    Some(batch * from + (token + from).checked_sub(to)?)
                }))
            }
            _ => Aligned::Block { parts: 1 },
        },
        _ => {
            let outermost = |shape: &[usize]| shape.first().copied().filter(|_| shape.len() > 1);
            let parts = match (outermost(output), outermost(input)) {
                (Some(to), Some(from)) if to == from && to > 0 => to,
                _ => 1,
            };
            Aligned::Block { parts }
        }
    }
}

fn rows(entry: &EntryReport) -> &[RowError] {
    entry.measurement.as_ref().map_or(&[], |measurement| &measurement.rows)
}

/// The median length of the rows that are not zero.
fn median_length(rows: &[RowError]) -> f64 {
    let mut lengths: Vec<f32> = rows.iter().map(|row| row.golden).filter(|&length| length > 0.0).collect();
    let middle = lengths.len() / 2;
    if lengths.is_empty() {
        return 0.0;
    }
    f64::from(*lengths.select_nth_unstable_by(middle, f32::total_cmp).1)
}

/// Whether an entry is one that nothing was computed for yet.
fn is_input(entry: &Entry) -> bool {
    entry.role == Role::Input
}
