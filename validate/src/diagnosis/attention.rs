//! Mistakes between the projections of an attention and the one behind it.
//!
//! Neither scores nor the weighted sum are in a dump, nor are the weights of the projection behind them: nothing can be
//! undone. But the golden queries, keys and values are there. So the weighted sum is computed from them, as it should be
//! and with each known mistake, and the change that the mistake makes is compared with the change that was found. A
//! projection turns and stretches, and keeps by and large which tokens changed alike: that is what is compared.

use measure::origin::Step;
use rayon::prelude::*;

use super::attention_core::{Core, Variant};
use super::explanation::Explanation;
use super::probe::Probe;

/// How many queries are followed, and the most multiplications for attempts of one kind.
const QUERIES: usize = 64;
const LEAST_QUERIES: usize = 16;
const MULTIPLICATIONS: usize = 200_000_000;

/// How like the found change must be to the predicted one, at least.
const SIMILARITY: f64 = 0.7;

/// By how much nearer to the found change the best prediction must be than those of other kinds.
const MARGIN: f64 = 0.75;

/// Whether there is an attention before the site.
pub(super) fn asks(probe: &Probe<'_>) -> bool {
    probe.has_case() && probe.is_step(Step::Attention)
}

/// The explanation of a diagnosis, if it is the best of all that compete.
pub(super) fn won(probe: &Probe<'_>, diagnosis: &str) -> Option<Explanation> {
    let best = probe.attention.get_or_init(|| contest(probe)).as_ref()?;
    (best.0 == diagnosis).then(|| best.1.clone())
}

/// The variant whose change is most like the one that was found, with the name of its diagnosis: if it is like it, and those
/// of other diagnoses are much less so.
fn contest(probe: &Probe<'_>) -> Option<(&'static str, Explanation)> {
    let case = probe.case.as_ref()?;
    // A tower's number of heads is in no dump: each that fits is tried.
    let cores = Core::of(probe.golden, &probe.inputs());
    let tokens = cores.first()?.tokens;
    let width = cores.first()?.heads * cores.first()?.head_dim;
    let most = (MULTIPLICATIONS / (tokens * width * cores.len()).max(1)).clamp(LEAST_QUERIES, QUERIES);
    // The first and the last token are among them: what a mask hides shows there.
    let count = most.min(tokens);
    let rows: Vec<usize> = (0..count).map(|row| row * (tokens - 1) / (count - 1).max(1)).collect();
    let found: Vec<Vec<f64>> = rows
        .iter()
        .map(|&row| {
            (0..case.columns).map(|column| case.candidate(row, column) - case.golden(row, column)).collect()
        })
        .collect();
    let mut attempts: Vec<(f64, &'static str, &'static Variant)> = cores
        .into_par_iter()
        .flat_map(|core| {
            let right = core.run(&core.right(), &rows);
            let (rows, found) = (&rows, &found);
            let attempt = move |(diagnosis, variant): (&'static str, &'static Variant)| {
                let mut how = core.right();
                (variant.change)(&core, &mut how);
                let changed = core.run(&how, rows);
                let difference = |(a, b): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
                    a.iter().zip(b).map(|(a, b)| a - b).collect()
                };
                let change: Vec<Vec<f64>> = changed.iter().zip(&right).map(difference).collect();
                (similarity(&change, found), diagnosis, variant)
            };
            let applying = probe.variants.iter().copied().filter(|(_, variant)| (variant.applies)(&core));
            applying.collect::<Vec<_>>().into_par_iter().map(attempt)
        })
        .collect();
    attempts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let &(best, diagnosis, variant) = attempts.first()?;
    let left = |similarity: f64| (1.0 - similarity * similarity).max(0.0).sqrt();
    let other = attempts.iter().find(|(_, other, _)| *other != diagnosis).map_or(0.0, |other| other.0);
    (best >= SIMILARITY && left(best) <= MARGIN * left(other))
        .then(|| (diagnosis, probe.tested(variant.pattern, Vec::new(), left(best) * case.error)))
}

/// How like the rows of two tensors are to each other: the cosine between their tables of inner products, which do not
/// change when all rows are turned.
///
/// Of products of each row with itself the cosine is taken apart, and the lesser of both counts: in many dimensions any rows
/// are nearly at right angles, and tables that have nothing but a diagonal would all be alike.
fn similarity(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = |a: &[f64], b: &[f64]| {
        let lengths = product(a, a).sqrt() * product(b, b).sqrt();
        if lengths > 0.0 { product(a, b) / lengths } else { 0.0 }
    };
    let apart = |rows: &[Vec<f64>]| -> Vec<f64> {
        let pairs = rows.iter().enumerate().flat_map(|(at, a)| rows[..at].iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| product(a, b)).collect()
    };
    let lengths = |rows: &[Vec<f64>]| -> Vec<f64> { rows.iter().map(|row| product(row, row)).collect() };
    cosine(&apart(a), &apart(b)).min(cosine(&lengths(a), &lengths(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turned_rows_are_alike_and_others_are_not() {
        let rows = vec![vec![1.0, 0.0], vec![0.0, 2.0], vec![1.0, 1.0]];
        let turned: Vec<Vec<f64>> = rows.iter().map(|row| vec![-3.0 * row[1], 3.0 * row[0]]).collect();
        assert!((similarity(&rows, &turned) - 1.0).abs() < 1e-12);
        let other = vec![vec![0.0, 1.0], vec![0.0, 2.0], vec![-1.0, 1.0]];
        assert!(similarity(&rows, &other) < 0.95);
        assert!(similarity(&rows, &[vec![0.0; 2], vec![0.0; 2], vec![0.0; 2]]).abs() < 1e-12);
    }

    #[test]
    fn rows_of_many_dimensions_are_not_alike_for_being_at_right_angles() {
        // Two tables that are nothing but noise, 1,000 dimensions each.
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        let mut rows =
            || -> Vec<Vec<f64>> { (0..32).map(|_| (0..1000).map(|_| noise()).collect()).collect() };
        let found = similarity(&rows(), &rows());
        assert!(found.abs() < 0.2, "{found}");
    }
}
