//! A decoder layer: attention and MLP, each with its norm in front and its residual around.

use converter::normalized::TextConfig;
use tch::Tensor;

use super::attention::Attention;
use super::kv_cache::KvCache;
use super::rms_norm::RmsNorm;
use super::rotary::PositionEmbeddings;
use crate::error::Result;
use crate::model::layers::Linear;
use crate::model::observer::{Observer, Operation, Site};
use crate::weights::Weights;

/// # Source
/// transformers 4.57.6, `models/llama/modeling_llama.py`, class `LlamaDecoderLayer`.
pub struct DecoderLayer {
    site: String,
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl DecoderLayer {
    /// Loads from `language_model.model.layers.{i}`.
    pub fn load(config: &TextConfig, weights: &Weights, site: &str, index: usize) -> Result<Self> {
        let norm =
            |name: &str| RmsNorm::load(&weights.pp(name), config.rms_norm_eps, format!("{site}.{name}"));
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::load(config, &weights.pp("self_attn"), format!("{site}.self_attn"), index)?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp::load(config, &weights.pp("mlp"), format!("{site}.mlp"))?,
            site: site.to_owned(),
        })
    }

    /// # Shapes
    /// [b, s, w] → the same
    pub fn forward(
        &self,
        hidden_states: &Tensor,
        position_embeddings: &PositionEmbeddings,
        attention_mask: Option<&Tensor>,
        cache: &mut KvCache,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let residual = hidden_states;
        let normed = self.input_layernorm.forward(hidden_states, observer)?;
        let attn_output =
            self.self_attn.forward(&normed, position_embeddings, attention_mask, cache, observer)?;
        let hidden_states = residual.f_add(&attn_output)?;

        let residual = &hidden_states;
        let normed = self.post_attention_layernorm.forward(&hidden_states, observer)?;
        let mlp_output = self.mlp.forward(&normed, observer)?;
        let hidden_states = residual.f_add(&mlp_output)?;
        observer.output(Site::new(&self.site, "LlamaDecoderLayer"), hidden_states)
    }
}

/// `down_proj(silu(gate_proj(x)) · up_proj(x))`.
///
/// # Source
/// transformers 4.57.6, `models/llama/modeling_llama.py`, class `LlamaMLP`.
struct Mlp {
    site: String,
    act_fn: String,
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Mlp {
    fn load(config: &TextConfig, weights: &Weights, site: String) -> Result<Self> {
        let linear = |name: &str| Linear::load(&weights.pp(name), config.mlp_bias, format!("{site}.{name}"));
        Ok(Self {
            gate_proj: linear("gate_proj")?,
            up_proj: linear("up_proj")?,
            down_proj: linear("down_proj")?,
            act_fn: format!("{site}.act_fn"),
            site,
        })
    }

    fn forward(&self, hidden_states: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let gate = self.gate_proj.forward(hidden_states, observer)?;
        let site = Site::new(&self.act_fn, "SiLUActivation");
        let gate = observer.module(site, Operation::Silu { input: &gate }, || Ok(gate.f_silu()?))?;
        let up = self.up_proj.forward(hidden_states, observer)?;
        let output = self.down_proj.forward(&gate.f_mul(&up)?, observer)?;
        observer.output(Site::new(&self.site, "LlamaMLP"), output)
    }
}
