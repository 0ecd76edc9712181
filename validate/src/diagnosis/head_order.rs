//! The heads come in another order.

use super::case::nearest_parts;
use super::explanation::{Explanation, Value};
use super::kind::Diagnosis;
use super::probe::Probe;
use super::roles::{head_dim, is_by_heads};

/// Of more heads not every pair is compared.
const MOST_HEADS: usize = 128;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "head_order",
    asks,
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "rows of `k_proj` in the order of another checkpoint format",
};

fn asks(probe: &Probe<'_>) -> bool {
    probe.has_case() && is_by_heads(probe.entry)
}

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let head = head_dim(probe.golden).filter(|&head| case.columns.is_multiple_of(head))?;
    let heads = case.columns / head;
    if !(2..=MOST_HEADS).contains(&heads) {
        return None;
    }
    let rows: Vec<usize> = (0..case.rows).step_by(case.rows.div_ceil(16).max(1)).collect();
    let distance = |of: usize, from: usize| -> f64 {
        let square = |row: usize, place: usize| {
            (case.candidate(row, of * head + place) - case.golden(row, from * head + place)).powi(2)
        };
        rows.iter().map(|&row| (0..head).map(|place| square(row, place)).sum::<f64>()).sum()
    };
    let nearest = nearest_parts(heads, distance);
    let moved: Vec<usize> = (0..heads).filter(|&of| nearest[of] != of).collect();
    if moved.is_empty() {
        return None;
    }
    let after = case.distance(|row, column| {
        Some((case.golden(row, nearest[column / head] * head + column % head), case.candidate(row, column)))
    });
    let from = moved.iter().map(|&of| nearest[of]).collect();
    probe.explain("its heads {} are the golden ones {}", vec![Value::List(moved), Value::List(from)], after)
}
