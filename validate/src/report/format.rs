//! What a format of the report is.

use crate::result::DiffReport;

/// A way to present a report.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// The name on the command line.
    pub name: &'static str,
    /// The extension of its files.
    pub extension: &'static str,
    /// Whether a file that begins with a text is an earlier report of this format.
    pub(super) is_report: fn(&str) -> bool,
    /// The report as text.
    pub(super) render: fn(&DiffReport, Options) -> String,
}

impl Format {
    /// The report as text.
    pub fn render(&self, report: &DiffReport, options: Options) -> String {
        (self.render)(report, options)
    }
}

/// What the presentations can vary.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether each entry has a row of its own, where runs of alike ones would share one.
    pub all: bool,
    /// Whether text is coloured for a terminal.
    pub colour: bool,
}
