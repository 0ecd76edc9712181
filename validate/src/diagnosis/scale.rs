//! All numbers are multiplied by one factor; in a fused projection also the queries, keys or values alone.

use super::explanation::{Explanation, Value, best};
use super::kind::Diagnosis;
use super::probe::Probe;
use super::roles::{QKV_PARTS, qkv_width};

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "scale",
    asks: |probe| probe.has_case(),
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "pixels from 0 to 255, and not from 0 to 1",
};

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    best(parts_scaled(probe).into_iter().chain(whole_scaled(probe)))
}

fn whole_scaled(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let factor = case.factor(case.sample());
    let after = case.without_factor(|_| factor);
    probe.explain("it is {} times the golden numbers", vec![Value::Number(factor)], after)
}

/// One of queries, keys and values multiplied by a factor.
fn parts_scaled(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let part = qkv_width(probe.entry, case.columns)?;
    best(QKV_PARTS.into_iter().enumerate().filter_map(|(place, name)| {
        let within = |column: usize| column / part == place;
        let (mut products, mut squares) = (0.0, 0.0);
        for row in case.sample() {
            for column in (0..case.columns).filter(|&column| within(column)) {
                let golden = case.golden(row, column);
                products += golden * case.candidate(row, column);
                squares += golden * golden;
            }
        }
        let factor = if squares > 0.0 { products / squares } else { 1.0 };
        let after = case.distance(|row, column| {
            let (golden, candidate) = (case.golden(row, column), case.candidate(row, column));
            Some((golden, if within(column) { golden + candidate - factor * golden } else { candidate }))
        });
        probe.explain(
            "its {} are {} times the golden ones",
            vec![Value::Name(name), Value::Number(factor)],
            after,
        )
    }))
}
