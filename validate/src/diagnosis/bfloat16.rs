//! The numbers were rounded to bfloat16.

use golden::Dtype;

use super::explanation::Explanation;
use super::kind::Diagnosis;
use super::probe::Probe;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "bfloat16",
    asks,
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "a projector in bfloat16 in a float32 run",
};

fn asks(probe: &Probe<'_>) -> bool {
    probe.has_case() && probe.entry.entry.dtype == Dtype::Float32
}

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let bfloat16 = |value: f64| half::bf16::from_f64(value).to_f64();
    let all = case.sample().all(|row| {
        (0..case.columns).all(|column| {
            let value = case.candidate(row, column);
            value.is_nan() || bfloat16(value) == value
        })
    });
    let after =
        case.distance(|row, column| Some((bfloat16(case.golden(row, column)), case.candidate(row, column))));
    let pattern = "every number is one of bfloat16: it was computed or kept in that";
    (all && after <= 0.01 && case.error <= 0.01).then(|| probe.tested(pattern, Vec::new(), after))
}
