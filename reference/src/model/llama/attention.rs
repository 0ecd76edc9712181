//! Grouped-query attention: written out operation by operation, or by libtorch's `scaled_dot_product_attention`.

use converter::normalized::TextConfig;
use tch::{Kind, Tensor};

use super::kv_cache::KvCache;
use super::rotary::{PositionEmbeddings, apply_rotary_pos_emb};
use crate::error::Result;
use crate::math::{AttnImplementation, SharedMath};
use crate::model::layers::Linear;
use crate::model::observer::{AttentionInputs, Observer, Operation, Site};
use crate::scalar::ScalarOps as _;
use crate::weights::Weights;

/// What the weights of an attention are called, behind its own name.
pub(crate) const ATTN_WEIGHTS: &str = "attn_weights";
const ATTN_WEIGHTS_MODULE: &str = "LlamaAttention attn_weights";

/// # Source
/// transformers 4.57.6, `models/llama/modeling_llama.py`, class `LlamaAttention`.
pub struct Attention {
    site: String,
    attn_weights: String,
    layer: usize,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    head_dim: i64,
    num_key_value_groups: i64,
    scaling: f64,
    math: SharedMath,
}

impl Attention {
    /// Loads from `language_model.model.layers.{i}.self_attn`.
    pub fn load(config: &TextConfig, weights: &Weights, site: String, layer: usize) -> Result<Self> {
        let linear =
            |name: &str| Linear::load(&weights.pp(name), config.attention_bias, format!("{site}.{name}"));
        Ok(Self {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            o_proj: linear("o_proj")?,
            head_dim: config.head_dim as i64,
            num_key_value_groups: (config.num_attention_heads / config.num_key_value_heads) as i64,
            scaling: (config.head_dim as f64).powf(-0.5),
            math: weights.math(),
            layer,
            attn_weights: format!("{site}.{ATTN_WEIGHTS}"),
            site,
        })
    }

    /// # Shapes
    /// [b, s, w] → the same
    ///
    /// # Dtype
    /// Eager: scores in the model's dtype, softmax in float32, weights cast back.
    pub fn forward(
        &self,
        hidden_states: &Tensor,
        position_embeddings: &PositionEmbeddings,
        attention_mask: Option<&Tensor>,
        cache: &mut KvCache,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let (batch, sequence, _) = hidden_states.size3()?;
        let mut heads = |projection: &Linear| -> Result<Tensor> {
            let states = projection.forward(hidden_states, observer)?;
            Ok(states.f_view([batch, sequence, -1, self.head_dim])?.f_transpose(1, 2)?)
        };
        let query_states = heads(&self.q_proj)?; // [b, h, s, d]
        let key_states = heads(&self.k_proj)?; // [b, kv, s, d]
        let value_states = heads(&self.v_proj)?; // [b, kv, s, d]

        let site = Site::new(&self.site, "LlamaAttention");
        let (cos, sin) = (position_embeddings.cos.f_unsqueeze(1)?, position_embeddings.sin.f_unsqueeze(1)?); // [1, 1, s, d]
        let mut rotated = |states: &Tensor, is_key| {
            let operation = Operation::Rotate { states, cos: &cos, sin: &sin, is_key };
            observer.instead(site, operation, || apply_rotary_pos_emb(states, &cos, &sin))
        };
        let query = rotated(&query_states, false)?;
        let key_states = rotated(&key_states, true)?;
        let (key, value) = cache.update(self.layer, &key_states, &value_states, observer)?; // [b, kv, k, d]

        let mut inputs = AttentionInputs {
            mask: attention_mask.map(Tensor::shallow_clone),
            is_causal: attention_mask.is_some() && sequence == key.size()[2],
            scaling: self.scaling,
            num_key_value_groups: self.num_key_value_groups,
            softmax_kind: Kind::Float,
            query,
            key,
            value,
        };
        observer.attention(site, &mut inputs)?;
        let (attn_output, attn_weights) = match self.math.attention() {
            AttnImplementation::Eager => {
                let (output, weights) = eager(&inputs)?;
                (output, Some(weights))
            }
            AttnImplementation::Sdpa => (sdpa(&inputs)?, None),
        }; // [b, h, s, d], [b, h, s, k]
        let attn_output = attn_output.f_transpose(1, 2)?.f_contiguous()?.f_reshape([batch, sequence, -1])?;
        let attn_output = self.o_proj.forward(&attn_output, observer)?;
        let attn_output = observer.output(site, attn_output)?;
        if let Some(attn_weights) = attn_weights {
            // Nothing is computed of them any more.
            drop(observer.output(Site::new(&self.attn_weights, ATTN_WEIGHTS_MODULE), attn_weights)?);
        }
        Ok(attn_output)
    }
}

/// # Shapes
/// → output [b, h, s, d], weights [b, h, s, k]
///
/// # Source
/// transformers 4.57.6, `models/llama/modeling_llama.py`, `eager_attention_forward`.
fn eager(inputs: &AttentionInputs) -> Result<(Tensor, Tensor)> {
    let AttentionInputs { query, key, value, num_key_value_groups, .. } = inputs;
    let key_states = repeat_kv(key, *num_key_value_groups)?; // [b, h, k, d]
    let value_states = repeat_kv(value, *num_key_value_groups)?;
    let scores = query.f_matmul(&key_states.f_transpose(2, 3)?)?; // [b, h, s, k]
    let mut attn_weights = scores.try_mul_scalar(inputs.scaling)?;
    if let Some(mask) = &inputs.mask {
        attn_weights = attn_weights.f_add(mask)?;
    }
    let attn_weights = attn_weights.f_softmax(-1, inputs.softmax_kind)?.f_to_kind(query.kind())?;
    Ok((attn_weights.f_matmul(&value_states)?, attn_weights))
}

/// # Shapes
/// → [b, h, s, d]
///
/// # Source
/// transformers 4.57.6, `integrations/sdpa_attention.py`, `sdpa_attention_forward`.
fn sdpa(inputs: &AttentionInputs) -> Result<Tensor> {
    let AttentionInputs { query, key, value, is_causal, scaling, .. } = inputs;
    // A prompt from its first token on needs no mask in memory: the kernel can skip what is hidden.
    let mask = inputs.mask.as_ref().filter(|_| !is_causal);
    // Without a mask the kernel shares keys and values among the heads of a group itself.
    let enable_gqa = mask.is_none();
    let shared = |states: &Tensor| {
        if enable_gqa { Ok(states.shallow_clone()) } else { repeat_kv(states, inputs.num_key_value_groups) }
    };
    Ok(Tensor::f_scaled_dot_product_attention(
        query,
        &shared(key)?,
        &shared(value)?,
        mask,
        0.0,
        *is_causal,
        Some(*scaling),
        enable_gqa,
    )?)
}

/// Each key-value head once for every query head of its group, next to each other.
///
/// # Shapes
/// [b, kv, k, d] → [b, kv · groups, k, d]
fn repeat_kv(states: &Tensor, groups: i64) -> Result<Tensor> {
    if groups == 1 {
        return Ok(states.shallow_clone());
    }
    let (batch, heads, keys, head_dim) = states.size4()?;
    Ok(states.f_unsqueeze(2)?.f_expand([batch, heads, groups, keys, head_dim], false)?.f_reshape([
        batch,
        heads * groups,
        keys,
        head_dim,
    ])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_shares_neighbouring_query_heads() {
        let states = Tensor::from_slice(&[1_i64, 2, 3]).view([1, 3, 1, 1]);
        let repeated = repeat_kv(&states, 2).unwrap();
        assert_eq!(repeated.size(), [1, 6, 1, 1]);
        assert_eq!(Vec::<i64>::try_from(repeated.view(-1)).unwrap(), [1, 1, 2, 2, 3, 3]);
    }
}
