//! The report for a step summary: GitHub-flavoured Markdown.

use std::fmt::Write as _;

use cli::escape::markdown as text;

use super::format::Format;
use super::numbers::{relative_l2, short, short_or_dash};
use super::sentences;
use super::steps::{by_step, has_steps};
use crate::entry::EntryReport;
use crate::result::DiffReport;
use measure::tolerance::Metric;

/// How many failing entries are listed.
const FAILING: usize = 30;

/// How many generated tokens are listed.
const STEPS: usize = 50;

/// Markdown.
pub(super) const FORMAT: Format = Format {
    name: "markdown",
    extension: "md",
    is_report: |head| head.starts_with("## Activations: "),
    render: |report, _| render(report),
};

fn render(report: &DiffReport) -> String {
    let mut out = String::new();
    let verdict = if report.passes() { "✅ pass" } else { "❌ fail" };
    line(&mut out, &format!("## Activations: {verdict}"));
    line(&mut out, "");
    line(&mut out, "| | dump | made by |");
    line(&mut out, "|---|---|---|");
    for (name, side) in [("golden", &report.golden), ("candidate", &report.candidate)] {
        let (path, producer) = (code(&side.path.display().to_string()), text(&sentences::producer(side)));
        line(&mut out, &format!("| {name} | {path} | {producer} |"));
    }
    for (name, limits) in sentences::limits(report) {
        line(&mut out, &format!("| {name} | {} | |", code(&limits)));
    }
    line(&mut out, "");
    if let Some((headline, lines)) = sentences::divergence(report) {
        line(&mut out, &format!("**First divergence: {}**", text(&headline)));
        line(&mut out, "");
        for item in lines {
            line(&mut out, &format!("- {}", text(&item)));
        }
        line(&mut out, "");
    }
    let mut paragraph = |sentence: &str| {
        line(&mut out, &text(sentence));
        line(&mut out, "");
    };
    sentences::all_fresh(report).iter().for_each(|sentence| paragraph(sentence));
    paragraph(&sentences::counts(report));
    for sentence in sentences::answer(report) {
        paragraph(&sentence);
    }
    sentences::not_recorded(report).iter().for_each(|sentence| paragraph(sentence));
    for note in &report.notes {
        paragraph(&format!("Note: {}.", sentences::note(report, note)));
    }
    if !report.verified {
        paragraph("The recorded hashes were not checked.");
    }
    by_steps(&mut out, report);
    failing(&mut out, report);
    counterparts(&mut out, report);
    steps(&mut out, report);
    out
}

/// How many entries of each step are how; nothing where there is only the prefill.
fn by_steps(out: &mut String, report: &DiffReport) {
    if !has_steps(report) {
        return;
    }
    line(out, "| step | entries | fail | fresh | first introduced error |");
    line(out, "|---:|---:|---:|---:|---|");
    for steps in by_step(&report.entries, true) {
        let first = steps.entries.iter().find(|entry| entry.origin.is_fresh());
        let first = first.map_or_else(String::new, |entry| code(&entry.entry.name));
        let (step, entries) = (steps.number(), steps.entries.len());
        line(out, &format!("| {step} | {entries} | {} | {} | {first} |", steps.failed(), steps.fresh()));
    }
    line(out, "");
}

fn failing(out: &mut String, report: &DiffReport) {
    let failing: Vec<&EntryReport> = report.entries.iter().filter(|entry| entry.is_failure()).collect();
    if failing.is_empty() {
        return;
    }
    line(out, "<details><summary>Entries that fail</summary>");
    line(out, "");
    // With a map, the candidate's own names have a column.
    let mapped = report.names.is_some();
    // So does the step, where there are several.
    let in_steps = has_steps(report);
    line(
        out,
        &format!(
            "|{} order | site |{} relative L2 | worst row | max abs | verdict |",
            if in_steps { " step |" } else { "" },
            if mapped { " candidate |" } else { "" }
        ),
    );
    let (step, candidate) = (if in_steps { "---:|" } else { "" }, if mapped { "---|" } else { "" });
    line(out, &format!("|{step}---:|---|{candidate}---:|---:|---:|---|"));
    for entry in failing.iter().take(FAILING) {
        let measurement = entry.measurement.as_ref();
        let of = |metric: Metric| short_or_dash(measurement.and_then(|m| metric.of(m)));
        let tensors = entry.counterpart.iter().flat_map(|counterpart| &counterpart.tensors);
        let tensors: Vec<String> = tensors.map(|name| code(name)).collect();
        let candidate = if mapped { format!(" {} |", tensors.join("<br>")) } else { String::new() };
        line(
            out,
            &format!(
                "|{} {} | {} |{candidate} {} | {} | {} | {} |",
                if in_steps { format!(" {} |", entry.entry.step) } else { String::new() },
                sentences::order(entry),
                code(&entry.entry.name),
                text(&relative_l2(measurement)),
                of(Metric::RowRelativeL2),
                of(Metric::MaxAbs),
                sentences::verdict(entry).to_lowercase()
            ),
        );
    }
    if failing.len() > FAILING {
        let (step, candidate) = (if in_steps { " |" } else { "" }, if mapped { " |" } else { "" });
        line(out, &format!("|{step} | and {} more |{candidate} | | | |", failing.len() - FAILING));
    }
    line(out, "");
    line(out, "</details>");
}

/// How the candidate's names became the golden ones.
fn counterparts(out: &mut String, report: &DiffReport) {
    let rules = sentences::counterparts(report);
    if rules.is_empty() {
        return;
    }
    line(out, "<details><summary>The candidate's names</summary>");
    line(out, "");
    for rule in rules {
        line(out, &format!("- {}", text(&rule)));
    }
    line(out, "");
    line(out, "</details>");
}

/// The logits of each generated token, as far as they need be shown.
fn steps(out: &mut String, report: &DiffReport) {
    let Some(logits) = report.answer.logits.as_ref().filter(|logits| !logits.steps.is_empty()) else {
        return;
    };
    line(out, "<details><summary>Logits of each generated token</summary>");
    line(out, "");
    line(out, "| position | top 1 | top 5 | top 10 | KL divergence |");
    line(out, "|---:|---:|---:|---:|---:|");
    for (position, step) in logits.steps.iter().enumerate().take(STEPS) {
        let common = sentences::common(step).join(" | ");
        line(out, &format!("| {position} | {common} | {} |", short(step.kl_divergence)));
    }
    if logits.steps.len() > STEPS {
        line(out, &format!("| and {} more | | | | |", logits.steps.len() - STEPS));
    }
    line(out, "");
    line(out, "</details>");
}

/// A name in a fixed-width font, which takes what Markdown's own code spans do not.
fn code(name: &str) -> String {
    format!("<code>{}</code>", text(name))
}

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}
