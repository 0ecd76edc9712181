//! How likely each generated token was, and what else might have been.

use serde::Serialize;

/// One step's probabilities, as natural logarithms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepLogprobs {
    /// The chosen token.
    pub token_id: i64,
    /// Its log probability, by the model's own logits: before temperature, penalty, top-k and top-p.
    pub logprob: f64,
    /// The most likely tokens and their log probabilities, most likely first; the lower id first of equals.
    pub top: Vec<(i64, f64)>,
}

impl StepLogprobs {
    /// Of one step; `top` is how many of the most likely tokens to tell.
    pub fn new(logits: &[f32], chosen: usize, top: usize) -> Self {
        let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - highest).exp()).sum();
        let logprob = |id: usize| f64::from(logits[id]) - highest - sum.ln();
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        let by_likelihood = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
        let top = top.min(ids.len());
        if top > 0 && top < ids.len() {
            ids.select_nth_unstable_by(top - 1, by_likelihood);
        }
        ids.truncate(top);
        ids.sort_by(by_likelihood);
        Self {
            token_id: chosen as i64,
            logprob: logprob(chosen),
            top: ids.into_iter().map(|id| (id as i64, logprob(id))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    #[test]
    fn logits_become_log_probabilities_and_the_likeliest_are_told_in_order() {
        let logits = [1.0_f32, 3.0, 2.0, 3.0];
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let step = StepLogprobs::new(&logits, 2, 3);
        assert_relative_eq!(step.logprob, 2.0 - sum.ln(), max_relative = 1e-12);
        assert_eq!(step.top.iter().map(|top| top.0).collect::<Vec<_>>(), [1, 3, 2]);
        assert_relative_eq!(step.top[0].1, 3.0 - sum.ln(), max_relative = 1e-12);
        assert_relative_eq!(step.top[2].1, step.logprob);
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let step = StepLogprobs::new(&[1e30, -1e30], 0, 9);
        assert_eq!((step.logprob, step.top[1].1), (0.0, -2.0 * f64::from(1e30_f32)));
    }
}
