//! Presents a [`DiffReport`](crate::result::DiffReport). Nothing here measures or decides.
//!
//! A format is a file of this folder with a `FORMAT`, and a line in [`FORMATS`].

mod explanation;
mod format;
mod github;
mod graph;
mod html;
mod json;
mod junit;
mod markdown;
mod names;
mod numbers;
mod place;
mod sentences;
mod show;
mod steps;
mod table;

use clap::ValueEnum;
use clap::builder::PossibleValue;
pub use explanation::explanation;

pub use format::{Format, Options};
pub use graph::{GraphFormat, graph};
pub use place::place;
pub use show::show;
pub use table::FORMAT as TABLE;

/// All formats.
pub const FORMATS: &[Format] =
    &[table::FORMAT, json::FORMAT, junit::FORMAT, markdown::FORMAT, html::FORMAT, github::FORMAT];

/// The format of a name.
pub fn format(name: &str) -> Option<Format> {
    FORMATS.iter().copied().find(|format| format.name == name)
}

/// Whether a file of this extension that begins with `head` is an earlier report, and may be replaced by another one.
pub fn is_report(extension: &str, head: &str) -> bool {
    FORMATS.iter().any(|format| format.extension == extension && (format.is_report)(head))
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        FORMATS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_share_no_name_and_no_extension() {
        for (at, format) in FORMATS.iter().enumerate() {
            let mut others = FORMATS[..at].iter();
            assert!(others.all(|other| other.name != format.name && other.extension != format.extension));
        }
        assert!(format("xml").is_none());
    }
}
