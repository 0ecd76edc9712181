//! Tests of the crate as a whole, against what the public code gave.

// Functions outside a `#[test]` are tests as well: a failed `unwrap` is the assertion.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod as_recorded;
mod bundled;
mod chat_template;
mod checkpoint_files;
mod fixtures;
mod flow;
mod formats;
mod generate;
mod hostile_files;
mod hostile_templates;
mod pictures;
mod preprocess;
mod prompt;
mod refusals;
mod refused_pictures;
mod replay;
mod resumed;
mod run;
mod steps;
mod videos;
