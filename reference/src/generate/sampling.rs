//! How the next token is chosen from its logits.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::error::{Error, Result};

/// How a token is chosen. The settings apply in the order of transformers' processors: repetition penalty, temperature,
/// top-k, top-p.
///
/// # Source
/// transformers 4.57.6, `generation/logits_process.py`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; 0 takes the most likely token, the first of equals.
    pub temperature: f64,
    /// Only so many of the most likely tokens are drawn from.
    pub top_k: Option<usize>,
    /// Only the most likely tokens are drawn from, as many as it takes to reach this probability; 1 keeps all.
    pub top_p: f64,
    /// The logit of a token that was generated before is divided by this where positive, else multiplied; 1 does nothing.
    /// As in the public `chat`, which generates from embeddings, the tokens of the prompt do not count.
    pub repetition_penalty: f64,
    /// The same seed gives the same tokens.
    pub seed: u64,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Self =
        Self { temperature: 0.0, top_k: None, top_p: 1.0, repetition_penalty: 1.0, seed: 0 };

    /// Checks that each setting is in its range.
    ///
    /// # Errors
    /// [`Error::Request`], which names the setting.
    pub fn check(&self) -> Result<()> {
        let refuse = |setting: &str, expected: &str, found: f64| {
            Err(Error::Request(format!("`{setting}`: expected {expected}, found {found}")))
        };
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return refuse("temperature", "0 or more", self.temperature);
        }
        if self.top_k == Some(0) {
            return refuse("top_k", "1 or more", 0.0);
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", "more than 0 and at most 1", self.top_p);
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return refuse("repetition_penalty", "more than 0", self.repetition_penalty);
        }
        Ok(())
    }

    /// Whether no chance is involved.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }
}

/// Chooses tokens, one after the other.
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
    seen: Vec<usize>,
}

impl Sampler {
    /// A sampler at its first token.
    pub fn new(sampling: Sampling) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        Self { sampling, rng, seen: Vec::new() }
    }

    /// The next token's id; `logits` has one for each id, and at least one.
    pub fn choose(&mut self, logits: &[f32]) -> usize {
        let mut penalized;
        let mut logits = logits;
        if self.sampling.repetition_penalty != 1.0 && !self.seen.is_empty() {
            penalized = logits.to_vec();
            for &id in &self.seen {
                penalized[id] = penalize(penalized[id], self.sampling.repetition_penalty);
            }
            logits = &penalized;
        }
        let id = if self.sampling.is_greedy() {
            argmax(logits)
        } else {
            let uniform = self.uniform();
            draw(logits, &self.sampling, uniform)
        };
        if !self.seen.contains(&id) {
            self.seen.push(id);
        }
        id
    }

    /// A number in 0..1 from the generator's upper 53 bits.
    fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 * 2.0_f64.powi(-53)
    }
}

fn penalize(logit: f32, penalty: f64) -> f32 {
    let logit = f64::from(logit);
    (if logit > 0.0 { logit / penalty } else { logit * penalty }) as f32
}

/// The first of the highest; NaN counts as the highest, as in libtorch.
fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate().skip(1) {
        if *logit > logits[best] || (logit.is_nan() && !logits[best].is_nan()) {
            best = id;
        }
    }
    best
}

/// The token on which `uniform` (0..1) falls among those that top-k and top-p leave.
fn draw(logits: &[f32], sampling: &Sampling, uniform: f64) -> usize {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut candidates: Vec<(usize, f64)> = logits
        .iter()
        .enumerate()
        .map(|(id, &logit)| (id, (f64::from(logit - highest) / sampling.temperature).exp()))
        .collect();
    candidates.sort_by(|a, b| b.1.total_cmp(&a.1));
    candidates.truncate(sampling.top_k.unwrap_or(usize::MAX).max(1));
    let total: f64 = candidates.iter().map(|candidate| candidate.1).sum();
    let mut kept = 0.0;
    let mut count = 0;
    for (_, weight) in &candidates {
        kept += weight;
        count += 1;
        if kept >= sampling.top_p * total {
            break;
        }
    }
    let target = uniform * kept;
    let mut passed = 0.0;
    for &(id, weight) in &candidates[..count] {
        passed += weight;
        if passed > target {
            return id;
        }
    }
    candidates[count - 1].0
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: Sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };

    /// Probabilities 0.6, 0.3, 0.1 for ids 2, 0, 1.
    fn logits() -> [f32; 3] {
        [0.3_f32.ln(), 0.1_f32.ln(), 0.6_f32.ln()]
    }

    #[test]
    fn a_number_falls_on_the_token_whose_share_it_is_in() {
        for (uniform, expected) in [(0.0, 2), (0.59, 2), (0.61, 0), (0.89, 0), (0.91, 1), (0.999, 1)] {
            assert_eq!(draw(&logits(), &RANDOM, uniform), expected, "{uniform}");
        }
    }

    #[test]
    fn top_p_and_top_k_drop_the_tail() {
        // The last token is out, and the shares of the others are 2/3 and 1/3.
        for sampling in [Sampling { top_p: 0.8, ..RANDOM }, Sampling { top_k: Some(2), ..RANDOM }] {
            for (uniform, expected) in [(0.66, 2), (0.67, 0), (0.999, 0)] {
                assert_eq!(draw(&logits(), &sampling, uniform), expected, "{sampling:?} {uniform}");
            }
        }
        assert_eq!(draw(&logits(), &Sampling { top_k: Some(1), ..RANDOM }, 0.999), 2);
    }

    #[test]
    fn a_low_temperature_sharpens() {
        assert_eq!(draw(&logits(), &RANDOM, 0.7), 0);
        assert_eq!(draw(&logits(), &Sampling { temperature: 0.1, ..RANDOM }, 0.7), 2);
    }

    #[test]
    fn a_repeated_token_is_penalized_on_either_side_of_zero() {
        let mut sampler = Sampler::new(Sampling { repetition_penalty: 2.0, ..Sampling::GREEDY });
        let choices: Vec<_> = (0..3).map(|_| sampler.choose(&[3.0, 2.0, -1.0])).collect();
        // 3 becomes 1.5, then 2 becomes 1.
        assert_eq!(choices, [0, 1, 0]);
        let mut sampler = Sampler::new(Sampling { repetition_penalty: 2.0, ..Sampling::GREEDY });
        assert_eq!([sampler.choose(&[-2.0, -3.0]), sampler.choose(&[-2.0, -3.0])], [0, 1]);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens_and_another_gives_others() {
        let tokens = |seed| {
            let mut sampler = Sampler::new(Sampling { seed, ..RANDOM });
            (0..20).map(|_| sampler.choose(&[0.0; 50])).collect::<Vec<_>>()
        };
        assert_eq!(tokens(7), tokens(7));
        assert_ne!(tokens(7), tokens(8));
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(Sampler::new(Sampling::GREEDY).choose(&[0.0, 3.0, 3.0, 1.0]), 1);
    }
}
