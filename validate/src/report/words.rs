//! Sentences that more than one format says.

use golden::Role;

use super::numbers::{element, list, short};
use crate::answer::{Comparison, IdDifference, Skipped, TextDifference};
use crate::diagnosis::Diagnosis;
use crate::diff::{DiffReport, Divergence, EntryReport, Note, Side};
use crate::logits::{LogitsReport, Step, TOP};
use crate::metric::{Difference, Measurement};
use crate::names::{Counterpart, RulePlace};
use crate::origin::{Excess, OriginKind};
use crate::tolerance::{Failure, Metric, Verdict};

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
            format!("NaN and infinities: expected at the same places, found {found} that are not")
        }
        Failure::Unequal { differing, elements } => {
            let found = differing
                .map_or_else(|| "another SHA-256".to_owned(), |differing| format!("{differing} that differ"));
            format!("bits: expected all {elements} elements equal, found {found}")
        }
        Failure::Exceeded { metric: exceeded, limit, found } => {
            let bound = if *exceeded == Metric::Cosine { "at least" } else { "at most" };
            // A cosine near one needs its digits; the others are read by their exponents.
            let number =
                |value: f64| if *exceeded == Metric::Cosine { value.to_string() } else { short(value) };
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
pub(super) fn diagnosis(diagnosis: &Diagnosis) -> String {
    format!(
        "diagnosis: {}; undone, it leaves a relative L2 of {} of {}",
        diagnosis.text,
        short(diagnosis.after),
        short(diagnosis.before)
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
        ([input], None) => format!("its input {} is bit-equal", input.entry.name),
        (_, None) => "its inputs are bit-equal".to_owned(),
        (_, Some(worst)) => format!("of its inputs {} is off most{}", worst.entry.name, agreement(worst)),
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
    let numbers =
        [("relative L2", measurement.relative_l2.map(short)), ("cosine", measurement.cosine.map(element))];
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

/// An entry by name, class and order.
pub(super) fn site(entry: &EntryReport) -> String {
    let whose = if entry.only_candidate { " of the candidate" } else { "" };
    format!("{} ({}, order {}{whose})", entry.entry.name, class(entry), entry.entry.order)
}

/// The golden order of an entry, for a column of them; that of the candidate would be no place in it.
pub(super) fn order(entry: &EntryReport) -> String {
    if entry.only_candidate { "-".to_owned() } else { entry.entry.order.to_string() }
}

/// The class of an entry's module, or its role if it is no module's output.
pub(super) fn class(entry: &EntryReport) -> &str {
    if entry.entry.module.is_empty() { entry.entry.role.name() } else { &entry.entry.module }
}

/// Where the limits come from, each with its name; nothing of the built-in ones.
pub(super) fn limits(report: &DiffReport) -> Vec<(&'static str, String)> {
    let mut limits = Vec::new();
    limits.extend(report.preset.map(|preset| ("preset", preset.name().to_owned())));
    limits.extend(report.names.as_ref().map(|names| ("names", names.clone())));
    limits.extend(report.policy.as_ref().map(|path| ("policy", path.display().to_string())));
    if let Some(noise) = &report.noise {
        for path in &noise.paths {
            limits.push(("noise", format!("{} times that of {}", noise.factor, path.display())));
        }
    }
    limits
}

/// How prompt and answer compare.
pub(super) fn answer(report: &DiffReport) -> Vec<String> {
    let answer = &report.answer;
    let mut lines =
        vec![text("prompt", &answer.prompt), ids(&answer.generated_ids), text("text", &answer.text)];
    lines.extend(answer.logits.as_ref().and_then(logits));
    lines
}

/// How the logits of the generated tokens compare; `None` if no step does.
pub(super) fn logits(logits: &LogitsReport) -> Option<String> {
    let agreements = TOP
        .iter()
        .enumerate()
        .map(|(place, k)| Some(format!("top {k} {}", percent(logits.agreement(place)?))));
    let agreements: Option<Vec<String>> = agreements.collect();
    let (worst, step) = logits.worst()?;
    let (count, mean) = (logits.steps.len(), logits.mean_kl_divergence()?);
    let steps = if count == 1 { "1 step".to_owned() } else { format!("{count} steps") };
    let equal = logits.steps.iter().all(|step| step.common == step.of && step.kl_divergence == 0.0);
    let mut text = if equal {
        format!("step logits: {steps}, the same probabilities")
    } else {
        format!(
            "step logits: {steps}, agreement {}; KL divergence {} on average, {} at most (position {worst})",
            agreements?.join(", "),
            short(mean),
            short(step.kl_divergence)
        )
    };
    if logits.left_out > 0 {
        text.push_str(&format!("; {} left out, since the ids before differ", logits.left_out));
    }
    Some(text)
}

/// A share in per cent, all of them only if it is.
pub(super) fn percent(share: f64) -> String {
    let tenths = (1000.0 * share).floor() / 10.0;
    format!("{tenths} %")
}

/// How many of the golden run's largest logits a step has among the candidate's: `10/10`.
pub(super) fn common(step: &Step) -> [String; TOP.len()] {
    std::array::from_fn(|place| format!("{}/{}", step.common[place], step.of[place]))
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
            let told = [text("prompt", &report.answer.prompt)].into_iter();
            ("prompt".to_owned(), told.chain(found.map(diagnosis)).collect())
        }
        Divergence::GeneratedIds => ("generated ids".to_owned(), vec![ids(&report.answer.generated_ids)]),
        Divergence::Text => ("text of the answer".to_owned(), vec![text("text", &report.answer.text)]),
        Divergence::Entry(index) => {
            let entry = &report.entries[index];
            (site(entry), entry_lines(report, index, entry))
        }
    })
}

/// What is to be said of an entry that fails.
pub(super) fn entry_lines(report: &DiffReport, index: usize, entry: &EntryReport) -> Vec<String> {
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
            lines.push(format!("{differing} of {} elements differ", measurement.elements));
        }
        if measurement.estimated {
            lines.push(estimated(measurement));
        }
    }
    lines.extend(counterpart(entry));
    if let Some(findings) = report.findings.as_ref().filter(|findings| findings.index == index) {
        lines.extend(findings.places.iter().cloned());
        lines.extend(findings.diagnoses.iter().map(diagnosis));
    }
    lines.extend(origin(report, entry));
    lines.push(match report.last_agreement_before(index) {
        None => "no entry before it agrees".to_owned(),
        Some(last) => format!("last agreement: {}{}", site(last), agreement(last)),
    });
    let missing = report.entries.iter().take(index).filter(|entry| entry.is_unpaired()).count();
    if missing > 0 {
        lines.push(format!(
            "{missing} entries before it are not in the candidate: the divergence may be earlier"
        ));
    }
    lines
}

/// What stands for an entry in the candidate's dump, where that is not a tensor of the same name as it is.
pub(super) fn counterpart(entry: &EntryReport) -> Option<String> {
    let Counterpart { tensors, rule, layout, .. } = entry.counterpart.as_ref()?;
    let rule = rule.as_ref()?;
    let layout = if layout.is_empty() { String::new() } else { format!(": {}", layout.join(", ")) };
    Some(format!("in the candidate {} ({rule}){layout}", tensors.join(", ")))
}

/// The golden sites that nothing stands for through a map, as far as they need be shown; `None` if there is none, or no
/// map.
pub(super) fn not_recorded(report: &DiffReport) -> Option<String> {
    const SHOWN: usize = 8;
    let names: Vec<&str> = report.not_recorded().map(|entry| entry.entry.name.as_str()).collect();
    let more = names.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = &names[..names.len() - more];
    (!names.is_empty() && report.names.is_some())
        .then(|| format!("{} not recorded by the candidate: {}{rest}", names.len(), shown.join(", ")))
}

/// What stands for the golden entries in the candidate's dump: for each rule of the map that was used, how many, and
/// one of them.
pub(super) fn counterparts(report: &DiffReport) -> Vec<String> {
    let mut rules: Vec<(&RulePlace, usize, &EntryReport)> = Vec::new();
    for entry in &report.entries {
        let Some(rule) = entry.counterpart.as_ref().and_then(|counterpart| counterpart.rule.as_ref()) else {
            continue;
        };
        match rules.iter_mut().find(|(other, ..)| *other == rule) {
            Some((_, count, _)) => *count += 1,
            None => rules.push((rule, 1, entry)),
        }
    }
    let line = |(_, count, entry): (&RulePlace, usize, &EntryReport)| {
        let sites = if count == 1 { "1 site".to_owned() } else { format!("{count} sites") };
        Some(format!("{sites}: {} is {}", entry.entry.name, counterpart(entry)?))
    };
    rules.into_iter().filter_map(line).collect()
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

/// How two texts compare.
pub(super) fn text(name: &str, comparison: &Comparison<TextDifference>) -> String {
    match comparison {
        Comparison::Equal => format!("{name}: equal"),
        Comparison::Skipped(reason) => format!("{name}: not compared, {}", skipped(*reason)),
        Comparison::Missing => format!("{name}: expected one in the candidate's manifest, found none"),
        Comparison::Differs(difference) => {
            let from = |text: &str| {
                let rest: String = text.chars().skip(difference.position).take(24).collect();
                if rest.is_empty() { "its end".to_owned() } else { format!("{rest:?}") }
            };
            format!(
                "{name}: at character {}: expected {}, found {}",
                difference.position,
                from(&difference.golden),
                from(&difference.candidate)
            )
        }
    }
}

/// How two sequences of generated ids compare.
pub(super) fn ids(comparison: &Comparison<IdDifference>) -> String {
    match comparison {
        Comparison::Equal => "generated ids: equal".to_owned(),
        Comparison::Skipped(reason) => format!("generated ids: not compared, {}", skipped(*reason)),
        Comparison::Missing => {
            "generated ids: expected them in the candidate's manifest, found none".to_owned()
        }
        Comparison::Differs(difference) => {
            let [expected, found] = [difference.expected(), difference.found()];
            let id = |id: Option<i64>, text: &Option<String>| match (id, text) {
                (Some(id), Some(text)) => format!("{id} ({text:?})"),
                (Some(id), None) => id.to_string(),
                (None, _) => "the end".to_owned(),
            };
            let mut line = format!(
                "generated ids: at position {}: expected {}, found {}",
                difference.position,
                id(expected, &difference.texts[0]),
                id(found, &difference.texts[1])
            );
            if let Some(gap) = &difference.gap {
                line.push_str(&format!("; the golden logits preferred it by {}", element(gap.golden)));
                line.push_str(&format!(" and have the other in place {}", gap.golden_rank));
                match gap.candidate {
                    Some(own) if own < 0.0 => {
                        line.push_str(&format!(", the candidate's preferred it too, by {}", element(-own)));
                    }
                    Some(own) => {
                        line.push_str(&format!(", the candidate's preferred its own by {}", element(own)));
                    }
                    None => (),
                }
            }
            line
        }
    }
}

/// The generated ids of both sides, position by position, as far as they need be shown.
pub(super) fn id_lines(difference: &IdDifference) -> [String; 2] {
    /// How many positions before the difference are shown, and how many in all.
    const BEFORE: usize = 4;
    const SHOWN: usize = 10;
    let start = difference.position.saturating_sub(BEFORE);
    let line = |name: &str, ids: &[i64]| {
        let mut line = format!("{name:<10}");
        if start > 0 {
            line.push_str(" …");
        }
        for (position, id) in ids.iter().enumerate().skip(start).take(SHOWN) {
            let mark = if position == difference.position { ["[", "]"] } else { ["", ""] };
            line.push_str(&format!(" {}{id}{}", mark[0], mark[1]));
        }
        if ids.len() > start + SHOWN {
            line.push_str(" …");
        } else if ids.len() <= difference.position {
            line.push_str(" [end]");
        }
        line
    };
    [line("golden", &difference.golden), line("candidate", &difference.candidate)]
}

fn skipped(reason: Skipped) -> &'static str {
    match reason {
        Skipped::NotInGolden => "the golden dump has none",
        Skipped::Policy => "the policy leaves it out",
        Skipped::Names => "the map of names leaves it out",
        Skipped::NothingGenerated => "the candidate generated nothing",
        Skipped::Sampled => "the tokens were drawn by chance",
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
            format!("the golden request had {golden} pictures, the candidate's {candidate}")
        }
        Note::Order { name } => {
            format!("the candidate recorded `{name}` in another order; entries are paired by name")
        }
        Note::AllowedDtypes { count } => {
            format!("{count} entries are not in the golden dtype, as those of the right runs are not")
        }
        Note::MappedDtypes { count } => {
            format!("{count} entries are not in the golden dtype, as the map of names allows")
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
        Note::Estimated { count } => format!(
            "{count} entries are compared by sketches: numbers with a ~ are estimates, within 25 % in 95 of 100 cases"
        ),
        Note::IdleRule { sites } => {
            format!("the policy's rule for `{}` matches no entry", sites.join("`, `"))
        }
    }
}

/// The names of the entries with an error of their own, as far as they need be shown; `None` if there is at most one,
/// which the first divergence has named.
pub(super) fn all_fresh(report: &DiffReport) -> Option<String> {
    const SHOWN: usize = 8;
    let names: Vec<&str> = report.fresh().map(|entry| entry.entry.name.as_str()).collect();
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
    Some(format!("{} errors made, not inherited: {}{rest}", names.len(), shown.join(", ")))
}

/// How many entries are how: `105 entries: 104 pass (60 bit-equal), 1 fail`.
pub(super) fn counts(report: &DiffReport) -> String {
    let summary = report.summary();
    let mut line = format!(
        "{} entries: {} pass, {} bit-equal, {} fail",
        summary.entries, summary.passed, summary.bit_equal, summary.failed
    );
    if summary.fresh > 0 {
        line.push_str(&format!(", {} fresh", summary.fresh));
    }
    if summary.ignored > 0 {
        line.push_str(&format!(", {} ignored", summary.ignored));
    }
    line
}
