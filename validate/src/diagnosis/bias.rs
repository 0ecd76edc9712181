//! One vector is added to every row.

use super::explanation::{Explanation, Value};
use super::kind::Diagnosis;
use super::probe::Probe;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "bias",
    asks,
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "the bias of `fc2` left out",
};

fn asks(probe: &Probe<'_>) -> bool {
    // Of few rows their mean would explain anything.
    probe.case.as_ref().is_some_and(|case| case.rows >= 4)
}

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let mut mean = vec![0.0; case.columns];
    let mut count = 0.0;
    for row in case.sample() {
        count += 1.0;
        for (column, mean) in mean.iter_mut().enumerate() {
            *mean += case.candidate(row, column) - case.golden(row, column);
        }
    }
    mean.iter_mut().for_each(|mean| *mean /= count);
    let after = case
        .distance(|row, column| Some((case.golden(row, column), case.candidate(row, column) - mean[column])));
    let length = mean.iter().map(|mean| mean * mean).sum::<f64>().sqrt();
    let pattern = "one vector, of length {}, is added to every row: a bias is missing or wrong";
    case.explains_half(after).then(|| probe.tested(pattern, vec![Value::Number(length)], after))
}
