//! How the next token is chosen from its logits.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tch::Tensor;

use crate::error::Result;

/// How a token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampling {
    /// The most likely one; the first of equals.
    Greedy,
    /// By chance.
    Random {
        /// Logits are divided by this; above 0.
        temperature: f64,
        /// Only the most likely tokens are kept, as many as it takes to reach this probability; 1 keeps all.
        top_p: f64,
        /// The same seed gives the same tokens.
        seed: u64,
    },
}

/// Chooses tokens, one after the other.
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at its first token.
    pub fn new(sampling: Sampling) -> Self {
        let seed = match sampling {
            Sampling::Greedy => 0,
            Sampling::Random { seed, .. } => seed,
        };
        Self { sampling, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// # Shapes
    /// [1, v] float32 on the CPU → an id
    pub fn choose(&mut self, scores: &Tensor) -> Result<i64> {
        match self.sampling {
            Sampling::Greedy => Ok(scores.f_argmax(-1, false)?.f_int64_value(&[0])?),
            Sampling::Random { temperature, top_p, .. } => {
                let logits = Vec::<f32>::try_from(scores.f_flatten(0, -1)?)?;
                let uniform = self.uniform();
                Ok(nucleus(&logits, temperature, top_p, uniform) as i64)
            }
        }
    }

    /// A number in 0..1 from the generator's upper 53 bits.
    fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 * 2.0_f64.powi(-53)
    }
}

/// The token on which `uniform` (0..1) falls among the most likely ones that together reach `top_p`.
fn nucleus(logits: &[f32], temperature: f64, top_p: f64, uniform: f64) -> usize {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut candidates: Vec<(usize, f64)> = logits
        .iter()
        .enumerate()
        .map(|(id, &logit)| (id, (f64::from(logit - highest) / temperature).exp()))
        .collect();
    candidates.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = candidates.iter().map(|candidate| candidate.1).sum();
    let mut kept = 0.0;
    let mut count = 0;
    for (_, weight) in &candidates {
        kept += weight;
        count += 1;
        if kept >= top_p * total {
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

    /// Probabilities 0.6, 0.3, 0.1 for ids 2, 0, 1.
    fn logits() -> [f32; 3] {
        [0.3_f32.ln(), 0.1_f32.ln(), 0.6_f32.ln()]
    }

    #[test]
    fn a_number_falls_on_the_token_whose_share_it_is_in() {
        for (uniform, expected) in [(0.0, 2), (0.59, 2), (0.61, 0), (0.89, 0), (0.91, 1), (0.999, 1)] {
            assert_eq!(nucleus(&logits(), 1.0, 1.0, uniform), expected, "{uniform}");
        }
    }

    #[test]
    fn top_p_drops_the_tail() {
        // 0.6 and 0.3 reach 0.8: the last token is out, and the shares are 2/3 and 1/3.
        for (uniform, expected) in [(0.66, 2), (0.67, 0), (0.999, 0)] {
            assert_eq!(nucleus(&logits(), 1.0, 0.8, uniform), expected, "{uniform}");
        }
    }

    #[test]
    fn a_low_temperature_sharpens() {
        assert_eq!(nucleus(&logits(), 1.0, 1.0, 0.7), 0);
        assert_eq!(nucleus(&logits(), 0.1, 1.0, 0.7), 2);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens_and_another_gives_others() {
        let scores = Tensor::from_slice(&[0.0_f32; 50]).view([1, 50]);
        let draw = |seed| {
            let mut sampler = Sampler::new(Sampling::Random { temperature: 1.0, top_p: 1.0, seed });
            (0..20).map(|_| sampler.choose(&scores).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let scores = Tensor::from_slice(&[0.0_f32, 3.0, 3.0, 1.0]).view([1, 4]);
        assert_eq!(Sampler::new(Sampling::Greedy).choose(&scores).unwrap(), 1);
    }
}
