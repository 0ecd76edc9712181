//! The weight of a norm is applied as 1 + weight, or is not where it should be.
//!
//! Gemma and Megatron's `layernorm1p` keep the distance of the weight from 1. Llama keeps the weight.

use super::explanation::{Explanation, best};
use super::kind::Diagnosis;
use super::norm_input::{self, EPSILONS, NormInput};
use super::probe::Probe;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "unit_offset",
    asks: norm_input::asks,
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "Llama's norms computed as Gemma's",
};

/// How many times the normalised input is added, and what that means.
const OFFSETS: [(f64, &str); 2] = [
    (1.0, "the norm's weight is applied as 1 + weight, and not as it is"),
    (-1.0, "the norm's weight is too small by 1: its distance from 1 is taken for the weight"),
];

/// The golden input tells the normalised numbers, up to the epsilon. A wrong offset adds them to the output or subtracts them.
fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let given = NormInput::of(probe)?;
    let attempts = EPSILONS.iter().flat_map(|epsilon| OFFSETS.iter().map(move |offset| (epsilon, offset)));
    best(attempts.filter_map(|(epsilon, &(times, pattern))| {
        let scales: Vec<f64> =
            given.variances.iter().map(|variance| times / (variance + epsilon).sqrt()).collect();
        let after = case.distance_in(0..scales.len(), |at, column| {
            let (row, added) = (given.rows[at], scales[at] * given.numbers[at].get(column)?);
            Some((case.golden(row, column), case.candidate(row, column) - added))
        });
        probe.explain(pattern, Vec::new(), after)
    }))
}
