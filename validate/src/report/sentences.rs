//! Sentences that more than one format says.

mod answer;
mod relation;

use cli::counted;
use golden::Role;
use indexmap::IndexMap;

use super::explanation::explanation;
use super::numbers::{close_to_one, element, list, short};
use super::place::{place, positions};
use crate::answer::{Comparison, TextDifference};
use crate::diagnosis::{Finding, Place};
use crate::entry::EntryReport;
use crate::names::{Counterpart, RulePlace};
use crate::note::Note;
use crate::result::{DiffReport, Divergence, Side};
use measure::metric::{Difference, Measurement};
use measure::model::CachePart;
use measure::origin::{DataFlow, OriginKind};
use measure::tolerance::{Excess, Failure, Metric, Verdict};

use answer::text_lines;
pub(super) use answer::{answer, common, id_lines, ids, logits, squeeze, text};

/// The verdict in one word of at most seven characters.
pub(super) fn verdict(entry: &EntryReport) -> &'static str {
    match &entry.verdict {
        Verdict::Pass if entry.is_bit_equal() => "equal",
        Verdict::Pass => "pass",
        Verdict::Ignored { .. } => "ignored",
        Verdict::Fail(Failure::Missing) => "MISSING",
        Verdict::Fail(Failure::Extra) => "EXTRA",
        Verdict::Fail(Failure::Dtype { .. }) => "DTYPE",
        Verdict::Fail(Failure::Shape { .. }) => "SHAPE",
        Verdict::Fail(Failure::NonFinite { .. }) => "NAN/INF",
        Verdict::Fail(Failure::Fresh(_)) => "FRESH",
        Verdict::Fail(_) if entry.origin.is_fresh() => "FRESH",
        Verdict::Fail(Failure::Unequal { .. } | Failure::Exceeded { .. }) => "FAIL",
    }
}

/// A metric as people call it.
pub(super) fn metric(metric: Metric) -> &'static str {
    match metric {
        Metric::RelativeL2 => "relative L2",
        Metric::RowRelativeL2 => "relative L2 of the worst row",
        Metric::MaxAbs => "largest absolute difference",
        Metric::MaxUlps => "largest ULP distance",
        Metric::Cosine => "cosine",
    }
}

/// Why an entry does not pass: what was expected and what was found.
pub(super) fn failure(failure: &Failure) -> String {
    match failure {
        Failure::Missing => "expected an entry in the candidate, found none".to_owned(),
        Failure::Extra => "expected no entry of this name, found one in the candidate only".to_owned(),
        Failure::Dtype { expected, found } => format!("dtype: expected {expected}, found {found}"),
        Failure::Shape { expected, found } => {
            format!("shape: expected {}, found {}", list(expected), list(found))
        }
        Failure::NonFinite { mismatches } => {
            let found =
                mismatches.map_or_else(|| "some".to_owned(), |mismatches: usize| mismatches.to_string());
            let are = if *mismatches == Some(1) { "is" } else { "are" };
            format!("NaN and infinities: expected at the same places, found {found} that {are} not")
        }
        Failure::Unequal { differing, elements } => {
            let found = differing.map_or_else(
                || "another SHA-256".to_owned(),
                |differing| format!("{differing} that {}", differ(differing)),
            );
            let all = if *elements == 1 { "" } else { "all " };
            format!("bits: expected {all}{} equal, found {found}", counted(*elements, "element"))
        }
        Failure::Exceeded { metric: exceeded, limit, found } => {
            let bound = if *exceeded == Metric::Cosine { "at least" } else { "at most" };
            // A cosine near one needs its digits; the others are read by their exponents.
            let number = if *exceeded == Metric::Cosine { close_to_one } else { short };
            format!("{}: expected {bound} {}, found {}", metric(*exceeded), number(*limit), number(*found))
        }
        Failure::Fresh(excess) => fresh(excess),
    }
}

/// An error that a module made.
fn fresh(excess: &Excess) -> String {
    let what = match (excess.metric, excess.row) {
        (Metric::RowRelativeL2, Some(row)) => format!("relative L2 of row {row}"),
        (other, _) => metric(other).to_owned(),
    };
    format!(
        "{what}: expected at most {} from rounding and the inputs, found {}",
        short(excess.limit),
        short(excess.found)
    )
}

/// A mistake and how it was tested.
pub(super) fn diagnosis(finding: &Finding) -> String {
    format!(
        "diagnosis: {}; undone, it leaves a relative L2 of {} of {}",
        explanation(&finding.explanation),
        short(finding.explanation.after),
        short(finding.explanation.before)
    )
}

/// Where an error comes from, in words; `None` where there is nothing to say.
fn origin(report: &DiffReport, entry: &EntryReport) -> Option<String> {
    let inputs: Vec<&EntryReport> = entry.origin.inputs.iter().map(|&input| &report.entries[input]).collect();
    let worst = inputs.iter().copied().filter(|input| !input.is_bit_equal()).max_by(|a, b| {
        let l2 = |entry: &EntryReport| entry.measurement.as_ref().and_then(|m| m.relative_l2).unwrap_or(0.0);
        l2(a).total_cmp(&l2(b))
    });
    let inputs = match (inputs.as_slice(), worst) {
        ([], _) if entry.entry.role == Role::Input => "it was given and not computed".to_owned(),
        ([], _) => "it has no inputs among the entries".to_owned(),
        ([input], None) => format!("its input {} is bit-equal", input.entry.key()),
        (_, None) => "its inputs are bit-equal".to_owned(),
        (_, Some(worst)) => format!("of its inputs {} is off most{}", worst.entry.key(), agreement(worst)),
    };
    match entry.origin.kind {
        OriginKind::Fresh => Some(format!("made here: {inputs}")),
        OriginKind::Inherited => Some(format!("inherited: {inputs}")),
        OriginKind::Rounding => Some(format!("as small as rounding: {inputs}")),
        OriginKind::Equal | OriginKind::Unknown => None,
    }
}

/// What sketches tell and what they do not.
fn estimated(measurement: &Measurement) -> String {
    let numbers = [
        ("relative L2", measurement.relative_l2.map(short)),
        ("cosine", measurement.cosine.map(close_to_one)),
    ];
    let numbers: Vec<String> =
        numbers.into_iter().filter_map(|(name, number)| Some(format!("{name} {}", number?))).collect();
    let numbers = if numbers.is_empty() { String::new() } else { format!(": {}", numbers.join(", ")) };
    format!("estimated from sketches{numbers}; where in the tensor, they do not tell")
}

/// An element that differs.
pub(super) fn difference(difference: &Difference) -> String {
    format!(
        "at {}: expected {}, found {}",
        list(&difference.index),
        element(difference.golden),
        element(difference.candidate)
    )
}

/// An entry by step, name, class and order.
pub(super) fn site(entry: &EntryReport) -> String {
    let step = step(entry.entry.step).map_or_else(String::new, |step| step + ", ");
    format!("{step}{} ({})", entry.entry.name, class_and_order(entry))
}

/// The first divergence where it is in the key-value cache: `step 3, layer 2, keys of position 41`, and the site.
fn cached(report: &DiffReport, index: usize) -> Option<String> {
    let entry = &report.entries[index];
    let part = CachePart::of(&entry.entry.name)?;
    let found = report.findings.as_ref().filter(|findings| findings.index == index);
    let of = found.into_iter().flat_map(|findings| &findings.places).find_map(|place| match place {
        Place::Positions(of, all) if of.len() < *all => Some(format!(" of {}", positions(of))),
        _ => None,
    });
    let step = step(entry.entry.step).map_or_else(String::new, |step| step + ", ");
    let (CachePart { layer, what }, of) = (part, of.unwrap_or_default());
    Some(format!("{step}layer {layer}, {what}{of} ({}, {})", entry.entry.key(), class_and_order(entry)))
}

fn class_and_order(entry: &EntryReport) -> String {
    let whose = if entry.only_candidate { " of the candidate" } else { "" };
    format!("{}, order {}{whose}", class(entry), entry.entry.order)
}

/// A step of decoding; `None` of the prefill, which is not named.
fn step(step: u64) -> Option<String> {
    (step > 0).then(|| format!("step {step}"))
}

/// The golden order of an entry, for a column of them; that of the candidate would be no place in it.
pub(super) fn order(entry: &EntryReport) -> String {
    if entry.only_candidate { "-".to_owned() } else { entry.entry.order.to_string() }
}

/// The class of an entry's module, or its role if it is no module's output.
pub(super) fn class(entry: &EntryReport) -> &str {
    if entry.entry.module.is_empty() { entry.entry.role.name() } else { &entry.entry.module }
}

/// Which run's data flow tells introduced errors from inherited ones; `None` where neither was recorded.
fn data_flow(report: &DiffReport) -> Option<&'static str> {
    match report.data_flow {
        DataFlow::Golden => Some("as the golden run recorded it"),
        DataFlow::Candidate => Some("as the candidate's run recorded it"),
        DataFlow::Family | DataFlow::Names => None,
    }
}

/// Where the limits and the data flow come from, each with its name; nothing of what is built in.
pub(super) fn limits(report: &DiffReport) -> Vec<(&'static str, String)> {
    let mut limits = Vec::new();
    limits.extend(data_flow(report).map(|source| ("data flow", source.to_owned())));
    limits.extend(report.preset.map(|preset| ("preset", preset.name().to_owned())));
    limits.extend(report.relation.as_ref().map(|of| ("relation", of.relation.name().to_owned())));
    limits.extend(report.names.as_ref().map(|names| ("names", names.clone())));
    limits.extend(report.policy.as_ref().map(|path| ("policy", path.display().to_string())));
    if let Some(noise) = &report.noise {
        for path in &noise.paths {
            limits.push(("noise", format!("{} times that of {}", noise.factor, path.display())));
        }
    }
    limits
}

/// Who made a dump: `nvl-reference 0.1.0, bfloat16, cpu`.
pub(super) fn producer(side: &Side) -> String {
    let parts = [Some(side.producer.as_str()), Some(side.dtype.as_str()), side.device.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The first divergence: a headline and the lines under it; `None` if there is no divergence.
pub(super) fn divergence(report: &DiffReport) -> Option<(String, Vec<String>)> {
    let divergence = report.first_divergence()?;
    Some(match divergence {
        Divergence::Prompt => {
            let found = report.findings.iter().flat_map(|findings| &findings.diagnoses);
            let told = text_divergence("prompt", &report.answer.prompt).into_iter();
            ("prompt".to_owned(), told.chain(found.map(diagnosis)).collect())
        }
        Divergence::GeneratedIds => ("generated ids".to_owned(), vec![ids(&report.answer.generated_ids)]),
        Divergence::Text => ("text of the answer".to_owned(), text_divergence("text", &report.answer.text)),
        Divergence::Entry(index) => {
            let entry = &report.entries[index];
            let headline = cached(report, index).unwrap_or_else(|| site(entry));
            (headline, entry_lines(report, &Before::of(report), index, entry))
        }
    })
}

/// How two texts part, and both of them there.
fn text_divergence(name: &str, comparison: &Comparison<TextDifference>) -> Vec<String> {
    let mut lines = vec![text(name, comparison)];
    if let Comparison::Differs(difference) = comparison {
        lines.extend(text_lines(difference));
    }
    lines
}

/// What came before each entry of a report, counted once for all of them.
pub(super) struct Before {
    /// The last entry that passes.
    agreement: Vec<Option<usize>>,
    /// How many entries one side lacks.
    unpaired: Vec<usize>,
}

impl Before {
    pub(super) fn of(report: &DiffReport) -> Self {
        let (mut agreement, mut unpaired) = (Vec::new(), Vec::new());
        let (mut last, mut lacking) = (None, 0);
        for (index, entry) in report.entries.iter().enumerate() {
            agreement.push(last);
            unpaired.push(lacking);
            last = if entry.verdict == Verdict::Pass { Some(index) } else { last };
            lacking += usize::from(entry.is_unpaired());
        }
        Before { agreement, unpaired }
    }
}

/// What is to be said of an entry that fails.
pub(super) fn entry_lines(
    report: &DiffReport,
    before: &Before,
    index: usize,
    entry: &EntryReport,
) -> Vec<String> {
    let mut lines = Vec::new();
    if let Verdict::Fail(reason) = &entry.verdict {
        lines.push(failure(reason));
    }
    if let Some(measurement) = &entry.measurement {
        if let Some(mismatch) = &measurement.first_non_finite_mismatch {
            lines.push(format!("first of them {}", difference(mismatch)));
        } else if let Some(largest) = &measurement.largest {
            let magnitude = short(largest.magnitude());
            lines.push(format!("largest difference {magnitude} {}", difference(largest)));
        }
        if let Some(differing) = measurement.differing.filter(|&differing| differing > 0) {
            lines.push(format!(
                "{differing} of {} {}",
                counted(measurement.elements, "element"),
                differ(differing)
            ));
        }
        if measurement.estimated {
            lines.push(estimated(measurement));
        }
    }
    lines.extend(counterpart(entry));
    if let Some(findings) = report.findings.as_ref().filter(|findings| findings.index == index) {
        lines.extend(findings.places.iter().map(place));
        lines.extend(findings.diagnoses.iter().map(diagnosis));
    }
    lines.extend(origin(report, entry));
    let agreement_before = before.agreement[index].map(|last| &report.entries[last]);
    lines.push(match agreement_before {
        None => "no entry before it agrees".to_owned(),
        Some(last) => format!("last agreement: {}{}", site(last), agreement(last)),
    });
    let missing = before.unpaired[index];
    if missing > 0 {
        let are = if missing == 1 { "is" } else { "are" };
        let entries = counted(missing, "entry");
        lines.push(format!("{entries} before it {are} not in the candidate: the divergence may be earlier"));
    }
    lines
}

/// What stands for an entry in the candidate's dump, where that is not a tensor of the same name as it is.
pub(super) fn counterpart(entry: &EntryReport) -> Option<String> {
    let Counterpart { tensors, rule, layout, .. } = entry.counterpart.as_ref()?;
    if rule.is_none() && layout.is_empty() {
        return None;
    }
    let rule = rule.as_ref().map_or_else(String::new, |rule| format!(" ({rule})"));
    let layout = if layout.is_empty() { String::new() } else { format!(": {}", layout.join(", ")) };
    Some(format!("in the candidate {}{rule}{layout}", tensors.join(", ")))
}

/// The golden sites that nothing stands for through a map, as far as they need be shown; `None` if there is none, or no
/// map.
pub(super) fn not_recorded(report: &DiffReport) -> Option<String> {
    const SHOWN: usize = 8;
    let names: Vec<_> = report.not_recorded().map(|entry| entry.entry.key()).collect();
    let more = names.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = &names[..names.len() - more];
    (!names.is_empty() && report.names.is_some())
        .then(|| format!("{} not recorded by the candidate: {}{rest}", names.len(), shown.join(", ")))
}

/// What stands for the golden entries in the candidate's dump: for each rule of the map that was used, how many, and
/// one of them.
pub(super) fn counterparts(report: &DiffReport) -> Vec<String> {
    let mut rules: IndexMap<&RulePlace, (usize, &EntryReport)> = IndexMap::new();
    for entry in &report.entries {
        let Some(rule) = entry.counterpart.as_ref().and_then(|counterpart| counterpart.rule.as_ref()) else {
            continue;
        };
        rules.entry(rule).or_insert((0, entry)).0 += 1;
    }
    let line = |(count, entry): (usize, &EntryReport)| {
        Some(format!("{}: {} is {}", counted(count, "site"), entry.entry.key(), counterpart(entry)?))
    };
    rules.into_values().filter_map(line).collect()
}

fn agreement(entry: &EntryReport) -> String {
    match &entry.measurement {
        Some(measurement) if measurement.bit_equal => ", bit-equal".to_owned(),
        Some(measurement) => {
            let about = if measurement.estimated { "about " } else { "" };
            measurement
                .relative_l2
                .map_or_else(String::new, |l2| format!(", relative L2 {about}{}", short(l2)))
        }
        None => String::new(),
    }
}

/// What the reader ought to know.
pub(super) fn note(report: &DiffReport, note: &Note) -> String {
    let (golden, candidate) = (&report.golden, &report.candidate);
    match note {
        Note::RunDtype => {
            format!("the golden run was in {}, the candidate's in {}", golden.dtype, candidate.dtype)
        }
        Note::PixelDtypes { golden, candidate } => format!(
            "`pixel_values` reached the golden run's tower in {golden}, the candidate's in {candidate}"
        ),
        Note::AttnWeights { count, only_candidate } => {
            let side = if *only_candidate { "candidate" } else { "golden run" };
            format!(
                "{count} `attn_weights` of the {side} only, which not every attention returns: not judged"
            )
        }
        Note::Checkpoint => format!(
            "the golden run had the checkpoint `{}`, the candidate's `{}`",
            golden.checkpoint.as_deref().unwrap_or_default(),
            candidate.checkpoint.as_deref().unwrap_or_default()
        ),
        Note::Image { index } => format!("picture {index} is not the same file in both requests"),
        Note::ImageCount { golden, candidate } => {
            format!("the golden request had {}, the candidate's {candidate}", counted(*golden, "picture"))
        }
        Note::Order { name } => {
            format!("the candidate recorded `{name}` in another order; entries are paired by name")
        }
        Note::AllowedDtypes { count } => {
            format!("{}, as those of the right runs are not", not_golden_dtype(*count))
        }
        Note::MappedDtypes { count } => {
            format!("{}, as the map of names allows", not_golden_dtype(*count))
        }
        Note::IdleNames { map, expressions } => {
            const SHOWN: usize = 4;
            let shown: Vec<&str> = expressions.iter().take(SHOWN).map(String::as_str).collect();
            let more = expressions.len().saturating_sub(SHOWN);
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("of the map {map} nothing in the candidate matches `{}`{rest}", shown.join("`, `"))
        }
        Note::NoSuchSite { rule, name } => {
            format!("{rule} gives `{name}`, which the golden dump does not have")
        }
        Note::Relation(fact) => relation::fact(fact),
        Note::Estimated { count } => format!(
            "{} {} compared by sketches: numbers with a ~ are estimates, within 25 % in 95 of 100 cases",
            counted(*count, "entry"),
            if *count == 1 { "is" } else { "are" }
        ),
        Note::IdleRule { sites } => {
            format!("the policy's rule for `{}` matches no entry", sites.join("`, `"))
        }
    }
}

fn not_golden_dtype(count: usize) -> String {
    format!("{} {} not in the golden dtype", counted(count, "entry"), if count == 1 { "is" } else { "are" })
}

fn differ(count: usize) -> &'static str {
    if count == 1 { "differs" } else { "differ" }
}

/// The names of the entries with an error of their own, as far as they need be shown; `None` if there is at most one,
/// which the first divergence has named.
pub(super) fn all_fresh(report: &DiffReport) -> Option<String> {
    const SHOWN: usize = 8;
    let names: Vec<_> = report.fresh().map(|entry| entry.entry.key()).collect();
    let named = match report.first_divergence() {
        Some(Divergence::Entry(index)) => report.entries[index].origin.is_fresh(),
        _ => false,
    };
    if names.is_empty() || names.len() == 1 && named {
        return None;
    }
    let more = names.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = &names[..names.len() - more];
    Some(format!("{} made, not inherited: {}{rest}", counted(names.len(), "error"), shown.join(", ")))
}

/// How many entries are how: `105 entries: 104 pass (60 bit-equal), 1 fail`.
pub(super) fn counts(report: &DiffReport) -> String {
    let summary = report.summary();
    let mut line = format!(
        "{}: {} pass, {} bit-equal, {} fail",
        counted(summary.entries, "entry"),
        summary.passed,
        summary.bit_equal,
        summary.failed
    );
    if summary.fresh > 0 {
        line.push_str(&format!(", {} fresh", summary.fresh));
    }
    if summary.ignored > 0 {
        line.push_str(&format!(", {} ignored", summary.ignored));
    }
    line
}
