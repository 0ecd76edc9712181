//! Who looks at a run while the model computes it.

use tch::Tensor;

use crate::error::Result;

/// A place of the model whose output can be observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site<'a> {
    /// Its path in the public `modeling.py`.
    pub name: &'a str,
    /// Its class there.
    pub module: &'a str,
}

impl<'a> Site<'a> {
    /// The site of this path and class.
    pub fn new(name: &'a str, module: &'a str) -> Self {
        Self { name, module }
    }
}

/// Sees what a run is given and what each module computes, and may put something else in its place.
///
/// Every method has a body that changes nothing: an observer has those that it needs.
pub trait Observer {
    /// What the whole run is given.
    ///
    /// # Errors
    /// Where the observer cannot take it.
    fn input(&mut self, _name: &str, _tensor: &Tensor) -> Result<()> {
        Ok(())
    }

    /// What a module has computed; the model goes on with what this returns.
    ///
    /// # Errors
    /// Where the observer cannot take it, or wants the run to end.
    fn output(&mut self, _site: Site<'_>, output: Tensor) -> Result<Tensor> {
        Ok(output)
    }

    /// The prompt has been read: what follows is decoding.
    fn end_of_prefill(&mut self) {}

    /// Whether the logits of the steps are to be kept for [`Observer::step_logits`].
    fn wants_step_logits(&self) -> bool {
        false
    }

    /// The logits from which each token was chosen.
    ///
    /// # Shapes
    /// [steps, v] float32, on the CPU
    ///
    /// # Errors
    /// Where the observer cannot take them.
    fn step_logits(&mut self, _logits: &Tensor) -> Result<()> {
        Ok(())
    }
}

/// Looks at nothing, at no cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
