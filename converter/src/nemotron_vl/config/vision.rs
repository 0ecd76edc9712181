//! `vision_config`: the C-RADIO tower, resolved from its training arguments.

use serde::{Deserialize, Serialize};

use crate::normalized::TorchDtype;

/// The C-RADIO tower, under the field names of transformers' `RadioConfig` where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    /// `radio`.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of a block's MLP divided by `hidden_size`.
    pub mlp_ratio: f64,
    /// Activation of the MLP: `gelu`, the exact (erf) one.
    pub hidden_act: String,
    /// Epsilon of every LayerNorm of the tower.
    pub layer_norm_eps: f64,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Channels of a picture.
    pub num_channels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Side of the pictures the tower is given, in pixels: the tile's.
    pub image_size: usize,
    /// Side of the position table in pixels: the table has `(max_img_size / patch_size)²` rows.
    pub max_img_size: usize,
    /// Class tokens, first in the sequence.
    pub num_cls_tokens: usize,
    /// Register tokens, behind the class tokens.
    pub num_registers: usize,
    /// Class tokens that make up the summary.
    pub summary_idxs: Vec<usize>,
    /// Mean of each channel, subtracted by the tower's own conditioner; the value as stored in the checkpoint.
    pub norm_mean: Vec<f64>,
    /// Standard deviation of each channel, likewise.
    pub norm_std: Vec<f64>,
    /// Initial value of LayerScale in training; `null` where the blocks have none.
    pub layerscale_value: Option<f64>,
    /// Whether a LayerNorm follows the last block.
    pub model_norm: bool,
    /// The dtype the tower runs in (`args.dtype`).
    pub dtype: TorchDtype,
    /// How the position table is resized to another grid (`vit_patch_generator.py`, `ViTPatchGenerator._get_pos_embeddings`).
    pub position_interpolation_align_corners: bool,
}

impl VisionConfig {
    /// Tokens in front of the patches: class tokens, then registers.
    pub fn num_prefix_tokens(&self) -> usize {
        self.num_cls_tokens + self.num_registers
    }

    /// Rows of the position table.
    pub fn num_positions(&self) -> usize {
        let side = self.max_img_size / self.patch_size;
        side * side
    }

    /// Width of a block's MLP.
    pub fn intermediate_size(&self) -> usize {
        (self.hidden_size as f64 * self.mlp_ratio) as usize
    }
}
