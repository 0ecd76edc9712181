//! Another epsilon in a normalisation.

use super::case::Case;
use super::explanation::{Explanation, Value};
use super::kind::Diagnosis;
use super::norm_input::{self, EPSILONS, NormInput};
use super::probe::Probe;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "epsilon",
    asks: norm_input::asks,
    test,
    last: false,
    supersedes: &["scale", "row_scale"],
    variants: &[],
    example: "1e-5 in the tower's norms, and not 1e-6",
};

/// A pair of values explains as much as the best one if no more than this is left.
const AS_GOOD: f64 = 1.2;

/// The variance of each row is known from the golden inputs, so that one pair of values says by how much each row is longer
/// or shorter. A `LayerNorm` adds a bias that nobody knows; it is fitted.
fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let NormInput { root_mean_square, rows, variances, .. } = NormInput::of(probe)?;
    let numbers = SampledRows::of(case, &rows);
    let pairs = EPSILONS.iter().flat_map(|&expected| EPSILONS.iter().map(move |&found| (expected, found)));
    let attempts: Vec<(f64, f64, f64)> = pairs
        .filter(|(expected, found)| expected != found)
        .map(|(expected, found)| {
            let factor = |variance: &f64| ((variance + expected) / (variance + found)).sqrt();
            let factors: Vec<f64> = variances.iter().map(factor).collect();
            (numbers.left(&factors, !root_mean_square), expected, found)
        })
        .collect();
    let &(after, golden_epsilon, found) = attempts.iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
    // Far below the variance one value is as good as another.
    let as_good = || attempts.iter().filter(|attempt| attempt.0 <= AS_GOOD * after);
    let largest = |value: f64, as_good: &mut dyn Iterator<Item = f64>| as_good.fold(value, f64::max);
    let expected =
        largest(golden_epsilon, &mut as_good().filter(|attempt| attempt.2 == found).map(|attempt| attempt.1));
    let largest_found =
        largest(found, &mut as_good().filter(|attempt| attempt.1 == golden_epsilon).map(|attempt| attempt.2));
    let pattern = match (largest_found > found, expected > golden_epsilon) {
        (false, false) => "each row is longer or shorter as with an epsilon of {}, and not {}",
        (true, false) => "each row is longer or shorter as with an epsilon of {} or less, and not {}",
        (false, true) => "each row is longer or shorter as with an epsilon of {}, and not {} or less",
        (true, true) => "each row is longer or shorter as with an epsilon of {} or less, and not {} or less",
    };
    probe.explain(pattern, vec![Value::Power(largest_found), Value::Power(expected)], after)
}

/// Rows of both sides, read once for many attempts.
struct SampledRows {
    golden: Vec<Vec<f64>>,
    candidate: Vec<Vec<f64>>,
}

impl SampledRows {
    fn of(case: &Case<'_>, rows: &[usize]) -> Self {
        let read = |of: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> {
            rows.iter().map(|&row| (0..case.columns).map(|column| of(row, column)).collect()).collect()
        };
        SampledRows {
            golden: read(&|row, column| case.golden(row, column)),
            candidate: read(&|row, column| case.candidate(row, column)),
        }
    }

    /// What is left if each row is multiplied by its factor, without the bias where there is one.
    fn left(&self, factors: &[f64], biased: bool) -> f64 {
        let weights: f64 = factors.iter().map(|factor| (1.0 - factor) * (1.0 - factor)).sum();
        let columns = self.golden.first().map_or(0, Vec::len);
        let (mut differences, mut squares) = (0.0, 0.0);
        for column in 0..columns {
            let pairs = || {
                let rows = self.golden.iter().zip(&self.candidate);
                rows.zip(factors)
                    .map(move |((golden, candidate), factor)| (golden[column], candidate[column], factor))
            };
            let bias = if biased && weights > 0.0 {
                let part = |(golden, candidate, factor): (f64, f64, &f64)| {
                    (1.0 - factor) * (candidate - factor * golden)
                };
                pairs().map(part).sum::<f64>() / weights
            } else {
                0.0
            };
            for (golden, candidate, factor) in pairs() {
                let undone = candidate - (factor * (golden - bias) + bias);
                differences += undone * undone;
                squares += golden * golden;
            }
        }
        if squares > 0.0 { (differences / squares).sqrt() } else { f64::INFINITY }
    }
}
