//! What a mistake is.

use tch::Tensor;

use crate::error::Result;
use crate::model::observer::{AttentionInputs, Counter, Observer, Operation, Site};
use crate::weights::Loading;

/// A change of the computation.
#[derive(Clone, Copy)]
pub struct Mistake {
    /// Its name.
    pub name: &'static str,
    /// What is done wrongly.
    pub what: &'static str,
    pub(super) change: Change,
}

/// Where a mistake is planted.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// In what is loaded.
    Loaded(&'static dyn Loading),
    /// In what a module computes.
    Computation(fn(Operation<'_>) -> Result<Option<Tensor>>),
    /// In what the decoder's attention is computed of.
    Attention(fn(&mut AttentionInputs) -> Result<()>),
    /// In the outputs of sites.
    Outputs(fn() -> Box<dyn AtWork>),
    /// In what is counted.
    Count(fn(Counter, i64) -> i64),
    /// In the passes behind the prefill.
    Decoding(Wrong),
}

/// A forward pass.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pass {
    /// 0 is the prefill.
    pub(super) step: i64,
    /// Tokens of the prompt.
    pub(super) prompt: i64,
}

/// What is done wrongly in a pass.
#[derive(Clone, Copy)]
pub(super) enum Wrong {
    /// The position of the pass's first token.
    Position(fn(Pass, i64) -> i64),
    /// The place in the cache of its first token.
    Slot(fn(Pass, i64) -> i64),
    /// What the cache has, or an attention is given of it.
    Cache(fn(Pass, Site<'_>, &mut AttentionInputs) -> Result<()>),
}

/// A mistake at work: an observer that passes on what it does not change.
pub(super) trait AtWork {
    /// As [`Observer::operation`].
    fn operation(&mut self, _site: Site<'_>, _operation: Operation<'_>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// As [`Observer::attention`].
    fn attention(&mut self, _site: Site<'_>, _inputs: &mut AttentionInputs) -> Result<()> {
        Ok(())
    }

    /// As [`Observer::output`]. It passes outputs on to `next`.
    fn output(&mut self, site: Site<'_>, output: Tensor, next: &mut dyn Observer) -> Result<Tensor> {
        next.output(site, output)
    }

    /// As [`Observer::count`].
    fn count(&mut self, _counter: Counter, count: i64) -> i64 {
        count
    }
}

impl std::fmt::Debug for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
