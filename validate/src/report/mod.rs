//! Presents a [`DiffReport`](crate::result::DiffReport). Nothing here measures or decides.
//!
//! A format is a file of this folder with a type that implements [`Format`], and a line in [`format()`] and [`NAMES`].

mod explanation;
mod format;
mod html;
mod json;
mod junit;
mod markdown;
mod names;
mod numbers;
mod show;
mod table;
mod words;

pub use explanation::explanation;
pub use format::{Format, Options};
pub use show::show;

/// Whether a file of this extension that begins with `head` is an earlier report, and may be replaced by another one.
pub fn is_report(extension: &str, head: &str) -> bool {
    match extension {
        "txt" => head.starts_with("golden  ") && head.contains("\ncandidate  "),
        "json" => head.starts_with("{\n  \"format\": \"diff-report\""),
        "xml" => head.contains("<testsuites name=\"nvl-validate\""),
        "md" => head.starts_with("## Activations: "),
        "html" => head.contains("<title>nvl-validate: "),
        _ => false,
    }
}

/// The names of all formats.
pub const NAMES: [&str; 5] = ["table", "json", "junit", "markdown", "html"];

/// The format of a name.
pub fn format(name: &str, options: Options) -> Option<Box<dyn Format>> {
    Some(match name {
        "table" => Box::new(table::Table(options)),
        "json" => Box::new(json::Json),
        "junit" => Box::new(junit::Junit),
        "markdown" => Box::new(markdown::Markdown),
        "html" => Box::new(html::Html),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_format() {
        assert!(NAMES.iter().all(|name| format(name, Options::default()).is_some()));
        assert!(format("xml", Options::default()).is_none());
    }
}
