//! Decides whether a measured difference is too large. Nothing here measures or words anything.

mod answer;
mod bounds;
mod globs;
mod policy;
mod policy_file;
mod preset;
mod verdict;

pub use answer::AnswerPolicy;
pub use bounds::{Bounds, Metric, Tolerance};
pub use policy::{Fresh, Policy, Rule, Unpaired};
pub use preset::Preset;
pub use verdict::{Excess, Failure, Verdict, judge};
