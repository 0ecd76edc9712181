//! Runs the model.

pub mod pictures;
pub mod prompt;
