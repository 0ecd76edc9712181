//! Proposes a map from the names, shapes and contents of two dumps.
//!
//! What has the same bytes belongs together; else what is alike as far as a sample of its elements tells, in the same
//! order, permuted, fused or split, with more or fewer tokens; what is left, by name, shape and order of execution.
//! Rules that differ in numbers only become one.

mod finish;
mod index;
mod matcher;
mod parts;
mod place;
mod proposal;
mod rule;
mod similarity;
mod whole;

use std::collections::BTreeSet;

use golden::Dump;

use crate::error::Result;
use finish::finish;
use matcher::{Matcher, Tensor};
use rule::generalised;
use similarity::Rows;

pub use proposal::Proposal;

/// Proposes a map from a candidate's names and layouts to those of a golden dump.
///
/// # Errors
///
/// Those of [`super::Pairing::new`], were the proposal itself not to fit the dumps.
pub fn propose(golden: &Dump, candidate: &Dump) -> Result<Proposal> {
    // All steps have the same names, and one is enough to find them: the first that both have.
    let step = first_step(golden, candidate);
    let tensors = |dump| tensors_of_step(dump, step);
    let (golden_tensors, candidates) = (tensors(golden), tensors(candidate));
    let mut matcher = Matcher {
        by_name: candidates.iter().enumerate().map(|(at, tensor)| (tensor.entry.name.as_str(), at)).collect(),
        samples: golden_tensors.iter().map(|tensor| tensor.rows.sample()).collect(),
        found: vec![false; golden_tensors.len()],
        used: vec![false; candidates.len()],
        places: vec![None; golden_tensors.len()],
        matches: Vec::new(),
        golden: golden_tensors,
        candidate: candidates,
    };
    matcher.whole();
    matcher.tokens();
    matcher.joined();
    matcher.split();
    matcher.added();
    matcher.by_place();
    let rules = generalised(std::mem::take(&mut matcher.matches));
    golden.check()?;
    candidate.check()?;
    finish(golden, candidate, step, rules)
}

fn first_step(golden: &Dump, candidate: &Dump) -> u64 {
    let steps = |dump: &Dump| dump.tensors().map(|(entry, _)| entry.step).collect::<BTreeSet<u64>>();
    steps(golden).intersection(&steps(candidate)).next().copied().unwrap_or_default()
}

fn tensors_of_step(dump: &Dump, step: u64) -> Vec<Tensor<'_>> {
    let of_step = dump.tensors().filter(|(entry, _)| entry.step == step);
    of_step.map(|(entry, tensor)| Tensor { entry, rows: Rows::of(tensor) }).collect()
}
