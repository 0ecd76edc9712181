//! Each row is multiplied by a factor of its own.

use super::explanation::{Explanation, Value};
use super::kind::Diagnosis;
use super::probe::Probe;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "row_scale",
    asks,
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "a norm over another number of channels",
};

fn asks(probe: &Probe<'_>) -> bool {
    // Of few columns or rows a fit would explain anything.
    probe.case.as_ref().is_some_and(|case| case.columns >= 16 && case.rows >= 4)
}

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let factor = case.factor(case.sample());
    if case.explains(case.without_factor(|_| factor)) {
        return None;
    }
    let factors: Vec<f64> = (0..case.rows).map(|row| case.factor(std::iter::once(row))).collect();
    let after = case.without_factor(|row| factors[row]);
    let others: Vec<f64> =
        factors.iter().copied().filter(|factor| (factor - 1.0).abs() > 2.0 * case.rounding).collect();
    if others.is_empty() {
        return None;
    }
    let (least, most) =
        others.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &f| (a.min(f), b.max(f)));
    let which = Value::Name(if 2 * others.len() > case.rows { "each row" } else { "each row that is off" });
    if most - least <= 0.01 * most.abs() {
        let values = vec![which, Value::Number((least + most) / 2.0)];
        probe.explain("{} is the golden one times {}", values, after)
    } else {
        let values = vec![which, Value::Number(least), Value::Number(most)];
        probe.explain("{} is the golden one times {} to {}, as with another epsilon or norm", values, after)
    }
}
