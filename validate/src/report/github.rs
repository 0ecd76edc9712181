//! The report for a run of GitHub Actions: workflow commands, which annotate the run when a step prints them.
//!
//! The first divergence is an error, each other introduced error a warning. Inherited errors need no look, and get none.

use cli::escape::terminal;

use super::format::Format;
use super::sentences::{self, Before};
use crate::result::{DiffReport, Divergence};
use measure::tolerance::Verdict;

/// GitHub shows this many annotations of a kind for each step.
const MOST: usize = 10;

/// Annotations.
pub(super) const FORMAT: Format = Format {
    name: "github",
    extension: "annotations",
    is_report: |head| ["error", "notice"].iter().any(|kind| head.starts_with(&beginning(kind))),
    render: |report, _| render(report),
};

fn render(report: &DiffReport) -> String {
    let Some((headline, mut lines)) = sentences::divergence(report) else {
        let mut lines = vec![sentences::counts(report)];
        lines.extend(sentences::answer(report));
        return command("notice", "pass", &lines) + &warnings(report);
    };
    lines.push(sentences::counts(report));
    command("error", &format!("first divergence at {headline}"), &lines) + &warnings(report)
}

/// Introduced errors, without the first divergence and without sites that the policy ignores. If they are too many, the last
/// warning counts the rest.
fn warnings(report: &DiffReport) -> String {
    let first = report.first_divergence();
    let others = |&index: &usize| {
        let entry = &report.entries[index];
        let is_ignored = matches!(entry.verdict, Verdict::Ignored { .. });
        entry.origin.is_fresh() && !is_ignored && first != Some(Divergence::Entry(index))
    };
    let introduced: Vec<usize> = (0..report.entries.len()).filter(others).collect();
    let shown = if introduced.len() > MOST { MOST - 1 } else { introduced.len() };
    let (shown, rest) = introduced.split_at(shown);
    let before = Before::of(report);
    let warning = |&index: &usize| {
        let entry = &report.entries[index];
        let reason = sentences::entry_lines(report, &before, index, entry).into_iter().take(1);
        command(
            "warning",
            &format!("introduced error at {}", sentences::site(entry)),
            &reason.collect::<Vec<_>>(),
        )
    };
    let mut out: String = shown.iter().map(warning).collect();
    if let [next, ..] = rest {
        let from = format!("the first of them at {}", sentences::site(&report.entries[*next]));
        out.push_str(&command("warning", &format!("{} more introduced errors", rest.len()), &[from]));
    }
    out
}

fn beginning(kind: &str) -> String {
    format!("::{kind} title={}", property("Activations: "))
}

/// A workflow command.
fn command(kind: &str, title: &str, lines: &[String]) -> String {
    let text: Vec<String> = lines.iter().map(|line| terminal(line)).collect();
    format!("{}{}::{}\n", beginning(kind), property(&terminal(title)), data(&text.join("\n")))
}

/// A text as the value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A text as what follows the properties.
///
/// # Source
/// `packages/core/src/command.ts` of actions/toolkit: the runner undoes these.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_property_or_a_line_is_escaped() {
        let lines = ["50 %: a, b".to_owned(), "c\r".to_owned()];
        assert_eq!(
            command("error", "at a::b, 5 %\n::stop", &lines),
            "::error title=Activations%3A at a%3A%3Ab%2C 5 %25\\n%3A%3Astop::50 %25: a, b%0Ac\\r\n"
        );
    }
}
