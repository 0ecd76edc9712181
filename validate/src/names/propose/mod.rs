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
    let of = |(entry, tensor)| Tensor { entry, rows: Rows::of(tensor) };
    let (golden_tensors, candidates): (Vec<Tensor<'_>>, Vec<Tensor<'_>>) =
        (golden.tensors().map(of).collect(), candidate.tensors().map(of).collect());
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
    finish(golden, candidate, rules)
}
