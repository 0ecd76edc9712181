//! The Llama decoder.
//!
//! Shapes: `b` batch, `s` sequence, `k` keys (past and present), `w` hidden size, `h` query heads, `kv` key-value heads,
//! `d` head dim, `v` vocabulary.

mod attention;
mod decoder_layer;
mod kv_cache;
mod rms_norm;
mod rotary;

use converter::normalized::TextConfig;
use tch::Tensor;

use super::layers::{Embedding, Linear, lowest};
use crate::error::Result;
use crate::math::{AttnImplementation, SharedMath};
use crate::model::observer::{Observer, Site};
use crate::weights::Weights;
pub(crate) use attention::ATTN_WEIGHTS;
use decoder_layer::DecoderLayer;
pub use kv_cache::KvCache;
pub(crate) use kv_cache::PAST_KEY_VALUES;
use rms_norm::RmsNorm;
pub(crate) use rms_norm::rms_norm;
use rotary::RotaryEmbedding;
pub(crate) use rotary::apply_rotary_pos_emb;

/// Its path in `modeling.py`.
pub(crate) const SITE: &str = "language_model";
const MODEL: &str = "language_model.model";

/// The path of the attention of a layer in `modeling.py`.
pub(crate) fn attention_of(layer: usize) -> String {
    format!("{MODEL}.layers.{layer}.self_attn")
}

/// `LlamaForCausalLM`.
///
/// # Source
/// transformers 4.57.6, `models/llama/modeling_llama.py`.
pub struct LlamaForCausalLm {
    embed_tokens: Embedding,
    rotary_emb: RotaryEmbedding,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear,
    math: SharedMath,
    config: TextConfig,
}

impl LlamaForCausalLm {
    /// Loads from `language_model` of a normalized checkpoint.
    pub fn load(config: &TextConfig, weights: &Weights) -> Result<Self> {
        let model = weights.pp("model");
        let embed_tokens = Embedding::load(&model.pp("embed_tokens"), format!("{MODEL}.embed_tokens"))?;
        let lm_head_site = format!("{SITE}.lm_head");
        let lm_head = if config.tie_word_embeddings {
            Linear::new(weights, embed_tokens.weight.shallow_clone(), None, lm_head_site)
        } else {
            Linear::load(&weights.pp("lm_head"), false, lm_head_site)?
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                let site = format!("{MODEL}.layers.{index}");
                DecoderLayer::load(config, &model.pp("layers").pp(index), &site, index)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            embed_tokens,
            rotary_emb: RotaryEmbedding::new(
                config,
                weights.kind(),
                weights.device(),
                format!("{MODEL}.rotary_emb"),
            )?,
            layers,
            norm: RmsNorm::load(&model.pp("norm"), config.rms_norm_eps, format!("{MODEL}.norm"))?,
            lm_head,
            math: weights.math(),
            config: config.clone(),
        })
    }

    /// Embeds token ids.
    ///
    /// # Shapes
    /// [b, s] int64 → [b, s, w]
    pub fn embed(&self, input_ids: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        self.embed_tokens.forward(input_ids, observer)
    }

    /// Bytes of weights that a decoded token reads.
    pub fn weight_bytes_per_token(&self) -> u64 {
        let text = &self.config;
        let heads = (text.num_attention_heads + text.num_key_value_heads) * text.head_dim;
        let layer = 2 * text.hidden_size * heads
            + 3 * text.hidden_size * text.intermediate_size
            + 2 * text.hidden_size;
        let elems = text.num_hidden_layers * layer + (1 + text.vocab_size) * text.hidden_size;
        (elems * self.embed_tokens.weight.kind().elt_size_in_bytes()) as u64
    }

    /// An empty cache for at most `capacity` tokens.
    pub fn cache(&self, batch: i64, capacity: usize) -> Result<KvCache> {
        KvCache::new(
            &self.config,
            batch,
            capacity,
            self.embed_tokens.weight.kind(),
            self.embed_tokens.weight.device(),
        )
    }

    /// Runs the decoder on the tokens that follow those in the cache, and adds them to it.
    ///
    /// # Shapes
    /// [b, s, w] → logits of the last position, [b, 1, v]
    pub fn forward(
        &self,
        inputs_embeds: &Tensor,
        cache: &mut KvCache,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let past = cache.len();
        let sequence = inputs_embeds.size()[1];
        let position_embeddings = self.rotary_emb.forward(past, sequence, observer)?;
        let attention_mask = causal_mask(inputs_embeds, past, self.math.attention())?;

        let mut hidden_states = inputs_embeds.shallow_clone();
        for layer in &self.layers {
            hidden_states = layer.forward(
                &hidden_states,
                &position_embeddings,
                attention_mask.as_ref(),
                cache,
                observer,
            )?;
        }
        cache.advance(sequence);
        let hidden_states = self.norm.forward(&hidden_states, observer)?;
        let hidden_states = observer.output(Site::new(MODEL, "LlamaModel"), hidden_states)?;

        // A tensor of its own: of a view into many rows libtorch makes a batched product, which sums in another order than the
        // public code's, whose parameters require gradients (`aten/src/ATen/native/LinearAlgebra.cpp`, `should_fold`).
        let last = hidden_states.f_narrow(1, sequence - 1, 1)?.f_reshape([1, -1])?.f_unsqueeze(1)?;
        let logits = self.lm_head.forward(&last, observer)?;
        observer.output(Site::new(SITE, "LlamaForCausalLM"), logits)
    }
}

/// The additive mask that hides later tokens: 0 where a key is visible, the dtype's lowest number where it is not.
/// None for a single token, which sees all.
///
/// `scaled_dot_product_attention` hides what is later by itself in a prompt from its first token on, and reads no mask: what it is given
/// there is one number, seen at every place, where a mask would take more memory than all else.
///
/// # Shapes
/// → [1, 1, s, k]
fn causal_mask(inputs_embeds: &Tensor, past: i64, attention: AttnImplementation) -> Result<Option<Tensor>> {
    let sequence = inputs_embeds.size()[1];
    if sequence == 1 {
        return Ok(None);
    }
    let options = (inputs_embeds.kind(), inputs_embeds.device());
    let shape = [1, 1, sequence, past + sequence];
    if attention == AttnImplementation::Sdpa && past == 0 {
        return Ok(Some(Tensor::f_zeros([1], options)?.f_expand(shape, false)?));
    }
    let hidden = Tensor::f_from_slice(&[lowest(inputs_embeds.kind())])?
        .f_to_device(inputs_embeds.device())?
        .f_to_kind(inputs_embeds.kind())?
        .f_expand(shape, false)?;
    Ok(Some(hidden.f_triu(past + 1)?))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn a_mask_hides_later_tokens_and_those_before_are_seen() {
        let embeds = Tensor::zeros([1, 2, 4], (Kind::Float, Device::Cpu));
        let lowest = f32::MIN;
        let mask = causal_mask(&embeds, 1, AttnImplementation::Eager).unwrap().unwrap();
        assert_eq!(mask.size(), [1, 1, 2, 3]);
        let values = Vec::<f32>::try_from(mask.flatten(0, -1)).unwrap();
        assert_eq!(values, [0.0, 0.0, lowest, 0.0, 0.0, 0.0]);
        let one = Tensor::zeros([1, 1, 4], (Kind::Float, Device::Cpu));
        assert!(causal_mask(&one, 5, AttnImplementation::Eager).unwrap().is_none());
    }

    #[test]
    fn the_fused_kernel_gets_no_mask_that_takes_memory() {
        // A mask of this sequence would have 2⁶⁰ bytes.
        let embeds = Tensor::zeros([1, 1, 1], (Kind::Float, Device::Cpu)).expand([1, 1 << 29, 1], false);
        let mask = causal_mask(&embeds, 0, AttnImplementation::Sdpa).unwrap().unwrap();
        assert_eq!(mask.size(), [1, 1, 1 << 29, 1 << 29]);
        assert!(causal_mask(&embeds, 0, AttnImplementation::Eager).is_err());
    }
}
