//! How tokens are chosen, on the command line.

use clap::Args;

use crate::Result;
use crate::generate::Sampling;

/// How tokens are chosen.
#[derive(Debug, Args)]
pub struct SamplingArguments {
    /// Sample tokens, with logits divided by T; 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Sample only among the N most likely tokens
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Sample only among the most likely tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Make tokens of the answer so far less likely: divide positive logits by P, multiply others
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    repetition_penalty: f64,
    /// The same seed samples the same tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl SamplingArguments {
    /// The settings, if each is in its range.
    pub fn sampling(&self) -> Result<Sampling> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        };
        sampling.check()?;
        Ok(sampling)
    }
}
