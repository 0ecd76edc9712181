//! The comparison, from outside the crate and from outside the program.

// In tests a failed `unwrap` is the assertion; clippy knows only the functions marked `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod browser;
mod changed;
mod command;
mod diagnoses;
mod documents;
mod dumps;
mod families;
mod flow;
mod graph;
mod hostile;
mod large;
mod metrics;
mod names;
mod noises;
mod origins;
mod page;
mod planted;
mod policies;
mod relations;
mod reports;
mod sketches;
mod stand_ins;
mod steps;
mod synthetic;
mod vllm;
mod ways;
