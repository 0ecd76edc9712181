//! How fast a model runs on this machine.

use std::time::{Duration, Instant};

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::NemotronVl;
use crate::model::observer::Unobserved;

/// What is measured, and how often.
#[derive(Debug, Clone, Copy)]
pub struct BenchmarkConfig {
    /// Tiles of the picture; none measures the language model only.
    pub tiles: usize,
    /// Tokens of the prompt, the picture's not counted.
    pub prompt_tokens: usize,
    /// Tokens to decode.
    pub new_tokens: usize,
    /// Measured runs, after one that is not.
    pub runs: usize,
}

/// Medians over the runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Benchmark {
    /// Tiles of the picture.
    pub tiles: usize,
    /// Tower and projector, in seconds; none without a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision_secs: Option<f64>,
    /// Tokens of the prompt, the picture's included.
    pub prompt_tokens: usize,
    /// Prefill of the decoder, in seconds.
    pub prefill_secs: f64,
    /// Prompt tokens a second.
    pub prefill_tokens_per_sec: f64,
    /// Tokens decoded a run.
    pub decoded_tokens: usize,
    /// Seconds a decoded token.
    pub decode_secs_per_token: f64,
    /// Weights that a decoded token reads, in bytes: all of the decoder's but the embedding's.
    pub weight_bytes_per_token: u64,
    /// These bytes divided by the time of a token, in 10⁹ bytes a second.
    pub decode_gb_per_sec: f64,
    /// What the memory gives a float32 sum of 1 GiB, in 10⁹ bytes a second; on a CPU only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_gb_per_sec: Option<f64>,
}

/// Measures `model`.
///
/// # Errors
/// [`Error::Request`] for an empty measurement; whatever the model reports.
pub fn benchmark(model: &NemotronVl, config: BenchmarkConfig) -> Result<Benchmark> {
    if config.prompt_tokens == 0 || config.new_tokens == 0 || config.runs == 0 {
        return Err(Error::Request(
            "expected at least one token of prompt, one to decode and one run".to_owned(),
        ));
    }
    let _no_grad = tch::no_grad_guard();
    let (pixel_values, input_ids) = inputs(model, config)?;
    let prompt_tokens = input_ids.numel();
    let mut vision = Vec::new();
    let mut prefill = Vec::new();
    let mut decode = Vec::new();
    for run in 0..=config.runs {
        let mut cache = model.cache(prompt_tokens + config.new_tokens)?;
        let start = Instant::now();
        let features =
            pixel_values.as_ref().map(|pixels| model.image_features(pixels, &mut Unobserved)).transpose()?;
        wait_for(model.device(), features.as_ref())?;
        let seen = start.elapsed();
        let start = Instant::now();
        let logits = model.prefill_features(features.as_ref(), &input_ids, &mut cache, &mut Unobserved)?;
        let mut token = choose(&logits)?;
        let read = start.elapsed();
        let start = Instant::now();
        for _ in 0..config.new_tokens {
            token = choose(&model.decode(token, &mut cache, &mut Unobserved)?)?;
        }
        let written = start.elapsed();
        if run > 0 {
            vision.push(seen);
            prefill.push(read);
            decode.push(written / config.new_tokens as u32);
        }
    }
    let prefill_secs = median(prefill);
    let decode_secs_per_token = median(decode);
    let weight_bytes_per_token = model.weight_bytes_per_token();
    Ok(Benchmark {
        tiles: config.tiles,
        vision_secs: pixel_values.is_some().then(|| median(vision)),
        prompt_tokens,
        prefill_secs,
        prefill_tokens_per_sec: prompt_tokens as f64 / prefill_secs,
        decoded_tokens: config.new_tokens,
        decode_secs_per_token,
        weight_bytes_per_token,
        decode_gb_per_sec: weight_bytes_per_token as f64 / decode_secs_per_token / 1e9,
        memory_gb_per_sec: if model.device() == Device::Cpu { Some(memory_gb_per_sec()?) } else { None },
    })
}

/// Noise of the right shapes: times do not depend on values.
fn inputs(model: &NemotronVl, config: BenchmarkConfig) -> Result<(Option<Tensor>, Tensor)> {
    let vision = &model.config().vision_config;
    let side = vision.image_size as i64;
    let shape = [config.tiles as i64, vision.num_channels as i64, side, side];
    let pixel_values =
        if config.tiles > 0 { Some(Tensor::f_rand(shape, (Kind::Float, Device::Cpu))?) } else { None };
    let image_tokens = config.tiles * model.config().image_seq_length;
    let image = vec![i64::from(model.config().image_token_id); image_tokens];
    // Any id but the image's.
    let text = std::iter::repeat_n(i64::from(model.config().image_token_id == 0), config.prompt_tokens);
    let ids: Vec<i64> = image.into_iter().chain(text).collect();
    Ok((pixel_values, Tensor::f_from_slice(&ids)?.f_view([1, -1])?))
}

/// The most likely token; on a GPU this waits for the logits.
fn choose(logits: &Tensor) -> Result<i64> {
    Ok(logits.f_flatten(0, -1)?.f_argmax(-1, false)?.f_int64_value(&[])?)
}

fn wait_for(device: Device, tensor: Option<&Tensor>) -> Result<()> {
    if let (Device::Cuda(_), Some(tensor)) = (device, tensor) {
        drop(tensor.f_flatten(0, -1)?.f_narrow(0, 0, 1)?.f_to_device(Device::Cpu)?);
    }
    Ok(())
}

fn memory_gb_per_sec() -> Result<f64> {
    const BYTES: usize = 1 << 30;
    let numbers = Tensor::f_ones([(BYTES / size_of::<f32>()) as i64], (Kind::Float, Device::Cpu))?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        numbers.f_sum(Kind::Float)?.f_double_value(&[])?;
        times.push(start.elapsed());
    }
    Ok(BYTES as f64 / median(times) / 1e9)
}

/// In seconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let middle = times.len() / 2;
    let pick = |index: usize| times.get(index).copied().unwrap_or_default().as_secs_f64();
    if times.len() % 2 == 1 { pick(middle) } else { (pick(middle.wrapping_sub(1)) + pick(middle)) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        let times = |secs: &[u64]| secs.iter().map(|&secs| Duration::from_secs(secs)).collect();
        assert_eq!(median(times(&[9, 1, 2])), 2.0);
        assert_eq!(median(times(&[4, 1, 9, 2])), 3.0);
    }
}
