//! Rotary position embedding, with every stretch of the frequencies that the Llama family has.

use converter::normalized::{RopeScaling, TextConfig};
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::model::observer::{Counter, Observer, Site};
use crate::scalar::ScalarOps as _;

/// cos and sin of each position's angles, both [1, s, d].
pub struct PositionEmbeddings {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
}

/// # Source
/// transformers 4.57.6, `models/llama/modeling_llama.py`, class `LlamaRotaryEmbedding`, and `modeling_rope_utils.py`.
/// The frequencies are computed by the same float32 tensor operations, so that they have the same bits.
pub struct RotaryEmbedding {
    site: String,
    kind: Kind,
    device: Device,
    head_dim: i64,
    rope_theta: f64,
    rope_scaling: Option<RopeScaling>,
    max_position_embeddings: usize,
    /// [d / 2], float32; of a sequence no longer than `max_position_embeddings` where the scaling is dynamic.
    inv_freq: Tensor,
    attention_scaling: f64,
}

impl RotaryEmbedding {
    /// The embedding of a configuration; `kind` is the dtype that cos and sin get.
    pub fn new(config: &TextConfig, kind: Kind, device: Device, site: String) -> Result<Self> {
        let mut rotary = Self {
            site,
            kind,
            device,
            head_dim: config.head_dim as i64,
            rope_theta: config.rope_theta,
            rope_scaling: config.rope_scaling.clone(),
            max_position_embeddings: config.max_position_embeddings,
            inv_freq: Tensor::new(),
            attention_scaling: 1.0,
        };
        (rotary.inv_freq, rotary.attention_scaling) = rotary.frequencies()?;
        Ok(rotary)
    }

    /// # Shapes
    /// positions `past` to `past + sequence` → cos and sin, [1, s, d]
    pub fn forward(
        &self,
        past: i64,
        sequence: i64,
        observer: &mut dyn Observer,
    ) -> Result<PositionEmbeddings> {
        let inv_freq = match &self.rope_scaling {
            Some(RopeScaling::Dynamic { factor, .. })
                if past + sequence > self.max_position_embeddings as i64 =>
            {
                self.dynamic_frequencies(*factor, past + sequence)?
            }
            _ => self.inv_freq.shallow_clone(),
        };
        let first = observer.count(Counter::FirstPosition, past);
        let positions: Vec<i64> = (first..first + sequence).collect();
        let position_ids = Tensor::f_from_slice(&positions)?.f_to_device(self.device)?;
        let freqs = inv_freq
            .f_view([1, -1, 1])?
            .f_matmul(&position_ids.f_view([1, 1, -1])?.f_to_kind(Kind::Float)?)? // [1, d/2, s]
            .f_transpose(1, 2)?;
        let angles = Tensor::f_cat(&[&freqs, &freqs], -1)?; // [1, s, d]
        let cos = angles.f_cos()?.try_mul_scalar(self.attention_scaling)?.f_to_kind(self.kind)?;
        let sin = angles.f_sin()?.try_mul_scalar(self.attention_scaling)?.f_to_kind(self.kind)?;
        let cos =
            observer.output(Site::new(&format!("{}.cos", self.site), "LlamaRotaryEmbedding cos"), cos)?;
        let sin =
            observer.output(Site::new(&format!("{}.sin", self.site), "LlamaRotaryEmbedding sin"), sin)?;
        Ok(PositionEmbeddings { cos, sin })
    }

    fn frequencies(&self) -> Result<(Tensor, f64)> {
        let plain = || inverse(&self.wavelengths(self.rope_theta)?);
        Ok(match &self.rope_scaling {
            None | Some(RopeScaling::Dynamic { .. }) => (plain()?, 1.0),
            Some(RopeScaling::Linear { factor }) => (plain()?.try_div_scalar(*factor)?, 1.0),
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            }) => {
                let original = *original_max_position_embeddings as f64;
                (llama3(&plain()?, *factor, *low_freq_factor, *high_freq_factor, original)?, 1.0)
            }
            Some(RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                attention_factor,
                beta_fast,
                beta_slow,
                mscale,
                mscale_all_dim,
                truncate,
            }) => {
                let original =
                    original_max_position_embeddings.unwrap_or(self.max_position_embeddings) as f64;
                let (fast, slow) = (beta_fast.unwrap_or(32.0), beta_slow.unwrap_or(1.0));
                let range = self.correction_range(fast, slow, original, truncate.unwrap_or(true));
                let computed = match (mscale, mscale_all_dim) {
                    (Some(over), Some(under)) if *over != 0.0 && *under != 0.0 => {
                        yarn_mscale(*factor, *over) / yarn_mscale(*factor, *under)
                    }
                    _ => yarn_mscale(*factor, 1.0),
                };
                (self.yarn(*factor, range)?, attention_factor.unwrap_or(computed))
            }
        })
    }

    /// `base^(2i / d)`, [d / 2].
    fn wavelengths(&self, base: f64) -> Result<Tensor> {
        Ok(self.exponents()?.try_exp_of(base)?)
    }

    /// `2i / d`, [d / 2].
    fn exponents(&self) -> Result<Tensor> {
        let even: Vec<i64> = (0..self.head_dim).step_by(2).collect();
        Ok(Tensor::f_from_slice(&even)?
            .f_to_device(self.device)?
            .f_to_kind(Kind::Float)?
            .try_div_scalar(self.head_dim as f64)?)
    }

    /// The base grows once the sequence is longer than the configuration's context. It is a float32 tensor in the public
    /// code, since the length of the sequence is one.
    fn dynamic_frequencies(&self, factor: f64, sequence: i64) -> Result<Tensor> {
        let dim = self.head_dim as f64;
        let base = Tensor::f_from_slice(&[sequence])?
            .f_squeeze()?
            .f_to_device(self.device)?
            .try_mul_scalar(factor)?
            .try_div_scalar(self.max_position_embeddings as f64)?
            .try_sub_scalar(factor - 1.0)?
            .try_pow_scalar(dim / (dim - 2.0))?
            .try_mul_scalar(self.rope_theta)?;
        inverse(&base.f_pow(&self.exponents()?)?)
    }

    /// The dimensions between which YaRN goes from kept to stretched.
    fn correction_range(&self, beta_fast: f64, beta_slow: f64, original: f64, truncate: bool) -> (f64, f64) {
        let dim = self.head_dim as f64;
        let correction =
            |rotations: f64| dim * (original / (rotations * 2.0 * PI)).ln() / (2.0 * self.rope_theta.ln());
        let (mut low, mut high) = (correction(beta_fast), correction(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low.max(0.0), high.min(dim - 1.0))
    }

    fn yarn(&self, factor: f64, (low, high): (f64, f64)) -> Result<Tensor> {
        let wavelengths = self.wavelengths(self.rope_theta)?;
        let extrapolation = inverse(&wavelengths)?;
        let interpolation = inverse(&wavelengths.try_mul_scalar(factor)?)?;
        let high = if low == high { high + 0.001 } else { high };
        let pairs: Vec<i64> = (0..self.head_dim / 2).collect();
        let ramp = Tensor::f_from_slice(&pairs)?
            .f_to_device(self.device)?
            .f_to_kind(Kind::Float)?
            .try_sub_scalar(low)?
            .try_div_scalar(high - low)?
            .try_clamp(0.0, 1.0)?;
        let kept = one_minus(&ramp)?;
        Ok(interpolation.f_mul(&one_minus(&kept)?)?.f_add(&extrapolation.f_mul(&kept)?)?)
    }
}

/// Python's `1.0 / tensor`, which PyTorch computes as a reciprocal.
fn inverse(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_reciprocal()?)
}

/// Python's `1 - tensor`.
fn one_minus(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.try_rsub_scalar(1)?)
}

fn yarn_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// Llama 3's scaling: low frequencies stretched, high ones kept, a linear ramp between.
fn llama3(inv_freq: &Tensor, factor: f64, low: f64, high: f64, original: f64) -> Result<Tensor> {
    let (low_freq_wavelen, high_freq_wavelen) = (original / low, original / high);
    let wavelen = inverse(inv_freq)?.try_mul_scalar(2.0 * PI)?;
    let stretched =
        inv_freq.try_div_scalar(factor)?.f_where_self(&wavelen.try_gt(low_freq_wavelen)?, inv_freq)?;
    let smooth =
        inverse(&wavelen)?.try_mul_scalar(original)?.try_sub_scalar(low)?.try_div_scalar(high - low)?;
    let smoothed =
        one_minus(&smooth)?.f_mul(&stretched)?.try_div_scalar(factor)?.f_add(&smooth.f_mul(&stretched)?)?;
    let is_medium = wavelen
        .try_lt(high_freq_wavelen)?
        .f_logical_not()?
        .f_logical_and(&wavelen.try_gt(low_freq_wavelen)?.f_logical_not()?)?;
    Ok(smoothed.f_where_self(&is_medium, &stretched)?)
}

/// `x · cos + rotate_half(x) · sin`.
///
/// # Shapes
/// [b, h, s, d], [1, 1, s, d] twice → [b, h, s, d]
///
/// # Source
/// transformers 4.57.6, `models/llama/modeling_llama.py`, `apply_rotary_pos_emb`.
pub fn apply_rotary_pos_emb(states: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    Ok(states.f_mul(cos)?.f_add(&rotate_half(states)?.f_mul(sin)?)?)
}

/// The second half of each head, negated, in front of the first.
fn rotate_half(states: &Tensor) -> Result<Tensor> {
    let dim = *states.size().last().unwrap_or(&0);
    let half = dim / 2;
    let first = states.f_narrow(-1, 0, half)?;
    let second = states.f_narrow(-1, half, dim - half)?;
    Ok(Tensor::f_cat(&[second.f_neg()?, first], -1)?)
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;
    use crate::model::observer::Unobserved;

    /// A rotary embedding of 8 dimensions over a context of 64 tokens.
    fn rotary(rope_scaling: Option<RopeScaling>) -> RotaryEmbedding {
        let mut rotary = RotaryEmbedding {
            site: String::new(),
            kind: Kind::Float,
            device: Device::Cpu,
            head_dim: 8,
            rope_theta: 10_000.0,
            rope_scaling,
            max_position_embeddings: 64,
            inv_freq: Tensor::new(),
            attention_scaling: 1.0,
        };
        (rotary.inv_freq, rotary.attention_scaling) = rotary.frequencies().unwrap();
        rotary
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.flatten(0, -1)).unwrap()
    }

    fn assert_frequencies(actual: &Tensor, expected: [f32; 4]) {
        for (actual, expected) in values(actual).into_iter().zip(expected) {
            assert_relative_eq!(actual, expected, max_relative = 1e-6);
        }
    }

    #[test]
    fn plain_frequencies_fall_by_a_power_of_the_base() {
        assert_frequencies(&rotary(None).inv_freq, [1.0, 0.1, 0.01, 0.001]);
    }

    #[test]
    fn linear_scaling_divides_them() {
        let rotary = rotary(Some(RopeScaling::Linear { factor: 4.0 }));
        assert_frequencies(&rotary.inv_freq, [0.25, 0.025, 0.0025, 0.00025]);
    }

    #[test]
    fn llama3_scaling_keeps_high_frequencies_stretches_low_ones_and_blends_between() {
        let rotary = rotary(Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 128,
        }));
        // Wavelengths 6.3, 63, 628 and 6,283 against bounds of 32 and 128: the second is between.
        let smooth = (128.0 / (2.0 * PI / 0.1) - 1.0) / 3.0;
        let blended = (1.0 - smooth) * 0.1 / 8.0 + smooth * 0.1;
        assert_frequencies(&rotary.inv_freq, [1.0, blended as f32, 0.00125, 0.000125]);
        assert_eq!(rotary.attention_scaling, 1.0);
    }

    #[test]
    fn dynamic_scaling_begins_beyond_the_context() {
        let plain = rotary(None).forward(63, 1, &mut Unobserved).unwrap().cos;
        let rotary =
            rotary(Some(RopeScaling::Dynamic { factor: 2.0, original_max_position_embeddings: None }));
        let angles = |past, sequence| rotary.forward(past, sequence, &mut Unobserved).unwrap().cos;
        assert_eq!(values(&angles(63, 1)), values(&plain));
        // 128 tokens: the base grows by (2 · 128/64 − 1)^(8/6).
        let base = 10_000.0_f64 * 3.0_f64.powf(8.0 / 6.0);
        let cos = values(&angles(127, 1));
        for (index, actual) in cos.into_iter().enumerate().take(4) {
            let expected = (127.0 * base.powf(-(index as f64) / 4.0)).cos();
            assert_relative_eq!(f64::from(actual), expected, max_relative = 1e-4, epsilon = 1e-5);
        }
    }

    #[test]
    fn yarn_scaling_goes_from_kept_to_stretched_and_scales_the_attention() {
        let rotary = rotary(Some(RopeScaling::Yarn {
            factor: 4.0,
            original_max_position_embeddings: Some(1024),
            attention_factor: None,
            beta_fast: None,
            beta_slow: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: None,
        }));
        // Correction dimensions 0.7 and 2.2 are rounded to 0 and 3: the ramp is 0, 1/3, 2/3, 1.
        let blend = |plain: f64, ramp: f64| (plain / 4.0 * ramp + plain * (1.0 - ramp)) as f32;
        let expected = [1.0, blend(0.1, 1.0 / 3.0), blend(0.01, 2.0 / 3.0), 0.00025];
        assert_frequencies(&rotary.inv_freq, expected);
        assert_relative_eq!(rotary.attention_scaling, 0.1 * 4.0_f64.ln() + 1.0);
    }

    #[test]
    fn a_head_turns_its_first_half_against_its_second() {
        let states = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]).view([1, 1, 1, 4]);
        assert_eq!(values(&rotate_half(&states).unwrap()), [-3.0, -4.0, 1.0, 2.0]);
    }
}
