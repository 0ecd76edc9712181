//! How two related runs belong together.

use std::ops::Range;

use serde::Serialize;

use crate::relation::{AlignedStep, Alignment, Pass};

#[derive(Serialize)]
pub(super) struct RelationJson {
    name: &'static str,
    tokens: usize,
    steps: Vec<StepJson>,
}

/// A forward pass of the plain run, and those of the candidate that computed its tokens.
#[derive(Serialize)]
struct StepJson {
    step: u64,
    candidate: Vec<PassJson>,
}

#[derive(Serialize)]
struct PassJson {
    step: u64,
    sequence: usize,
    /// The candidate's tokens in that sequence, the last one included.
    own: [usize; 2],
    /// The plain run's.
    tokens: [usize; 2],
}

impl RelationJson {
    pub(super) fn of(alignment: &Alignment) -> Self {
        RelationJson {
            name: alignment.relation.name(),
            tokens: alignment.tokens,
            steps: alignment.steps.iter().map(StepJson::of).collect(),
        }
    }
}

impl StepJson {
    fn of(aligned: &AlignedStep) -> Self {
        StepJson { step: aligned.step, candidate: aligned.passes.iter().map(PassJson::of).collect() }
    }
}

impl PassJson {
    fn of(pass: &Pass) -> Self {
        let both = |range: &Range<usize>| [range.start, range.end.saturating_sub(1)];
        PassJson { step: pass.step, sequence: pass.row, own: both(&pass.columns), tokens: both(&pass.tokens) }
    }
}
