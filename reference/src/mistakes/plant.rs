//! Puts mistakes into a run.

use std::path::Path;

use converter::normalized::Checkpoint;
use tch::{Device, Tensor};

use super::mistake::{AtWork, Change, Mistake};
use super::passes::Decoding;
use crate::error::Result;
use crate::math::Math;
use crate::model::observer::{AttentionInputs, Counter, Observer, Operation, Site};
use crate::model::{Dtypes, NemotronVl};

/// Loads a model with those of the mistakes that change what is loaded.
///
/// # Errors
/// As [`NemotronVl::load`].
pub fn load(
    dir: &Path,
    dtypes: impl Into<Dtypes>,
    device: Device,
    math: Math,
    mistakes: &[Mistake],
) -> Result<NemotronVl> {
    let loading = mistakes.iter().filter_map(|mistake| match mistake.change {
        Change::Loaded(loading) => Some(loading),
        _ => None,
    });
    NemotronVl::of(Checkpoint::open(dir)?, dtypes, device, math, loading.collect())
}

/// Plants those of the mistakes that change the computation: run the model with what this returns. It passes all on to
/// `observer`.
pub fn plant<'a>(mistakes: &[Mistake], observer: &'a mut dyn Observer) -> Box<dyn Observer + 'a> {
    let first: Box<dyn Observer + 'a> = Box::new(observer);
    mistakes.iter().fold(first, |next, mistake| {
        let at_work: Box<dyn AtWork> = match mistake.change {
            Change::Loaded(_) => return next,
            Change::Computation(compute) => Box::new(Computation(compute)),
            Change::Attention(change) => Box::new(Attention(change)),
            Change::Outputs(outputs) => outputs(),
            Change::Count(count) => Box::new(Count(count)),
            Change::Decoding(wrong) => Box::new(Decoding::new(wrong)),
        };
        Box::new(Planted { at_work, next })
    })
}

/// One mistake in front of an observer.
struct Planted<'a> {
    at_work: Box<dyn AtWork>,
    next: Box<dyn Observer + 'a>,
}

struct Computation(fn(Operation<'_>) -> Result<Option<Tensor>>);

impl AtWork for Computation {
    fn operation(&mut self, _site: Site<'_>, operation: Operation<'_>) -> Result<Option<Tensor>> {
        (self.0)(operation)
    }
}

struct Attention(fn(&mut AttentionInputs) -> Result<()>);

impl AtWork for Attention {
    fn attention(&mut self, _site: Site<'_>, inputs: &mut AttentionInputs) -> Result<()> {
        (self.0)(inputs)
    }
}

struct Count(fn(Counter, i64) -> i64);

impl AtWork for Count {
    fn count(&mut self, counter: Counter, count: i64) -> i64 {
        (self.0)(counter, count)
    }
}

impl Observer for Planted<'_> {
    fn input(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        self.next.input(name, tensor)
    }

    fn operation(&mut self, site: Site<'_>, operation: Operation<'_>) -> Result<Option<Tensor>> {
        match self.at_work.operation(site, operation)? {
            Some(output) => Ok(Some(output)),
            None => self.next.operation(site, operation),
        }
    }

    fn attention(&mut self, site: Site<'_>, inputs: &mut AttentionInputs) -> Result<()> {
        self.at_work.attention(site, inputs)?;
        self.next.attention(site, inputs)
    }

    fn output(&mut self, site: Site<'_>, output: Tensor) -> Result<Tensor> {
        self.at_work.output(site, output, &mut *self.next)
    }

    fn count(&mut self, counter: Counter, count: i64) -> i64 {
        self.next.count(counter, self.at_work.count(counter, count))
    }

    fn end_of_step(&mut self, past_key_values: &[[Tensor; 2]]) -> Result<()> {
        self.next.end_of_step(past_key_values)
    }

    fn wants_step_logits(&self) -> bool {
        self.next.wants_step_logits()
    }

    fn step_logits(&mut self, logits: &Tensor) -> Result<()> {
        self.next.step_logits(logits)
    }
}
