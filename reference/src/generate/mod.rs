//! Generation: prefill, then a token at a time.

mod logprobs;
mod sampling;
mod stop;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

pub use logprobs::StepLogprobs;
pub use sampling::{Sampler, Sampling};
pub use stop::StopStrings;

use crate::error::{Error, Result};
use crate::memory;
use crate::model::NemotronVl;
use crate::model::observer::Observer;

/// What the model is given: a prompt in token ids, and the tiles of its pictures.
#[derive(Debug)]
pub struct ModelInputs {
    /// [1, s] int64.
    pub input_ids: Tensor,
    /// [t, c, side, side] float32, values in 0..=1; none without a picture.
    pub pixel_values: Option<Tensor>,
}

/// When to stop, how to choose, and what to keep.
#[derive(Debug, Clone)]
pub struct GenerationConfig {
    /// The most tokens to generate, the end token included.
    pub max_new_tokens: usize,
    /// Tokens that end the answer.
    pub eos_token_ids: Vec<i64>,
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Of how many of the most likely tokens to tell the log probability at each step, beside the chosen one's.
    pub logprobs: Option<usize>,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model chose an end token, or the caller's stop was reached.
    Stop,
    /// `max_new_tokens` was reached.
    Length,
}

/// What was generated.
#[derive(Debug)]
pub struct Generation {
    /// The chosen tokens, the end token included.
    pub token_ids: Vec<i64>,
    /// One for each token, where asked for.
    pub logprobs: Vec<StepLogprobs>,
    /// Why generation ended.
    pub finish_reason: FinishReason,
    /// Time of the prefill, pictures included.
    pub prefill_time: Duration,
    /// Time of all steps after it.
    pub decode_time: Duration,
}

/// Generates an answer. `on_token` is called with each token as it is chosen, and may end the answer behind it.
///
/// # Errors
/// Before any work, [`Error::Context`] where prompt and answer do not fit the model's context, and [`Error::Memory`] where
/// they do not fit in memory; [`Error::Logits`] at a step whose logits are not all finite; else whatever the model or the
/// observer reports, or `on_token` returns.
///
/// # Source
/// transformers 4.57.6, `generation/utils.py`, `GenerationMixin._sample`: the logits of a step are those of the last
/// position, cast to float32.
pub fn generate(
    model: &NemotronVl,
    inputs: &ModelInputs,
    config: &GenerationConfig,
    observer: &mut dyn Observer,
    mut on_token: impl FnMut(i64) -> Result<ControlFlow<()>>,
) -> Result<Generation> {
    let prompt = inputs.input_ids.size().last().map_or(0, |&tokens| tokens as usize);
    check_length(prompt, config.max_new_tokens, model.context_limit())?;
    let tiles = inputs.pixel_values.as_ref().map_or(0, |pixel_values| pixel_values.size()[0] as usize);
    memory::check(model.demand(tiles, prompt).peak(model.config()), model.device())?;
    let _no_grad = tch::no_grad_guard();
    let mut sampler = Sampler::new(config.sampling.clone());
    let mut cache = model.cache(prompt + config.max_new_tokens)?;

    if let Some(pixel_values) = &inputs.pixel_values {
        observer.input("pixel_values", pixel_values)?;
    }
    observer.input("input_ids", &inputs.input_ids)?;

    let start = Instant::now();
    let mut logits = model.prefill(inputs.pixel_values.as_ref(), &inputs.input_ids, &mut cache, observer)?;
    observer.end_of_step(&cache.states()?)?;
    let mut prefill_time = Duration::ZERO;

    let mut token_ids = Vec::new();
    let mut logprobs = Vec::new();
    let mut step_logits = Vec::new();
    let finish_reason = loop {
        let scores = logits.f_select(1, -1)?.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?; // [1, v]
        let values = Vec::<f32>::try_from(scores.f_flatten(0, -1)?)?;
        check_finite(&values, token_ids.len() + 1)?;
        let chosen = sampler.choose(&values);
        if token_ids.is_empty() {
            // Operations on a GPU are queued: the prefill has ended once its logits are here.
            prefill_time = start.elapsed();
        }
        if observer.wants_step_logits() {
            step_logits.push(scores);
        }
        logprobs.extend(config.logprobs.map(|top| StepLogprobs::new(&values, chosen, top)));
        let token = chosen as i64;
        token_ids.push(token);
        let stopped = on_token(token)?.is_break();
        if stopped || config.eos_token_ids.contains(&token) {
            break FinishReason::Stop;
        }
        if token_ids.len() == config.max_new_tokens {
            break FinishReason::Length;
        }
        logits = model.decode(token, &mut cache, observer)?;
        observer.end_of_step(&cache.states()?)?;
    };
    let decode_time = start.elapsed() - prefill_time;
    if observer.wants_step_logits() {
        observer.step_logits(&Tensor::f_cat(&step_logits, 0)?)?; // [steps, v]
    }
    Ok(Generation { token_ids, logprobs, finish_reason, prefill_time, decode_time })
}

/// NaN would be chosen as if it were the most likely token.
fn check_finite(logits: &[f32], step: usize) -> Result<()> {
    let mut not_finite = logits.iter().filter(|logit| !logit.is_finite());
    match not_finite.next() {
        None => Ok(()),
        Some(&found) => Err(Error::Logits { step, found, count: 1 + not_finite.count(), of: logits.len() }),
    }
}

fn check_length(prompt: usize, max_new_tokens: usize, limit: usize) -> Result<()> {
    if prompt == 0 {
        return Err(Error::Request("the prompt has no tokens".to_owned()));
    }
    if max_new_tokens == 0 {
        return Err(Error::Request("`max_new_tokens`: expected at least 1, found 0".to_owned()));
    }
    if prompt.saturating_add(max_new_tokens) > limit {
        return Err(Error::Context { prompt, max_new_tokens, limit });
    }
    Ok(())
}
