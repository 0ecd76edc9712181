//! Compares two activation dumps, entry by entry, and names the first divergence.
//!
//! [`metric`] measures, [`tolerance`] decides, [`origin`] separates introduced from inherited errors, [`diff()`] pairs the
//! entries and collects the results, [`report`] writes them.

mod answer;
pub mod arguments;
pub mod diagnosis;
mod diff;
mod error;
pub mod logits;
pub mod metric;
pub mod names;
pub mod noise;
pub mod origin;
pub mod report;
mod tiles;
mod tokens;
pub mod tolerance;

pub use answer::{AnswerReport, Comparison, IdDifference, Skipped, TextDifference};
pub use diff::{
    DiffReport, Divergence, EntryReport, NoiseSource, Note, Side, Summary, diff, diff_with_names,
    diff_with_noise,
};
pub use error::{Error, Result};
pub use names::NameMap;
pub use noise::Noise;
pub use tiles::Tiles;
pub use tokens::Tokens;
pub use tolerance::Policy;
