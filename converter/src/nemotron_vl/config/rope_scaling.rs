//! `text_config.rope_scaling`: how the rotary frequencies are stretched.

use serde::{Deserialize, Serialize};

use super::limits::{self, MAX_SIZE};

/// `rope_scaling` of the Llama family (transformers, `modeling_rope_utils.py`, `ROPE_INIT_FUNCTIONS`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// Frequencies divided by `factor`.
    Linear {
        /// Stretch of the context.
        factor: f64,
    },
    /// The base grows with the sequence, beyond the original context.
    Dynamic {
        /// Stretch of the context.
        factor: f64,
        /// Context of pre-training in tokens, where it is not `max_position_embeddings`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        original_max_position_embeddings: Option<usize>,
    },
    /// Low frequencies divided by `factor`, high ones kept, a smooth ramp between.
    Llama3 {
        /// Stretch of the context.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are stretched fully.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context of pre-training in tokens.
        original_max_position_embeddings: usize,
    },
    /// NTK by parts, with a temperature on the attention (YaRN).
    Yarn {
        /// Stretch of the context.
        factor: f64,
        /// Context of pre-training in tokens, where it is not `max_position_embeddings`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        original_max_position_embeddings: Option<usize>,
        /// Scale of cos and sin; computed from `factor` where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
        /// Rotations above which a dimension is kept; 32 where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        beta_fast: Option<f64>,
        /// Rotations below which a dimension is stretched; 1 where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        beta_slow: Option<f64>,
        /// Numerator of the computed `attention_factor`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mscale: Option<f64>,
        /// Denominator of the computed `attention_factor`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mscale_all_dim: Option<f64>,
        /// Whether the correction range is rounded to whole dimensions; true where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        truncate: Option<bool>,
    },
}

/// A field of a [`RopeScaling`] that no computation can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RopeFault {
    pub(crate) field: &'static str,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl RopeScaling {
    /// Checks every number; the first field that no computation can use.
    pub(crate) fn check(&self) -> Result<(), RopeFault> {
        match *self {
            Self::Linear { factor } => positive("factor", factor),
            Self::Dynamic { factor, original_max_position_embeddings } => {
                positive("factor", factor)?;
                original(original_max_position_embeddings)
            }
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                positive("factor", factor)?;
                positive("low_freq_factor", low_freq_factor)?;
                positive("high_freq_factor", high_freq_factor)?;
                if high_freq_factor <= low_freq_factor {
                    // The ramp between the two divides by their difference.
                    let expected = format!("a number above `low_freq_factor`, {low_freq_factor}");
                    return fail("high_freq_factor", expected, high_freq_factor);
                }
                original(Some(original_max_position_embeddings))
            }
            Self::Yarn {
                factor,
                original_max_position_embeddings,
                attention_factor,
                beta_fast,
                beta_slow,
                mscale,
                mscale_all_dim,
                truncate: _,
            } => {
                positive("factor", factor)?;
                original(original_max_position_embeddings)?;
                for (field, number) in [
                    ("attention_factor", attention_factor),
                    ("beta_fast", beta_fast),
                    ("beta_slow", beta_slow),
                ] {
                    number.map_or(Ok(()), |number| positive(field, number))?;
                }
                // 0 counts as absent.
                for (field, number) in [("mscale", mscale), ("mscale_all_dim", mscale_all_dim)] {
                    number
                        .filter(|&number| number != 0.0)
                        .map_or(Ok(()), |number| positive(field, number))?;
                }
                Ok(())
            }
        }
    }
}

fn positive(field: &'static str, number: f64) -> Result<(), RopeFault> {
    limits::positive(number).or_else(|expected| fail(field, expected, number))
}

fn original(tokens: Option<usize>) -> Result<(), RopeFault> {
    match tokens {
        Some(tokens) if !(1..=MAX_SIZE).contains(&tokens) => {
            fail("original_max_position_embeddings", format!("a whole number from 1 to {MAX_SIZE}"), tokens)
        }
        _ => Ok(()),
    }
}

fn fail(
    field: &'static str,
    expected: impl Into<String>,
    found: impl std::fmt::Display,
) -> Result<(), RopeFault> {
    Err(RopeFault { field, expected: expected.into(), found: format!("`{found}`") })
}
