//! `docs/faults.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::{harmless, mistakes};

/// With this variable set the file is written, and not checked.
const WRITE: &str = "NVL_WRITE_FAULTS";

const HEAD: &str = "\
# Planted mistakes

What `nvl-validate diff` says of mistakes that people make when they port the model, and of changes that are none. Written
by `reference/tests/faults`, which plants each in the reference runtime's own computation, in the converted checkpoint or in
what the model is given, runs a bundled golden's request, and compares. `cargo test -p reference --test faults` checks that
the table still holds; with `NVL_WRITE_FAULTS=1` it writes it anew.

The mistakes in the computation are data beside the model (`reference/src/mistakes`), which an observer of the run puts into it.

## Mistakes

The golden dump is one of the public code, or where the table says so the runtime's own run without the mistake. Exit status
1 each time; *found at* is what the first divergence names, reason and diagnosis are what the program says of it. Where the
diagnosis is `none`, no known pattern explains the error, and none is told.
";

const HARMLESS: &str = "
## Harmless changes

Exit status 0 each time, no entry with an error of its own.
";

pub fn render(mistakes: &[mistakes::Outcome], harmless: &[harmless::Outcome]) -> String {
    let mut out = HEAD.to_owned();
    out.push_str(
        "\n| # | planted | in | golden | found at | reason | diagnosis |\n|---|---|---|---|---|---|---|\n",
    );
    for (at, row) in mistakes.iter().enumerate() {
        let diagnosis = match row.diagnoses.first() {
            Some((mistake, text)) => format!("`{mistake}`: {}", cell(text)),
            None => "none".to_owned(),
        };
        let (number, what) = (at + 1, row.what);
        writeln!(
            out,
            "| {number} | {what} | {} | {} | `{}` | {} | {diagnosis} |",
            row.planted_in,
            row.golden,
            row.site,
            cell(&row.reason)
        )
        .unwrap();
    }
    out.push_str(HARMLESS);
    out.push_str("\n| # | change | golden | held to | entries |\n|---|---|---|---|---|\n");
    for (at, row) in harmless.iter().enumerate() {
        let (number, what, golden, held, entries) = (at + 1, row.what, row.golden, &row.held, row.entries);
        writeln!(out, "| {number} | {what} | {golden} | {held} | {entries} |").unwrap();
    }
    out
}

/// A text in which Markdown sees neither a tag nor the end of the cell.
fn cell(text: &str) -> String {
    text.replace('<', "&lt;").replace('|', "\\|")
}

pub fn check(text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/faults.md");
    if std::env::var_os(WRITE).is_some() {
        fs::write(path, text).unwrap();
        return;
    }
    let current = fs::read_to_string(path).unwrap_or_default();
    for (expected, found) in text.lines().zip(current.lines()) {
        assert_eq!(expected, found, "docs/faults.md; write it anew with {WRITE}=1");
    }
    assert_eq!(text.lines().count(), current.lines().count(), "docs/faults.md; write it anew with {WRITE}=1");
}
