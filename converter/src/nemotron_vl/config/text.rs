//! `text_config`: a complete Llama configuration, every default made explicit.

use serde::{Deserialize, Serialize};

use super::RopeScaling;
use crate::normalized::TorchDtype;

/// The language model, under the field names of transformers' `LlamaConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// `["LlamaForCausalLM"]`.
    pub architectures: Vec<String>,
    /// `llama`.
    pub model_type: String,
    /// Rows of the embedding and of `lm_head`.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of a head; need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Activation of the MLP: `silu`.
    pub hidden_act: String,
    /// Longest context in tokens.
    pub max_position_embeddings: usize,
    /// Standard deviation of the weights' initialisation; unused in inference.
    pub initializer_range: f64,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched; `null` for not at all.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether `q_proj`, `k_proj`, `v_proj` and `o_proj` have biases.
    pub attention_bias: bool,
    /// Dropout of the attention weights in training.
    pub attention_dropout: f64,
    /// Whether `gate_proj`, `up_proj` and `down_proj` have biases.
    pub mlp_bias: bool,
    /// Whether `lm_head` is the embedding's own weight, and then has none of its own.
    pub tie_word_embeddings: bool,
    /// First token of a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end an answer.
    pub eos_token_id: Vec<u32>,
    /// Padding.
    pub pad_token_id: Option<u32>,
    /// Tensor-parallel degree in pre-training; a value other than 1 changed the computation in old releases of transformers.
    pub pretraining_tp: usize,
    /// Whether generation keeps keys and values.
    pub use_cache: bool,
    /// The dtype the weights were released in.
    pub torch_dtype: TorchDtype,
}
