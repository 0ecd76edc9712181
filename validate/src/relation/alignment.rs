//! Which tokens of which forward passes are the plain run's.

use std::ops::Range;

use super::fact::Fact;
use super::kind::Relation;

/// Which tokens of the candidate are which of the plain run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alignment {
    /// How the runs belong together.
    pub relation: Relation,
    /// The number of the prompt's tokens in the plain run.
    pub tokens: usize,
    /// The forward passes of the plain run that have a counterpart, in order. Of a repeat there are none: everything belongs
    /// together.
    pub steps: Vec<AlignedStep>,
    /// What a reader is to know.
    pub facts: Vec<Fact>,
    /// Whether the candidate's batch has other requests.
    pub others: bool,
}

/// A forward pass of the plain run, and the passes of the candidate that computed its tokens, or some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignedStep {
    /// The plain run's step.
    pub step: u64,
    /// The number of its tokens.
    pub tokens: usize,
    /// The number of keys and values in the cache behind it.
    pub keys: usize,
    /// The candidate's passes, in order of the tokens.
    pub passes: Vec<Pass>,
}

/// A forward pass of the candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Its step.
    pub step: u64,
    /// The number of sequences in its batch.
    pub batch: usize,
    /// The number of tokens of each sequence.
    pub width: usize,
    /// The sequence that has the request.
    pub row: usize,
    /// The request's tokens in that sequence.
    pub columns: Range<usize>,
    /// Which tokens of the plain run's pass these are.
    pub tokens: Range<usize>,
    /// The positions in the cache behind the pass that are the plain run's, in its order.
    pub keys: Vec<Range<usize>>,
    /// The number of all positions in the cache behind the pass.
    pub keys_of: usize,
    /// Of several requests that are packed one after the other: which it is, of how many, if that is known.
    pub packed: Option<(usize, usize)>,
}

impl AlignedStep {
    /// The tokens of the plain run that the candidate computed.
    pub fn computed(&self) -> Range<usize> {
        let start = self.passes.first().map_or(0, |pass| pass.tokens.start);
        start..self.passes.last().map_or(start, |pass| pass.tokens.end)
    }
}

impl Pass {
    /// A pass that has one sequence, whose first columns are tokens of the plain run; all keys before their end are in its cache.
    pub(super) fn alone(step: u64, width: usize, tokens: Range<usize>, keys: usize) -> Self {
        Pass {
            step,
            batch: 1,
            width,
            row: 0,
            columns: 0..tokens.len(),
            tokens,
            keys: vec![0..keys; 1],
            keys_of: keys,
            packed: None,
        }
    }
}
