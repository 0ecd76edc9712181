//! The C-RADIO tower: conditioner, patch generator, blocks.
//!
//! Shapes: `t` tiles, `c` channels, `p` patches of a tile, `n` tokens of a tile (prefix and patches), `w` width,
//! `h` heads, `d` head dim.

mod block;
mod patch_generator;

use converter::normalized::VisionConfig;
use tch::{Kind, Tensor};

use super::layers::LayerNorm;
use crate::error::Result;
use crate::model::observer::{Observer, Operation, Site};
use crate::weights::Weights;
use block::Block;
use patch_generator::PatchGenerator;

/// Its path in `modeling.py`.
pub(crate) const SITE: &str = "vision_model";
/// The path of what normalizes pixels.
pub(crate) const CONDITIONER: &str = "vision_model.radio_model.input_conditioner";
const MODEL: &str = "vision_model.radio_model.model";

/// The vision tower.
///
/// # Source
/// NVlabs/RADIO, `radio/hf_model.py` and `radio/radio_model.py`, class `RADIOModel` (commit 8dfc443).
pub struct VisionModel {
    input_conditioner: InputConditioner,
    patch_generator: PatchGenerator,
    blocks: Vec<Block>,
    norm: Option<LayerNorm>,
    num_prefix_tokens: i64,
}

impl VisionModel {
    /// Loads the tower from `vision_model` of a normalized checkpoint.
    pub fn load(config: &VisionConfig, weights: &Weights) -> Result<Self> {
        let layers = weights.pp("encoder.layer");
        let blocks = (0..config.num_hidden_layers)
            .map(|index| Block::load(config, &layers.pp(index), &format!("{MODEL}.blocks.{index}")))
            .collect::<Result<_>>()?;
        let norm = if config.model_norm {
            Some(LayerNorm::load(&weights.pp("layernorm"), config.layer_norm_eps, format!("{MODEL}.norm"))?)
        } else {
            None
        };
        Ok(Self {
            input_conditioner: InputConditioner::new(config, weights)?,
            patch_generator: PatchGenerator::load(
                config,
                &weights.pp("embeddings"),
                format!("{MODEL}.patch_generator"),
            )?,
            blocks,
            norm,
            num_prefix_tokens: config.num_prefix_tokens() as i64,
        })
    }

    /// Features of the patches, the prefix dropped.
    ///
    /// # Shapes
    /// [t, c, rows · patch, columns · patch] in 0..=1 → [t, p, w]
    pub fn forward(&self, pixel_values: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let pixels = self.condition(pixel_values, observer)?;
        let mut hidden_states = self.patch_generator.forward(&pixels, observer)?;
        for block in &self.blocks {
            hidden_states = block.forward(&hidden_states, observer)?;
        }
        let mut hidden_states =
            observer.output(Site::new(&format!("{MODEL}.blocks"), "Sequential"), hidden_states)?;
        if let Some(norm) = &self.norm {
            hidden_states = norm.forward(&hidden_states, observer)?;
        }
        let num_patches = hidden_states.size()[1] - self.num_prefix_tokens;
        let features = hidden_states.f_narrow(1, self.num_prefix_tokens, num_patches)?;
        observer.output(Site::new(SITE, "RADIOModel"), features)
    }

    /// Pixels normalized by the tower's own mean and standard deviation, in the tower's dtype.
    pub fn condition(&self, pixel_values: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        self.input_conditioner.forward(pixel_values, observer)
    }
}

/// Normalizes pixels by the tower's own mean and standard deviation.
///
/// # Source
/// NVlabs/RADIO, `radio/input_conditioner.py`, class `InputConditioner` (commit 8dfc443).
struct InputConditioner {
    norm_mean: Tensor,
    norm_std: Tensor,
    kind: Kind,
}

impl InputConditioner {
    fn new(config: &VisionConfig, weights: &Weights) -> Result<Self> {
        // The buffers are float32 in the public code whatever the run's dtype; the values may be bfloat16-rounded.
        let buffer = |values: &[f64]| -> Result<Tensor> {
            let tensor = Tensor::f_from_slice(values)?.f_to_kind(Kind::Float)?.f_view([-1, 1, 1])?;
            Ok(tensor.f_to_device(weights.device())?)
        };
        Ok(Self {
            norm_mean: buffer(&config.norm_mean)?,
            norm_std: buffer(&config.norm_std)?,
            kind: weights.kind(),
        })
    }

    fn forward(&self, pixel_values: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let (mean, std, kind) = (&self.norm_mean, &self.norm_std, self.kind);
        observer.module(
            Site::new(CONDITIONER, "InputConditioner"),
            Operation::Normalise { pixels: pixel_values, mean, std, kind },
            || Ok(pixel_values.f_sub(mean)?.f_div(std)?.f_to_kind(kind)?),
        )
    }
}
