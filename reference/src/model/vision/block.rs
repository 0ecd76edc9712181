//! A pre-norm transformer block as timm writes it.

use converter::normalized::VisionConfig;
use tch::Tensor;

use crate::error::Result;
use crate::model::layers::{LayerNorm, Linear, gelu};
use crate::model::observer::{Observer, Operation, Site};
use crate::weights::Weights;

/// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.
///
/// # Source
/// timm 1.0.31, `timm/models/vision_transformer.py`, class `Block`.
pub struct Block {
    site: String,
    norm1: LayerNorm,
    attn: Attention,
    ls1: Option<LayerScale>,
    norm2: LayerNorm,
    mlp: Mlp,
    ls2: Option<LayerScale>,
}

impl Block {
    /// Loads from `vision_model.encoder.layer.{i}`.
    pub fn load(config: &VisionConfig, weights: &Weights, site: &str) -> Result<Self> {
        let norm =
            |name: &str| LayerNorm::load(&weights.pp(name), config.layer_norm_eps, format!("{site}.{name}"));
        let layer_scale = |source: &str, name: &str| -> Result<Option<LayerScale>> {
            let Some(_) = config.layerscale_value else { return Ok(None) };
            let gamma = weights.pp(name).get("lambda1")?;
            Ok(Some(LayerScale { site: format!("{site}.{source}"), gamma }))
        };
        Ok(Self {
            norm1: norm("norm1")?,
            attn: Attention::load(config, &weights.pp("attention"), format!("{site}.attn"))?,
            ls1: layer_scale("ls1", "layer_scale1")?,
            norm2: norm("norm2")?,
            mlp: Mlp::load(&weights.pp("mlp"), format!("{site}.mlp"))?,
            ls2: layer_scale("ls2", "layer_scale2")?,
            site: site.to_owned(),
        })
    }

    /// # Shapes
    /// [t, n, w] → the same
    pub fn forward(&self, hidden_states: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let normed = self.norm1.forward(hidden_states, observer)?;
        let mut attn_output = self.attn.forward(&normed, observer)?;
        if let Some(ls1) = &self.ls1 {
            attn_output = ls1.forward(&attn_output, observer)?;
        }
        let hidden_states = hidden_states.f_add(&attn_output)?;

        let normed = self.norm2.forward(&hidden_states, observer)?;
        let mut mlp_output = self.mlp.forward(&normed, observer)?;
        if let Some(ls2) = &self.ls2 {
            mlp_output = ls2.forward(&mlp_output, observer)?;
        }
        let hidden_states = hidden_states.f_add(&mlp_output)?;
        observer.output(Site::new(&self.site, "Block"), hidden_states)
    }
}

/// Multi-head attention over all tokens of a tile, by libtorch's fused kernel.
///
/// # Source
/// timm 1.0.31, `timm/layers/attention.py`, class `Attention`, with `fused_attn`.
struct Attention {
    site: String,
    num_heads: i64,
    qkv: Linear,
    proj: Linear,
}

impl Attention {
    fn load(config: &VisionConfig, weights: &Weights, site: String) -> Result<Self> {
        // One operation over [q; k; v], as in the source; the normalized checkpoint has them apart.
        let rows = |name: &str| -> Result<Tensor> {
            let parts = ["q_proj", "k_proj", "v_proj"].map(|part| weights.pp(part).get(name));
            let [q, k, v] = parts;
            Ok(Tensor::f_cat(&[q?, k?, v?], 0)?)
        };
        let bias = if config.qkv_bias { Some(rows("bias")?) } else { None };
        Ok(Self {
            num_heads: config.num_attention_heads as i64,
            qkv: Linear::new(weights, rows("weight")?, bias, format!("{site}.qkv")),
            proj: Linear::load(&weights.pp("o_proj"), true, format!("{site}.proj"))?,
            site,
        })
    }

    /// # Shapes
    /// [t, n, w] → the same
    fn forward(&self, hidden_states: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let qkv = self.qkv.forward(hidden_states, observer)?; // [t, n, 3w]
        let site = Site::new(&self.site, "Attention");
        let operation = Operation::FusedAttention { qkv: &qkv, num_heads: self.num_heads };
        let attn_output = observer.instead(site, operation, || self.attend(&qkv))?;
        let attn_output = self.proj.forward(&attn_output, observer)?;
        observer.output(site, attn_output)
    }

    /// # Shapes
    /// [t, n, 3w] → [t, n, w]
    fn attend(&self, qkv: &Tensor) -> Result<Tensor> {
        let (tiles, tokens, width) = qkv.size3()?;
        let head_dim = width / 3 / self.num_heads;
        let qkv = qkv.f_reshape([tiles, tokens, 3, self.num_heads, head_dim])?.f_permute([2, 0, 3, 1, 4])?; // [3, t, h, n, d]
        let (query, key, value) = (qkv.f_select(0, 0)?, qkv.f_select(0, 1)?, qkv.f_select(0, 2)?);
        let attn_output = Tensor::f_scaled_dot_product_attention(
            &query,
            &key,
            &value,
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        )?; // [t, h, n, d]
        Ok(attn_output.f_transpose(1, 2)?.f_reshape([tiles, tokens, width / 3])?)
    }
}

/// `fc2(gelu(fc1(x)))`.
///
/// # Source
/// timm 1.0.31, `timm/layers/mlp.py`, class `Mlp`.
struct Mlp {
    site: String,
    act: String,
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    fn load(weights: &Weights, site: String) -> Result<Self> {
        Ok(Self {
            act: format!("{site}.act"),
            fc1: Linear::load(&weights.pp("fc1"), true, format!("{site}.fc1"))?,
            fc2: Linear::load(&weights.pp("fc2"), true, format!("{site}.fc2"))?,
            site,
        })
    }

    fn forward(&self, hidden_states: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let hidden_states = self.fc1.forward(hidden_states, observer)?;
        let hidden_states = gelu(&hidden_states, &self.act, observer)?;
        let output = self.fc2.forward(&hidden_states, observer)?;
        observer.output(Site::new(&self.site, "Mlp"), output)
    }
}

/// Scales each channel of a residual branch.
///
/// # Source
/// timm 1.0.31, `timm/layers/layer_scale.py`, class `LayerScale`.
struct LayerScale {
    site: String,
    gamma: Tensor,
}

impl LayerScale {
    fn forward(&self, hidden_states: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let output = hidden_states.f_mul(&self.gamma)?;
        observer.output(Site::new(&self.site, "LayerScale"), output)
    }
}
