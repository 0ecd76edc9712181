//! Generation: prefill, then a token at a time.

mod sampling;

use std::time::{Duration, Instant};

use tch::{Kind, Tensor};

pub use sampling::{Sampler, Sampling};

use crate::error::{Error, Result};
use crate::model::NemotronVl;
use crate::record::Recorder;

/// What the model is given: a prompt in token ids, and the tiles of its pictures.
#[derive(Debug)]
pub struct ModelInputs {
    /// [1, s] int64.
    pub input_ids: Tensor,
    /// [t, c, side, side] float32, values in 0..=1; none without a picture.
    pub pixel_values: Option<Tensor>,
}

/// When to stop, and how to choose.
#[derive(Debug, Clone)]
pub struct GenerationConfig {
    /// The most tokens to generate, the end token included.
    pub max_new_tokens: usize,
    /// Tokens that end the answer.
    pub eos_token_ids: Vec<i64>,
    /// How a token is chosen.
    pub sampling: Sampling,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model chose an end token.
    Stop,
    /// `max_new_tokens` was reached.
    Length,
}

/// What was generated.
#[derive(Debug)]
pub struct Generation {
    /// The chosen tokens, the end token included.
    pub token_ids: Vec<i64>,
    /// Logits that chose each token, [steps, vocabulary] float32.
    pub step_logits: Tensor,
    /// Why generation ended.
    pub finish_reason: FinishReason,
    /// Time of the prefill, pictures included.
    pub prefill_time: Duration,
    /// Time of all steps after it.
    pub decode_time: Duration,
}

/// Generates an answer; `on_token` is called with each token as it is chosen.
///
/// # Errors
/// [`Error::Context`] before any work where prompt and answer do not fit the model's context; else whatever the model or
/// the recorder reports, or `on_token` returns.
///
/// # Source
/// transformers 4.57.6, `generation/utils.py`, `GenerationMixin._sample`: the logits of a step are those of the last
/// position, cast to float32.
pub fn generate(
    model: &NemotronVl,
    inputs: &ModelInputs,
    config: &GenerationConfig,
    recorder: &mut Recorder,
    mut on_token: impl FnMut(i64) -> Result<()>,
) -> Result<Generation> {
    let prompt = inputs.input_ids.size().last().map_or(0, |&tokens| tokens as usize);
    let limit = model.config().text_config.max_position_embeddings;
    if prompt == 0 {
        return Err(Error::Request("the prompt has no tokens".to_owned()));
    }
    if config.max_new_tokens == 0 {
        return Err(Error::Request("`--max-new-tokens`: expected at least 1, found 0".to_owned()));
    }
    if prompt + config.max_new_tokens > limit {
        return Err(Error::Context { prompt, max_new_tokens: config.max_new_tokens, limit });
    }
    let _no_grad = tch::no_grad_guard();
    let mut sampler = Sampler::new(config.sampling.clone());
    let mut cache = model.cache(prompt + config.max_new_tokens)?;

    if let Some(pixel_values) = &inputs.pixel_values {
        recorder.input("pixel_values", pixel_values)?;
    }
    recorder.input("input_ids", &inputs.input_ids)?;

    let start = Instant::now();
    let mut logits = model.prefill(inputs.pixel_values.as_ref(), &inputs.input_ids, &mut cache, recorder)?;
    recorder.end_of_prefill();
    let mut prefill_time = start.elapsed();

    let mut token_ids = Vec::new();
    let mut step_logits = Vec::new();
    let mut decode_start = start;
    let finish_reason = loop {
        let scores = logits.f_select(1, -1)?.f_to_kind(Kind::Float)?.f_to_device(tch::Device::Cpu)?; // [1, v]
        let token = sampler.choose(&scores)?;
        if token_ids.is_empty() {
            // Operations on a GPU are queued: the prefill has ended once its logits are here.
            prefill_time = start.elapsed();
            decode_start = Instant::now();
        }
        step_logits.push(scores);
        token_ids.push(token);
        on_token(token)?;
        if config.eos_token_ids.contains(&token) {
            break FinishReason::Stop;
        }
        if token_ids.len() == config.max_new_tokens {
            break FinishReason::Length;
        }
        logits = model.decode(token, &mut cache)?;
    };
    let decode_time = decode_start.elapsed();
    let step_logits = Tensor::f_cat(&step_logits, 0)?;
    recorder.output("step_logits", &step_logits)?;
    Ok(Generation { token_ids, step_logits, finish_reason, prefill_time, decode_time })
}
