//! Root-mean-square normalization, computed in float32.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::model::observer::{Observer, Operation, Site};
use crate::scalar::ScalarOps as _;
use crate::weights::Weights;

/// `weight · (x / √(mean(x²) + eps))`, the quotient in float32 and cast back *before* the weight. libtorch's own
/// `rms_norm` casts after it, which differs in bfloat16.
///
/// # Source
/// transformers 4.57.6, `models/llama/modeling_llama.py`, class `LlamaRMSNorm`.
pub struct RmsNorm {
    site: String,
    weight: Tensor,
    variance_epsilon: f64,
}

impl RmsNorm {
    /// Loads `weight` ([w]).
    pub fn load(weights: &Weights, eps: f64, site: impl Into<String>) -> Result<Self> {
        Ok(Self { site: site.into(), weight: weights.get("weight")?, variance_epsilon: eps })
    }

    /// # Shapes
    /// [b, s, w] → the same
    pub fn forward(&self, hidden_states: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let (weight, eps) = (&self.weight, self.variance_epsilon);
        observer.module(
            Site::new(&self.site, "LlamaRMSNorm"),
            Operation::RmsNorm { input: hidden_states, weight, eps },
            || rms_norm(hidden_states, weight, eps),
        )
    }
}

/// # Shapes
/// [.., w] and [w] → [.., w]
pub fn rms_norm(hidden_states: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let input_kind = hidden_states.kind();
    let hidden_states = hidden_states.f_to_kind(Kind::Float)?;
    let variance = hidden_states.try_pow_scalar(2)?.f_mean_dim(-1, true, None)?;
    let scale = variance.try_add_scalar(eps)?.f_rsqrt()?;
    Ok(weight.f_mul(&hidden_states.f_mul(&scale)?.f_to_kind(input_kind)?)?)
}
