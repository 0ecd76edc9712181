//! What a format of the report is.

use crate::result::DiffReport;

/// A way to present a report.
pub trait Format {
    /// The extension of its files.
    fn extension(&self) -> &'static str;

    /// Whether a file that begins with `head` is an earlier report of this format.
    fn is_report(&self, head: &str) -> bool;

    /// The report as text.
    fn render(&self, report: &DiffReport) -> String;
}

/// What the presentations can vary.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether each entry has a row of its own, where runs of alike ones would share one.
    pub all: bool,
    /// Whether text is coloured for a terminal.
    pub colour: bool,
}
