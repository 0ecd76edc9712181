//! Grouped-query attention: written out operation by operation, or by libtorch's `scaled_dot_product_attention`.

use converter::normalized::TextConfig;
use tch::{Kind, Tensor};

use super::kv_cache::KvCache;
use super::rotary::{PositionEmbeddings, apply_rotary_pos_emb};
use crate::error::Result;
use crate::faults::fault;
use crate::math::{AttnImplementation, SharedMath};
use crate::model::layers::Linear;
use crate::model::observer::{Observer, Site};
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

        let query_states = apply_rotary_pos_emb(&query_states, position_embeddings)?;
        let key_states =
            fault!(KeysNotRotated => key_states, apply_rotary_pos_emb(&key_states, position_embeddings)?);
        let (key_states, value_states) = cache.update(self.layer, &key_states, &value_states)?; // [b, kv, k, d]

        let scaling =
            fault!(ScaledByWidth => (query_states.size()[1] as f64).powf(-0.5) * self.scaling, self.scaling);
        let scaling = fault!(NotScaled => 1.0, scaling);
        let states = [&query_states, &key_states, &value_states];
        let (attn_output, attn_weights) = match self.math.attention() {
            AttnImplementation::Eager => {
                let (output, weights) = self.eager(states, attention_mask, scaling)?;
                (output, Some(weights))
            }
            AttnImplementation::Sdpa => (self.sdpa(states, attention_mask, scaling)?, None),
        }; // [b, h, s, d], [b, h, s, k]
        let attn_output = attn_output.f_transpose(1, 2)?.f_contiguous()?.f_reshape([batch, sequence, -1])?;
        let attn_output = self.o_proj.forward(&attn_output, observer)?;
        let attn_output = observer.output(Site::new(&self.site, "LlamaAttention"), attn_output)?;
        if let Some(attn_weights) = attn_weights {
            // Nothing is computed of them any more.
            drop(observer.output(Site::new(&self.attn_weights, ATTN_WEIGHTS_MODULE), attn_weights)?);
        }
        Ok(attn_output)
    }

    /// # Shapes
    /// → output [b, h, s, d], weights [b, h, s, k]
    ///
    /// # Source
    /// transformers 4.57.6, `models/llama/modeling_llama.py`, `eager_attention_forward`.
    fn eager(
        &self,
        [query, key, value]: [&Tensor; 3],
        mask: Option<&Tensor>,
        scaling: f64,
    ) -> Result<(Tensor, Tensor)> {
        let key_states = repeat_kv(key, self.num_key_value_groups)?; // [b, h, k, d]
        let value_states = repeat_kv(value, self.num_key_value_groups)?;
        let scores = query.f_matmul(&key_states.f_transpose(2, 3)?)?; // [b, h, s, k]
        let mut attn_weights = scores.try_mul_scalar(scaling)?;
        if let Some(mask) = mask {
            attn_weights = attn_weights.f_add(mask)?;
        }
        let softmax_kind = fault!(SoftmaxInDtype => query.kind(), Kind::Float);
        let attn_weights = attn_weights.f_softmax(-1, softmax_kind)?.f_to_kind(query.kind())?;
        Ok((attn_weights.f_matmul(&value_states)?, attn_weights))
    }

    /// # Source
    /// transformers 4.57.6, `integrations/sdpa_attention.py`, `sdpa_attention_forward`.
    fn sdpa(&self, [query, key, value]: [&Tensor; 3], mask: Option<&Tensor>, scaling: f64) -> Result<Tensor> {
        // A prompt from its first token on needs no mask in memory: the kernel can skip what is hidden.
        let is_causal = mask.is_some() && query.size()[2] == key.size()[2];
        let is_causal = fault!(MaskOneAhead => false, is_causal);
        let mask = mask.filter(|_| !is_causal);
        // Without a mask the kernel shares keys and values among the heads of a group itself.
        let enable_gqa = fault!(KvHeadsInTurn => false, mask.is_none());
        let shared = |states: &Tensor| {
            if enable_gqa { Ok(states.shallow_clone()) } else { repeat_kv(states, self.num_key_value_groups) }
        };
        Ok(Tensor::f_scaled_dot_product_attention(
            query,
            &shared(key)?,
            &shared(value)?,
            mask,
            0.0,
            is_causal,
            Some(scaling),
            enable_gqa,
        )?)
    }
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
    fault!(KvHeadsInTurn => return Ok(states.f_repeat([1, groups, 1, 1])?), ());
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
