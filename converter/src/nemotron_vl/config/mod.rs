//! `config.json` of a normalized checkpoint, version 1: the whole model.

mod consistency;
mod limits;
mod rope_scaling;
mod text;
mod vision;

use serde::{Deserialize, Serialize};

pub use rope_scaling::RopeScaling;
pub use text::TextConfig;
pub use vision::VisionConfig;

pub(crate) use limits::positive;

use crate::normalized::TorchDtype;

/// The value of `format` in every normalized `config.json`.
pub const FORMAT: &str = "nemotron-vl";
/// The version of the format that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The configuration of a normalized checkpoint. Nothing is optional that the computation depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`FORMAT_VERSION`].
    pub format_version: u32,
    /// As in the source: `["Llama_Nemotron_Nano_VL"]`.
    pub architectures: Vec<String>,
    /// As in the source: `Llama_Nemotron_Nano_VL`.
    pub model_type: String,
    /// The language model.
    pub text_config: TextConfig,
    /// The C-RADIO tower.
    pub vision_config: VisionConfig,
    /// Side of the tile's feature grid after the pixel shuffle, divided by its side before: 0.5 in every release.
    pub downsample_ratio: f64,
    /// Order of the pixel shuffle.
    pub ps_version: PsVersion,
    /// Width of the projector between its two linear layers.
    pub projector_hidden_size: usize,
    /// Width of the tower's features (the source's `vit_hidden_size`).
    pub vision_hidden_size: usize,
    /// Epsilon of the projector's LayerNorm.
    pub projector_layer_norm_eps: f64,
    /// Language-model tokens a tile.
    pub image_seq_length: usize,
    /// Text around a picture's image tokens.
    pub image_tag_type: ImageTagType,
    /// Text of the token that features replace: `<image>`.
    pub image_token: String,
    /// Its id in the tokenizer's vocabulary.
    pub image_token_id: u32,
    /// Text in front of a picture: `<img>` (`internvl`) or `<Image>` (`nvlm`).
    pub image_start_token: String,
    /// Text behind a picture: `</img>` (`internvl`) or `</Image>` (`nvlm`).
    pub image_end_token: String,
    /// The dtype the model was released in.
    pub torch_dtype: TorchDtype,
    /// How a picture becomes tiles.
    pub image_processor: ImageProcessorConfig,
}

impl Config {
    /// How many patches of each side the pixel shuffle folds into one token: `1 / downsample_ratio`, 2 in every release.
    pub fn shuffle_factor(&self) -> usize {
        (1.0 / self.downsample_ratio).round() as usize
    }

    /// Language-model tokens of one tile, by the tile's side, the patch's and `downsample_ratio`.
    pub fn tokens_per_tile(&self) -> usize {
        let grid = self.vision_config.image_size / self.vision_config.patch_size;
        (grid / self.shuffle_factor().max(1)).saturating_pow(2)
    }

    /// Width of the projector's input: the tower's features, folded.
    pub fn projector_input_size(&self) -> usize {
        self.vision_hidden_size * self.shuffle_factor() * self.shuffle_factor()
    }
}

/// Order of the pixel shuffle (`modeling.py`, `Llama_Nemotron_Nano_VL.pixel_shuffle`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PsVersion {
    /// Rows and columns stay swapped: the picture comes out transposed. The class's default.
    V1,
    /// Rows and columns are swapped back. What the 8B says.
    V2,
}

/// Text around a picture's image tokens (`modeling.py`, `Llama_Nemotron_Nano_VL._format_image_token`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageTagType {
    /// `<img>`, the image tokens of all tiles, `</img>`.
    Internvl,
    /// `<Image>`, a position tag in front of each tile's image tokens, `</Image>`.
    Nvlm,
}

/// How a picture becomes tiles (`image_processing.py`, `LlamaNemotronNanoVLImageProcessor`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageProcessorConfig {
    /// Side of a tile in pixels.
    pub image_size: usize,
    /// The most tiles a picture is cut into, its thumbnail not counted.
    pub max_num_tiles: usize,
    /// Whether a picture of several tiles is followed by itself, resized to one tile.
    pub use_thumbnail: bool,
    /// The picture is enlarged by this factor in both directions before anything else.
    pub upscale_factor: usize,
    /// Whether values are multiplied by `rescale_factor`.
    pub do_rescale: bool,
    /// 1/255: brings a byte to 0..=1.
    pub rescale_factor: f64,
    /// Whether `image_mean` and `image_std` are applied here, and not by the tower's own conditioner only.
    pub do_normalize: bool,
    /// Mean of each channel, where `do_normalize`.
    pub image_mean: Vec<f64>,
    /// Standard deviation of each channel, where `do_normalize`.
    pub image_std: Vec<f64>,
}
