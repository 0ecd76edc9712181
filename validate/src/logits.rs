//! Compares the logits that chose each generated token.

use golden::{Dump, TensorView};
use measure::model::{SiteRole, model_of};
use rayon::prelude::*;

/// How many of the largest logits are looked at, each time.
pub const TOP: [usize; 3] = [1, 5, 10];

/// The logits of both runs, as long as both had generated the same ids before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogitsReport {
    /// Each generated position.
    pub steps: Vec<StepReport>,
    /// The steps that are left out, since the ids before them differ: other logits are right there.
    pub left_out: usize,
}

/// The logits of one position.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// How many of the golden run's largest logits are among the candidate's, for each number of [`TOP`].
    pub common: [usize; TOP.len()],
    /// How many each number of [`TOP`] is at most: no more than the vocabulary.
    pub of: [usize; TOP.len()],
    /// The Kullback-Leibler divergence of the candidate's probabilities from the golden ones, Σ p ln(p / q), in nats:
    /// infinite if the candidate excludes what is possible, NaN if a logit is.
    pub kl_divergence: f64,
}

/// Where the generated ids part, in logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    /// The golden logit of the golden id minus that of the candidate's id.
    pub golden: f64,
    /// The candidate's logit of its own id minus that of the golden id, if it kept its logits.
    pub candidate: Option<f64>,
    /// The place of the candidate's id among the golden logits, from 1 for the largest.
    pub golden_rank: usize,
}

impl LogitsReport {
    /// The share of the golden run's largest logits that are among the candidate's, over all steps; `None` without steps.
    pub fn agreement(&self, place: usize) -> Option<f64> {
        let sum = |of: fn(&StepReport) -> [usize; TOP.len()]| {
            self.steps.iter().map(|step| of(step)[place]).sum::<usize>()
        };
        let of = sum(|step| step.of);
        (of > 0).then(|| sum(|step| step.common) as f64 / of as f64)
    }

    /// The step with the largest divergence, the first of several; NaN is larger than all.
    pub fn worst(&self) -> Option<(usize, &StepReport)> {
        let steps = self.steps.iter().enumerate().rev();
        steps.max_by(|a, b| a.1.kl_divergence.abs().total_cmp(&b.1.kl_divergence.abs()))
    }

    /// The arithmetic mean of the divergences.
    pub fn mean_kl_divergence(&self) -> Option<f64> {
        let sum: f64 = self.steps.iter().map(|step| step.kl_divergence).sum();
        (!self.steps.is_empty()).then(|| sum / self.steps.len() as f64)
    }
}

/// Compares the logits of both dumps; `None` if one of them has none in full, or if the vocabularies differ.
///
/// `parted` is the position of the first id that differs.
///
/// # Shapes
///
/// `step_logits` is [steps, vocab].
pub(crate) fn compare(golden: &Dump, candidate: &Dump, parted: Option<usize>) -> Option<LogitsReport> {
    let (golden, candidate) = (rows(golden)?, rows(candidate)?);
    if golden.vocab != candidate.vocab {
        return None;
    }
    let steps = golden.steps.min(candidate.steps);
    // The logits of the position where the ids part still follow the same ids.
    let compared = parted.map_or(steps, |position| steps.min(position + 1));
    let of = |step| Some(compare_step(&golden.row(step)?, &candidate.row(step)?));
    let found: Option<Vec<StepReport>> = (0..compared).into_par_iter().map(of).collect();
    Some(LogitsReport { steps: found?, left_out: golden.steps.max(candidate.steps) - compared })
}

/// How far apart two ids are at a position; `None` if the golden dump does not have its logits in full.
pub(crate) fn gap(
    golden: &Dump,
    candidate: &Dump,
    position: usize,
    expected: i64,
    found: i64,
) -> Option<Gap> {
    let logits = rows(golden)?.row(position)?;
    let gap = |logits: &[f64], from: i64, to: i64| {
        let logit = |id: i64| logits.get(usize::try_from(id).ok()?).copied();
        Some(logit(from)? - logit(to)?)
    };
    let of_found = *logits.get(usize::try_from(found).ok()?)?;
    let other = rows(candidate).and_then(|rows| rows.row(position));
    Some(Gap {
        golden: gap(&logits, expected, found)?,
        candidate: other.and_then(|logits| gap(&logits, found, expected)),
        golden_rank: 1 + logits.iter().filter(|&&logit| logit > of_found).count(),
    })
}

struct LogitRows<'a> {
    tensor: TensorView<'a>,
    steps: usize,
    vocab: usize,
}

fn rows(dump: &Dump) -> Option<LogitRows<'_>> {
    let tensor = dump.get(&model_of(dump.entries()).entry(dump, SiteRole::StepLogits)?.key())?;
    let &[steps, vocab] = tensor.shape() else { return None };
    (vocab > 0 && tensor.dtype().is_float()).then_some(LogitRows { tensor, steps, vocab })
}

impl LogitRows<'_> {
    fn row(&self, step: usize) -> Option<Vec<f64>> {
        let row_bytes = self.vocab * self.tensor.dtype().size_bytes();
        let bytes = self.tensor.data().get(step * row_bytes..(step + 1) * row_bytes)?;
        Some(TensorView::new(self.tensor.dtype(), &[self.vocab], bytes).ok()?.to_f64_vec())
    }
}

fn compare_step(golden: &[f64], candidate: &[f64]) -> StepReport {
    let of = TOP.map(|k| k.min(golden.len()));
    let most = of[TOP.len() - 1];
    let (expected, found) = (largest(golden, most), largest(candidate, most));
    let common = of.map(|k| expected[..k].iter().filter(|id| found[..k].contains(id)).count());
    StepReport { common, of, kl_divergence: kl_divergence(golden, candidate) }
}

/// The ids of the largest logits, the largest first and of equal ones the smaller id; NaN is smaller than all.
fn largest(logits: &[f64], count: usize) -> Vec<usize> {
    let value = |id: usize| if logits[id].is_nan() { f64::NEG_INFINITY } else { logits[id] };
    let mut top: Vec<usize> = Vec::with_capacity(count + 1);
    for id in 0..logits.len() {
        if top.len() == count && top.last().is_none_or(|&last| value(id) <= value(last)) {
            continue;
        }
        let place = top.partition_point(|&other| value(other) >= value(id));
        top.insert(place, id);
        top.truncate(count);
    }
    top
}

/// Σ p ln(p / q) of the probabilities that two rows of logits stand for.
fn kl_divergence(golden: &[f64], candidate: &[f64]) -> f64 {
    let (from, to) = (log_sum_exp(golden), log_sum_exp(candidate));
    let terms = golden.iter().zip(candidate).map(|(&g, &c)| {
        let log_p = g - from;
        let p = log_p.exp();
        // What is impossible adds nothing, whatever the candidate makes of it.
        if p == 0.0 { 0.0 } else { p * (log_p - (c - to)) }
    });
    // Rounding can bring a sum of zero slightly below.
    let sum: f64 = terms.sum();
    if sum < 0.0 { 0.0 } else { sum }
}

/// ln Σ eˣ; NaN if a number is, or if the largest is infinite.
fn log_sum_exp(logits: &[f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    largest + sum.ln()
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    #[test]
    fn a_divergence_is_that_of_its_definition() {
        // p = (0.5, 0.25, 0.25), q = (0.25, 0.25, 0.5), each with an offset that must not matter.
        let golden = [0.5_f64, 0.25, 0.25].map(|p| p.ln() + 100.0);
        let candidate = [0.25_f64, 0.25, 0.5].map(|q| q.ln() - 7.0);
        let expected = 0.5 * 2_f64.ln() + 0.25 * 0.5_f64.ln();
        assert_relative_eq!(kl_divergence(&golden, &candidate), expected, max_relative = 1e-12);
        assert!(kl_divergence(&golden, &golden.map(|logit| logit + 3.0)) < 1e-13);
    }

    #[test]
    fn what_cannot_be_adds_nothing_and_what_was_excluded_adds_all() {
        let never = f64::NEG_INFINITY;
        assert_relative_eq!(
            kl_divergence(&[0.0, 0.0, never], &[0.0, 0.0, 0.0]),
            1.5_f64.ln(),
            max_relative = 1e-12
        );
        assert_eq!(kl_divergence(&[0.0, 0.0, never], &[0.0, 0.0, never]), 0.0);
        assert_eq!(kl_divergence(&[0.0, 0.0], &[0.0, never]), f64::INFINITY);
        assert!(kl_divergence(&[0.0, f64::NAN], &[0.0, 0.0]).is_nan());
        assert!(kl_divergence(&[0.0, 0.0], &[f64::NAN, 0.0]).is_nan());
    }

    #[test]
    fn the_largest_come_in_order_and_equal_ones_by_id() {
        let logits = [1.0, 3.0, f64::NAN, 3.0, -1.0, 2.0];
        assert_eq!(largest(&logits, 4), [1, 3, 5, 0]);
        assert_eq!(largest(&logits, 6), [1, 3, 5, 0, 4, 2]);
        assert_eq!(largest(&[], 0), [0; 0]);
    }

    #[test]
    fn agreement_counts_what_both_have_among_the_largest() {
        let golden: Vec<f64> = (0..20).map(|id| -f64::from(id)).collect();
        let mut candidate = golden.clone();
        candidate.swap(0, 1);
        candidate.swap(4, 15);
        let step = compare_step(&golden, &candidate);
        assert_eq!((step.common, step.of), ([0, 4, 9], [1, 5, 10]));
        let step = compare_step(&golden[..3], &golden[..3]);
        assert_eq!((step.common, step.of), ([1, 3, 3], [1, 3, 3]));
        let report = LogitsReport {
            steps: vec![compare_step(&golden, &candidate), compare_step(&golden, &golden)],
            left_out: 0,
        };
        assert_eq!([0, 1, 2].map(|place| report.agreement(place).unwrap()), [0.5, 0.9, 0.95]);
        assert_eq!(report.worst().unwrap().0, 0);
    }
}
