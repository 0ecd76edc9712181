//! How tokens are chosen, on the command line.

use clap::Args;

use crate::Result;
use crate::generate::Sampling;

/// How tokens are chosen.
#[derive(Debug, Args)]
pub struct SamplingArguments {
    /// Draw tokens by chance, logits divided by T; 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Draw among the N most likely tokens only
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Draw among the most likely tokens only, as many as reach this probability together
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Make tokens of the answer so far less likely: their logits are divided by P where positive, else multiplied
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    repetition_penalty: f64,
    /// The same seed draws the same tokens
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
