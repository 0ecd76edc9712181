//! The report for a CI server: JUnit XML, a test case for each entry and each part of the answer.

use cli::escape::xml;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::format::Format;
use super::sentences::{self, Before};
use crate::answer::Comparison;
use crate::entry::EntryReport;
use crate::result::DiffReport;
use measure::tolerance::Verdict;

/// JUnit XML.
pub(super) const FORMAT: Format = Format {
    name: "junit",
    extension: "xml",
    is_report: |head| head.contains("<testsuites name=\"nvl-validate\""),
    render: |report, _| render(report),
};

fn render(report: &DiffReport) -> String {
    let mut suite = TestSuite::new(xml(&format!(
        "{} against {}",
        report.candidate.path.display(),
        report.golden.path.display()
    )));
    let answer = &report.answer;
    suite.add_test_case(case(
        "prompt",
        "answer",
        comparison(&answer.prompt),
        sentences::text("prompt", &answer.prompt),
    ));
    let before = Before::of(report);
    for (index, entry) in report.entries.iter().enumerate() {
        suite.add_test_case(entry_case(report, &before, index, entry));
    }
    suite.add_test_case(case(
        "generated_ids",
        "answer",
        comparison(&answer.generated_ids),
        sentences::ids(&answer.generated_ids),
    ));
    suite.add_test_case(case(
        "text",
        "answer",
        comparison(&answer.text),
        sentences::text("text", &answer.text),
    ));
    if let Some(logits) = answer.logits.as_ref().and_then(sentences::logits) {
        suite.add_property(("step_logits", xml(&logits).as_str()));
    }
    if let Some((headline, lines)) = sentences::divergence(report) {
        let text = format!("first divergence: {}\n{}", xml(&headline), text_of(&lines));
        suite.set_system_out(text);
    }
    let mut document = Report::new("nvl-validate");
    document.add_test_suite(suite);
    // Every text is escaped, so that the fallback is never taken.
    document.to_string().unwrap_or_default()
}

/// How a test case ends.
enum Outcome {
    Success,
    Failure,
    Skipped,
}

fn comparison<Difference>(comparison: &Comparison<Difference>) -> Outcome {
    match comparison {
        Comparison::Equal => Outcome::Success,
        Comparison::Skipped(_) => Outcome::Skipped,
        Comparison::Missing | Comparison::Differs(_) => Outcome::Failure,
    }
}

fn case(name: &str, class: &str, outcome: Outcome, message: String) -> TestCase {
    let status = match outcome {
        Outcome::Success => TestCaseStatus::success(),
        Outcome::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(xml(&message));
            status
        }
        Outcome::Failure => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type("difference").set_message(xml(&message));
            status
        }
    };
    let mut case = TestCase::new(xml(name), status);
    case.set_classname(xml(class));
    case
}

fn entry_case(report: &DiffReport, before: &Before, index: usize, entry: &EntryReport) -> TestCase {
    let class = sentences::class(entry);
    let (outcome, message) = match &entry.verdict {
        Verdict::Pass => (Outcome::Success, String::new()),
        Verdict::Ignored { reason } => (Outcome::Skipped, reason.clone()),
        Verdict::Fail(failure) => (Outcome::Failure, sentences::failure(failure)),
    };
    let mut case = case(&entry.entry.key(), class, outcome, message);
    if let Some(counterpart) = sentences::counterpart(entry) {
        case.add_property(("candidate".to_owned(), xml(&counterpart)));
    }
    if let Verdict::Fail(_) = &entry.verdict {
        case.status.set_type(sentences::verdict(entry).to_lowercase());
        case.status.set_description(text_of(&sentences::entry_lines(report, before, index, entry)));
    }
    case
}

/// Lines of our own, with what is in them from files.
fn text_of(lines: &[String]) -> String {
    lines.iter().map(|line| xml(line)).collect::<Vec<_>>().join("\n")
}
