//! From the tower's features to the language model's embeddings: pixel shuffle, then `mlp1`.

use converter::normalized::{Config, PsVersion};
use tch::Tensor;

use super::layers::{LayerNorm, Linear, gelu};
use crate::error::Result;
use crate::model::observer::{Observer, Site};
use crate::weights::Weights;

/// Its path in `modeling.py`.
pub(crate) const SITE: &str = "mlp1";

/// `mlp1` of `modeling.py`.
///
/// # Source
/// `modeling.py`, class `Llama_Nemotron_Nano_VL`, `extract_feature` and `pixel_shuffle`.
pub struct MultiModalProjector {
    downsample_ratio: f64,
    ps_version: PsVersion,
    layer_norm: LayerNorm,
    linear_1: Linear,
    linear_2: Linear,
}

impl MultiModalProjector {
    /// Loads from `multi_modal_projector`.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        Ok(Self {
            downsample_ratio: config.downsample_ratio,
            ps_version: config.ps_version,
            layer_norm: LayerNorm::load(
                &weights.pp("layer_norm"),
                config.projector_layer_norm_eps,
                "mlp1.0",
            )?,
            linear_1: Linear::load(&weights.pp("linear_1"), true, "mlp1.1")?,
            linear_2: Linear::load(&weights.pp("linear_2"), true, "mlp1.3")?,
        })
    }

    /// # Shapes
    /// [t, p, w] → [t, p · ratio², text width]
    pub fn forward(&self, features: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let (tiles, patches, width) = features.size3()?;
        let side = patches.isqrt();
        let grid = features.f_reshape([tiles, side, side, width])?;
        let shuffled = pixel_shuffle(&grid, self.downsample_ratio, self.ps_version)?;
        let channels = *shuffled.size().last().unwrap_or(&0);
        let hidden_states = shuffled.f_reshape([tiles, -1, channels])?;

        let hidden_states = self.layer_norm.forward(&hidden_states, observer)?;
        let hidden_states = self.linear_1.forward(&hidden_states, observer)?;
        let hidden_states = gelu(&hidden_states, "mlp1.2", observer)?;
        let image_features = self.linear_2.forward(&hidden_states, observer)?;
        observer.output(Site::new(SITE, "Sequential"), image_features)
    }
}

/// Trades resolution for channels: each square of 1/ratio × 1/ratio neighbours becomes one position.
///
/// # Shapes
/// [t, w, h, c] → [t, w · ratio, h · ratio, c / ratio²] (`v2`); the two sides swapped for `v1`
///
/// # Source
/// `modeling.py`, `Llama_Nemotron_Nano_VL.pixel_shuffle`.
fn pixel_shuffle(features: &Tensor, ratio: f64, version: PsVersion) -> Result<Tensor> {
    let (tiles, width, height, channels) = features.size4()?;
    let shrunk = |size: i64| (size as f64 * ratio) as i64;
    let per_pair = (channels as f64 / ratio) as i64;
    let per_square = (channels as f64 / (ratio * ratio)) as i64;
    let shuffled = features
        .f_reshape([tiles, width, shrunk(height), per_pair])?
        .f_permute([0, 2, 1, 3])? // [t, h · ratio, w, c / ratio]
        .f_contiguous()?
        .f_view([tiles, shrunk(height), shrunk(width), per_square])?;
    Ok(match version {
        PsVersion::V1 => shuffled,
        PsVersion::V2 => shuffled.f_permute([0, 2, 1, 3])?.f_contiguous()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 4 × 4 grid of one channel, whose value is 10 · row + column.
    fn grid() -> Tensor {
        let values: Vec<f32> =
            (0..4).flat_map(|row| (0..4).map(move |column| (10 * row + column) as f32)).collect();
        Tensor::from_slice(&values).view([1, 4, 4, 1])
    }

    fn positions(shuffled: &Tensor) -> Vec<Vec<f32>> {
        let (_, width, height, channels) = shuffled.size4().unwrap();
        let flat = Vec::<f32>::try_from(shuffled.contiguous().view(-1)).unwrap();
        assert_eq!(flat.len() as i64, width * height * channels);
        flat.chunks(channels as usize).map(<[f32]>::to_vec).collect()
    }

    #[test]
    fn v2_keeps_the_picture_upright() {
        let shuffled = pixel_shuffle(&grid(), 0.5, PsVersion::V2).unwrap();
        // Row by row; each position holds its square column pair by column pair of the first row, then the second.
        let expected = [[0., 1., 10., 11.], [2., 3., 12., 13.], [20., 21., 30., 31.], [22., 23., 32., 33.]];
        assert_eq!(positions(&shuffled), expected);
    }

    #[test]
    fn v1_leaves_it_transposed() {
        let shuffled = pixel_shuffle(&grid(), 0.5, PsVersion::V1).unwrap();
        let expected = [[0., 1., 10., 11.], [20., 21., 30., 31.], [2., 3., 12., 13.], [22., 23., 32., 33.]];
        assert_eq!(positions(&shuffled), expected);
    }
}
