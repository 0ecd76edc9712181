//! Presents a [`DiffReport`](crate::result::DiffReport). Nothing here measures or decides.
//!
//! A format is a file of this folder with a type that implements [`Format`], and a line in `FORMATS`.

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

/// All formats, each with its name.
const FORMATS: [(&str, fn(Options) -> Box<dyn Format>); 5] = [
    ("table", |options| Box::new(table::Table(options))),
    ("json", |_| Box::new(json::Json)),
    ("junit", |_| Box::new(junit::Junit)),
    ("markdown", |_| Box::new(markdown::Markdown)),
    ("html", |_| Box::new(html::Html)),
];

/// The names of all formats.
pub fn names() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().map(|(name, _)| *name)
}

/// The format of a name.
pub fn format(name: &str, options: Options) -> Option<Box<dyn Format>> {
    FORMATS.iter().find(|(other, _)| *other == name).map(|(_, of)| of(options))
}

/// Whether a file of this extension that begins with `head` is an earlier report, and may be replaced by another one.
pub fn is_report(extension: &str, head: &str) -> bool {
    let mut formats = FORMATS.iter().map(|(_, of)| of(Options::default()));
    formats.any(|format| format.extension() == extension && format.is_report(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_format() {
        assert!(names().all(|name| format(name, Options::default()).is_some()));
        assert!(format("xml", Options::default()).is_none());
    }
}
