//! The report for a terminal of 80 columns.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use cli::counted;
use cli::escape::terminal;

use super::format::{Format, Options};
use super::names::Abbreviations;
use super::numbers::{count, relative_l2, short_or_dash};
use super::sentences;
use super::steps::{by_step, has_steps};
use crate::answer::Comparison;
use crate::entry::EntryReport;
use crate::result::DiffReport;
use measure::tolerance::{Metric, Tolerance, Verdict};

/// The width of the whole table.
const WIDTH: usize = 80;

/// The width of each of the four columns after the site.
const COLUMN: usize = 7;

/// How many failing rows of a run are shown before the rest of them share one.
const FAILING_ROWS: usize = 12;

/// A table with the first divergence above it and the counts below.
pub const FORMAT: Format = Format {
    name: "table",
    extension: "txt",
    is_report: |head| head.starts_with("golden  ") && head.contains("\ncandidate  "),
    render: |report, options| {
        let (mut out, table) = (String::new(), Table(options));
        table.header(&mut out, report);
        table.rows(&mut out, report);
        table.footer(&mut out, report);
        out
    },
};

struct Table(Options);

/// A line of the table: an entry, or a run of them.
struct Row<'a> {
    entries: Vec<&'a EntryReport>,
    /// The entry whose numbers are shown.
    shown: &'a EntryReport,
}

impl Table {
    fn header(&self, out: &mut String, report: &DiffReport) {
        for (name, side) in [("golden", &report.golden), ("candidate", &report.candidate)] {
            line(out, &terminal(&format!("{name:<10} {}", side.path.display())));
            line(out, &terminal(&format!("           {}", sentences::producer(side))));
        }
        for (name, limits) in sentences::limits(report) {
            line(out, &terminal(&format!("{name:<10} {limits}")));
        }
        for note in &report.notes {
            wrapped(out, "note: ", "      ", &sentences::note(report, note));
        }
        out.push('\n');
        if let Some((headline, lines)) = sentences::divergence(report) {
            let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
            let mut text = String::new();
            wrapped(&mut text, "first divergence: ", "  ", &headline);
            line(out, &self.styled(style, text.trim_end()));
            for text in lines {
                wrapped(out, "  ", "    ", &text);
            }
            out.push('\n');
        }
        if let Some(text) = sentences::all_fresh(report) {
            wrapped(out, "", "  ", &text);
            out.push('\n');
        }
    }

    fn rows(&self, out: &mut String, report: &DiffReport) {
        let all = self.0.all;
        let mut rows = Vec::new();
        // What stands above a row: the steps that it and those that follow belong to.
        let mut headings: Vec<(usize, String)> = Vec::new();
        let in_steps = has_steps(report);
        for steps in by_step(&report.entries, !all) {
            let of_steps = if all { unfolded(steps.entries.iter().copied()) } else { folded(&steps.entries) };
            if in_steps && !of_steps.is_empty() {
                headings.push((rows.len(), steps.heading()));
            }
            rows.extend(of_steps);
        }
        let mut headings = headings.into_iter().peekable();
        let orders: Vec<String> = rows.iter().map(Row::order).collect();
        let order_width = orders.iter().map(String::len).max().unwrap_or(0).max("order".len());
        let site_width = WIDTH - order_width - 2 - 4 * (COLUMN + 2);
        let names: Vec<String> = rows.iter().map(|row| terminal(&row.shown.entry.name)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let abbreviations = Abbreviations::for_names(&names, site_width);
        for (prefix, alias) in &abbreviations.prefixes {
            line(out, &format!("{alias:<10} {prefix}"));
        }
        if !abbreviations.prefixes.is_empty() {
            out.push('\n');
        }
        line(
            out,
            &format!(
                "{:>order_width$}  {:<site_width$}  {:>COLUMN$}  {:>COLUMN$}  {:>COLUMN$}  {}",
                "order", "site", "rel L2", "max abs", "ulps", "verdict"
            ),
        );
        for (at, (row, order)) in rows.iter().zip(orders).enumerate() {
            if let Some((_, heading)) = headings.next_if(|(first, _)| *first == at) {
                line(out, &heading);
            }
            let measurement = row.shown.measurement.as_ref();
            let max_abs = measurement.and_then(|measurement| Metric::MaxAbs.of(measurement));
            let cells = format!(
                "{order:>order_width$}  {:<site_width$}  {:>COLUMN$}  {:>COLUMN$}  {:>COLUMN$}",
                row.site(&abbreviations, site_width),
                relative_l2(measurement),
                short_or_dash(max_abs),
                measurement.and_then(|m| m.max_ulps).map_or_else(|| "-".to_owned(), count),
            );
            let verdict = self.styled(verdict_style(row.shown), sentences::verdict(row.shown));
            line(out, &format!("{cells}  {verdict}"));
        }
        out.push('\n');
    }

    fn footer(&self, out: &mut String, report: &DiffReport) {
        let counterparts = sentences::counterparts(report);
        match counterparts.len() {
            0 => {}
            // The long names of both sides would fill the screen.
            count if !self.0.all => wrapped(
                out,
                "",
                "  ",
                &format!(
                    "names by {} of {}; --all lists them",
                    counted(count, "rule"),
                    report.names.as_deref().unwrap_or_default()
                ),
            ),
            _ => counterparts.iter().for_each(|text| wrapped(out, "", "  ", text)),
        }
        sentences::not_recorded(report).iter().for_each(|text| wrapped(out, "", "  ", text));
        line(out, &sentences::counts(report));
        if let Some(index) = report.summary().worst_relative_l2 {
            let worst = &report.entries[index];
            let measurement = worst.measurement.as_ref();
            let equal = measurement.and_then(|measurement| measurement.relative_l2) == Some(0.0);
            let place = if equal { String::new() } else { format!(" at {}", worst.entry.key()) };
            wrapped(out, "", "  ", &format!("worst relative L2: {}{place}", relative_l2(measurement)));
        }
        let answer = &report.answer;
        wrapped(out, "", "  ", &sentences::text("prompt", &answer.prompt));
        wrapped(out, "", "  ", &sentences::ids(&answer.generated_ids));
        if let Comparison::Differs(difference) = &answer.generated_ids {
            for text in sentences::id_lines(difference) {
                line(out, &format!("  {text}"));
            }
        }
        wrapped(out, "", "  ", &sentences::text("text", &answer.text));
        if let Some(logits) = answer.logits.as_ref().and_then(sentences::logits) {
            wrapped(out, "", "  ", &logits);
        }
        if !report.verified {
            line(out, "the recorded hashes were not checked");
        }
        let (word, colour) =
            if report.passes() { ("pass", AnsiColor::Green) } else { ("FAIL", AnsiColor::Red) };
        let style = Style::new().bold().fg_color(Some(colour.into()));
        line(out, &format!("verdict: {}", self.styled(style, word)));
    }

    fn styled(&self, style: Style, text: &str) -> String {
        if self.0.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

impl Row<'_> {
    fn order(&self) -> String {
        match self.entries.as_slice() {
            [first, .., last] if !first.only_candidate => {
                format!("{}-{}", first.entry.order, last.entry.order)
            }
            _ => sentences::order(self.shown),
        }
    }

    fn site(&self, abbreviations: &Abbreviations, width: usize) -> String {
        if self.entries.len() == 1 {
            return abbreviations.fit(&terminal(&self.shown.entry.name), width);
        }
        let sites = self.entries.len();
        if self.entries.iter().all(|entry| entry.is_bit_equal()) {
            return format!("{}, all bit-equal", counted(sites, "site"));
        }
        let whose = if self.shown.only_candidate { " of the candidate only" } else { "" };
        let what = format!("{sites} {}{whose}", if self.shown.is_failure() { "more" } else { "sites" });
        if self.entries.iter().all(|entry| entry.measurement.is_none()) {
            return what;
        }
        let start = format!("{what}, worst ");
        let left = width.saturating_sub(start.chars().count());
        format!("{start}{}", abbreviations.fit(&terminal(&self.shown.entry.name), left))
    }
}

fn unfolded<'a>(entries: impl IntoIterator<Item = &'a EntryReport>) -> Vec<Row<'a>> {
    entries.into_iter().map(|shown| Row { entries: vec![shown], shown }).collect()
}

/// A row for each run of passing entries, and for the rest of each long run of failing ones; what only the candidate has is
/// apart. A note has told of the weights that another attention does not return.
fn folded<'a>(entries: &[&'a EntryReport]) -> Vec<Row<'a>> {
    let is_told = |entry: &&EntryReport| !entry.is_other_attention();
    let entries: Vec<&EntryReport> = entries.iter().copied().filter(is_told).collect();
    let kind = |entry: &EntryReport| (std::mem::discriminant(&entry.verdict), entry.only_candidate);
    let mut rows = Vec::new();
    for run in entries.chunk_by(|a, b| kind(a) == kind(b)) {
        let own_rows = match run {
            [first, ..] if first.is_failure() && run.len() > FAILING_ROWS + 1 => FAILING_ROWS,
            [first, ..] if first.is_failure() => run.len(),
            [_] => 1,
            _ => 0,
        };
        let (own, shared) = run.split_at(own_rows);
        rows.extend(unfolded(own.iter().copied()));
        if let Some(shown) = worst(shared) {
            rows.push(Row { entries: shared.to_vec(), shown });
        }
    }
    rows
}

/// The entry that is nearest to its limit, or furthest beyond it; the first of several.
fn worst<'a>(entries: &[&'a EntryReport]) -> Option<&'a EntryReport> {
    let strain = |entry: &EntryReport| {
        let Some(measurement) = &entry.measurement else { return f64::INFINITY };
        let Tolerance::Bounds(bounds) = &entry.tolerance else {
            return if measurement.bit_equal { 0.0 } else { f64::INFINITY };
        };
        let limits = bounds.limits().filter(|(metric, _)| *metric != Metric::Cosine);
        limits.filter_map(|(metric, limit)| Some(metric.of(measurement)? / limit)).fold(0.0, f64::max)
    };
    entries.iter().rev().copied().max_by(|a, b| strain(a).total_cmp(&strain(b)))
}

fn verdict_style(entry: &EntryReport) -> Style {
    match entry.verdict {
        Verdict::Pass => Style::new().fg_color(Some(AnsiColor::Green.into())),
        Verdict::Ignored { .. } => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
        Verdict::Fail(_) => Style::new().fg_color(Some(AnsiColor::Red.into())),
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}", text.trim_end());
}

/// Writes a text broken at spaces, with one beginning for the first line and another for those that follow.
fn wrapped(out: &mut String, first: &str, next: &str, text: &str) {
    let mut current = first.to_owned();
    let mut empty = true;
    for word in terminal(text).split(' ') {
        if !empty && current.chars().count() + 1 + word.chars().count() > WIDTH {
            line(out, &current);
            current = next.to_owned();
            empty = true;
        }
        if !empty {
            current.push(' ');
        }
        current.push_str(word);
        empty = false;
    }
    line(out, &current);
}
