//! The steps behind the prompt.

use super::alignment::AlignedStep;
use super::sides::Sides;
use super::tokens::{Given, steps_of};

/// A decoding step of the plain run, before its counterpart is looked for.
pub(super) struct Step {
    pub(super) step: u64,
    pub(super) ids: Option<Vec<i64>>,
    /// The number of its tokens.
    pub(super) tokens: usize,
    /// The number of keys behind it.
    pub(super) keys: usize,
}

impl Step {
    /// What belongs to it, with no pass yet.
    pub(super) fn aligned(&self) -> AlignedStep {
        AlignedStep { step: self.step, tokens: self.tokens, keys: self.keys, passes: Vec::new() }
    }
}

/// The plain run's steps behind a prompt of so many tokens. A step of which no ids are recorded has one token.
pub(super) fn decoding(sides: &Sides<'_>, prompt: usize) -> Vec<Step> {
    let mut keys = prompt;
    let mut found = Vec::new();
    let mut before = 0;
    for step in steps_of(sides.plain).into_iter().filter(|&step| step > 0) {
        let ids = Given::of(sides.plain, step).map(|given| given.ids);
        let tokens = ids.as_ref().map_or(1, Vec::len);
        // Steps that were not recorded had one token each.
        keys += tokens + (step - before - 1) as usize;
        before = step;
        found.push(Step { step, ids, tokens, keys });
    }
    found
}
