//! Compares two activation dumps, entry by entry, and names the first divergence.
//!
//! [`measure`] measures, decides, and separates introduced from inherited errors. [`diff()`] pairs the entries and collects the results,
//! [`diagnosis`] tests known mistakes, [`report`] writes.

mod answer;
pub mod arguments;
mod calibrate;
pub mod diagnosis;
mod diff;
mod entry;
mod error;
pub mod logits;
pub mod names;
mod note;
mod relation;
pub mod report;
mod result;
mod tiles;
mod tokens;

pub use measure::{Noise, Policy, metric, origin, tolerance};

pub use answer::{AnswerReport, Comparison, IdDifference, Skipped, TextDifference};
pub use calibrate::calibrate;
pub use diff::{DiffOptions, diff};
pub use entry::EntryReport;
pub use error::{Error, Result};
pub use names::NameMap;
pub use note::Note;
pub use relation::{AlignedStep, Alignment, Fact, Pass, Relation};
pub use result::{DiffReport, Divergence, Side, Summary};
pub use tiles::Tiles;
pub use tokens::Tokens;
