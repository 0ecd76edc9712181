//! The model, module by module as `modeling.py` has it.
//!
//! An [`Observer`] sees what every module computes, and can replace it.

mod layers;
pub mod llama;
pub mod observer;
mod one_row;
mod projector;
mod vision;

use std::path::Path;
use std::sync::Arc;

use converter::normalized::{Checkpoint, Config, RopeScaling, TorchDtype};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::kind::kind_of;
use crate::math::{AttnImplementation, Math, SharedMath};
use crate::memory::Demand;
use crate::model::observer::{Observer, Operation, Site, Unobserved};
use crate::scalar::ScalarOps as _;
use crate::weights::{Loading, PartDtypes, Weights};
pub(crate) use layers::lowest;
pub(crate) use llama::SITE as LANGUAGE_MODEL;
pub(crate) use llama::{ATTN_WEIGHTS, PAST_KEY_VALUES};
use llama::{KvCache, LlamaForCausalLm};
use projector::MultiModalProjector;
pub(crate) use projector::SITE as PROJECTOR;
pub(crate) use vision::SITE as VISION_MODEL;
use vision::VisionModel;

/// The site whose output tells in which dtype `pixel_values` reached the tower.
pub(crate) use vision::CONDITIONER;

/// The whole model: tower, projector, decoder.
///
/// # Source
/// `modeling.py`, class `Llama_Nemotron_Nano_VL`.
pub struct NemotronVl {
    vision_model: VisionModel,
    multi_modal_projector: MultiModalProjector,
    language_model: LlamaForCausalLm,
    config: Config,
    dtypes: PartDtypes,
    pixel_values_dtype: TorchDtype,
    device: Device,
    math: SharedMath,
    // Last: the weights above may point into its mapped files.
    _checkpoint: Arc<Checkpoint>,
}

/// The dtypes that a model runs in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dtypes {
    /// The model's; the checkpoint's own where none.
    pub model: Option<TorchDtype>,
    /// The tower's. Where none, float32 in a float32 model, else that of the tower's own configuration.
    pub vision: Option<TorchDtype>,
}

impl Dtypes {
    fn of_parts(self, config: &Config) -> PartDtypes {
        let model = self.model.unwrap_or(config.torch_dtype);
        let natural = if model == TorchDtype::Float32 { model } else { config.vision_config.dtype };
        PartDtypes { model, vision: self.vision.unwrap_or(natural), projector: model }
    }
}

impl From<Option<TorchDtype>> for Dtypes {
    fn from(model: Option<TorchDtype>) -> Self {
        Self { model, vision: None }
    }
}

impl NemotronVl {
    /// Loads a normalized checkpoint, to run on `device`.
    ///
    /// # Dtype
    /// The tower's features are cast to the model's dtype, as the public code casts them.
    ///
    /// # Errors
    /// Where the checkpoint is not a whole, valid one.
    pub fn load(dir: &Path, dtypes: impl Into<Dtypes>, device: Device, math: Math) -> Result<Self> {
        Self::of(Checkpoint::open(dir)?, dtypes, device, math, Vec::new())
    }

    /// Loads a checkpoint that is open, with changes.
    ///
    /// # Errors
    /// As [`NemotronVl::load`].
    pub fn of(
        checkpoint: Checkpoint,
        dtypes: impl Into<Dtypes>,
        device: Device,
        math: Math,
        changes: Vec<&'static dyn Loading>,
    ) -> Result<Self> {
        let checkpoint = Arc::new(checkpoint);
        let mut config = checkpoint.config().clone();
        let mut dtypes = dtypes.into().of_parts(&config);
        for change in &changes {
            change.config(&mut config);
            change.dtypes(&mut dtypes);
        }
        let root =
            Weights::new(Arc::clone(&checkpoint), kind_of(dtypes.model), device, math).changed(changes);
        let tower = root.pp("vision_model").with_kind(kind_of(dtypes.vision));
        let projector = root.pp("multi_modal_projector").with_kind(kind_of(dtypes.projector));
        Ok(Self {
            vision_model: VisionModel::load(&config.vision_config, &tower)?,
            multi_modal_projector: MultiModalProjector::load(&config, &projector)?,
            language_model: LlamaForCausalLm::load(&config.text_config, &root.pp("language_model"))?,
            config,
            dtypes,
            pixel_values_dtype: TorchDtype::Float32,
            device,
            math: root.math(),
            _checkpoint: checkpoint,
        })
    }

    /// The configuration of the checkpoint.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The longest sequence in tokens, prompt and answer together: `max_position_embeddings`, times the factor of a
    /// dynamic scaling, which begins only there.
    pub fn context_limit(&self) -> usize {
        let text = &self.config().text_config;
        match text.rope_scaling {
            Some(RopeScaling::Dynamic { factor, .. }) => {
                (text.max_position_embeddings as f64 * factor) as usize
            }
            _ => text.max_position_embeddings,
        }
    }

    /// The dtype that the model runs in.
    pub fn dtype(&self) -> TorchDtype {
        self.dtypes.model
    }

    /// The dtype that the tower runs in.
    pub fn vision_dtype(&self) -> TorchDtype {
        self.dtypes.vision
    }

    /// The dtype in which `pixel_values` reach the tower.
    pub fn pixel_values_dtype(&self) -> TorchDtype {
        self.pixel_values_dtype
    }

    /// Lets `pixel_values` reach the tower in another dtype than float32, in which the checkpoint's processor gives them and
    /// the public code leaves them. Some callers and engines round them to the model's dtype first.
    pub fn set_pixel_values_dtype(&mut self, dtype: TorchDtype) {
        self.pixel_values_dtype = dtype;
    }

    /// How the model computes.
    pub fn math(&self) -> Math {
        self.math.get()
    }

    /// Lets the model compute in another way, and with the attention that belongs to it, on the weights that it has.
    pub fn set_math(&mut self, math: Math) {
        self.math.set(math);
        self.math.set_attention(math.attention());
    }

    /// The decoder's attention.
    pub fn attention(&self) -> AttnImplementation {
        self.math.attention()
    }

    /// Lets the decoder compute with another attention.
    pub fn set_attention(&mut self, attention: AttnImplementation) {
        self.math.set_attention(attention);
    }

    /// The device that the model runs on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What tiles and tokens ask of it.
    pub fn demand(&self, tiles: usize, tokens: usize) -> Demand {
        let elem_bytes = kind_of(self.dtypes.model).elt_size_in_bytes();
        let vision_elem_bytes = kind_of(self.dtypes.vision).elt_size_in_bytes();
        Demand { tiles, tokens, elem_bytes, vision_elem_bytes, attention: self.attention() }
    }

    /// An empty key-value cache for one sequence of at most `capacity` tokens.
    pub fn cache(&self, capacity: usize) -> Result<KvCache> {
        self.language_model.cache(1, capacity)
    }

    /// Runs prompt and pictures, and fills the cache.
    ///
    /// # Shapes
    /// `pixel_values` [t, c, side, side] float32, `input_ids` [1, s] int64 → logits of the last position, [1, 1, v]
    ///
    /// # Errors
    /// [`Error::PixelShape`], [`Error::TokenId`] and [`Error::ImageTokens`] for inputs that the model does not take.
    pub fn prefill(
        &self,
        pixel_values: Option<&Tensor>,
        input_ids: &Tensor,
        cache: &mut KvCache,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        // Before the tower runs, which takes long.
        self.check_token_ids(input_ids)?;
        let features = pixel_values.map(|pixels| self.image_features(pixels, observer)).transpose()?;
        self.prefill_checked(features.as_ref(), input_ids, cache, observer)
    }

    /// Features of a picture's tiles, in the width of the language model.
    ///
    /// # Shapes
    /// [t, c, side, side] float32 → [t, language-model tokens a tile, text width]
    ///
    /// # Errors
    /// [`Error::PixelShape`]
    pub fn image_features(&self, pixel_values: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let pixel_values = self.pixels_in(self.pixel_values_dtype, pixel_values)?;
        self.extract_feature(&pixel_values, observer)
    }

    /// What the tower's conditioner makes of pixels that reach it in a dtype.
    ///
    /// # Errors
    /// [`Error::PixelShape`]
    pub(crate) fn condition(&self, pixel_values: &Tensor, dtype: TorchDtype) -> Result<Tensor> {
        self.vision_model.condition(&self.pixels_in(dtype, pixel_values)?, &mut Unobserved)
    }

    /// Pixels as they reach the tower, whose conditioner computes in the float32 of its buffers and rounds at its end.
    fn pixels_in(&self, dtype: TorchDtype, pixel_values: &Tensor) -> Result<Tensor> {
        self.check_pixels(pixel_values)?;
        Ok(pixel_values.f_to_device(self.device)?.f_to_kind(kind_of(dtype))?)
    }

    /// Runs a prompt whose pictures' features are there already, and fills the cache.
    ///
    /// # Errors
    /// [`Error::TokenId`] and [`Error::ImageTokens`]
    pub fn prefill_features(
        &self,
        image_features: Option<&Tensor>,
        input_ids: &Tensor,
        cache: &mut KvCache,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        self.check_token_ids(input_ids)?;
        self.prefill_checked(image_features, input_ids, cache, observer)
    }

    /// The same of ids that the embedding has rows for.
    fn prefill_checked(
        &self,
        image_features: Option<&Tensor>,
        input_ids: &Tensor,
        cache: &mut KvCache,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let input_ids = input_ids.f_to_device(self.device)?;
        let text_embeds = self.language_model.embed(&input_ids, observer)?;
        let inputs_embeds = self.merge(&text_embeds, &input_ids, image_features, observer)?;
        self.language_model.forward(&inputs_embeds, cache, observer)
    }

    /// Bytes of weights that a decoded token reads: all of the decoder's but the embedding's, of which it reads a row.
    pub fn weight_bytes_per_token(&self) -> u64 {
        self.language_model.weight_bytes_per_token()
    }

    /// Runs one more token.
    ///
    /// # Shapes
    /// → logits, [1, 1, v]
    pub fn decode(&self, token_id: i64, cache: &mut KvCache, observer: &mut dyn Observer) -> Result<Tensor> {
        let input_ids = Tensor::f_from_slice(&[token_id])?.f_view([1, 1])?.f_to_device(self.device)?;
        let inputs_embeds = self.language_model.embed(&input_ids, observer)?;
        self.language_model.forward(&inputs_embeds, cache, observer)
    }

    /// # Shapes
    /// [t, c, side, side] → [t, language-model tokens a tile, text width]
    fn extract_feature(&self, pixel_values: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let features = self.vision_model.forward(pixel_values, observer)?;
        let features = features.f_to_kind(kind_of(self.dtypes.projector))?;
        let image_features = self.multi_modal_projector.forward(&features, observer)?;
        Ok(image_features.f_to_kind(kind_of(self.dtypes.model))?)
    }

    /// Replaces the rows whose id is the image token by the pictures' features, in order.
    ///
    /// # Shapes
    /// [1, s, w], [1, s], [t, language-model tokens a tile, w] → [1, s, w]
    fn merge(
        &self,
        text_embeds: &Tensor,
        input_ids: &Tensor,
        image_features: Option<&Tensor>,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let is_image = input_ids.try_eq(i64::from(self.config().image_token_id))?; // [1, s]
        let actual = is_image.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        let expected = image_features.map_or(0, |features| features.size()[..2].iter().product());
        if expected != actual {
            return Err(Error::ImageTokens { expected, actual });
        }
        let site = Site::new("inputs_embeds", "merged text and image embeddings");
        let Some(image_features) = image_features.filter(|_| actual > 0) else {
            return observer.output(site, text_embeds.shallow_clone());
        };
        observer.module(site, Operation::Merge { text_embeds, is_image: &is_image, image_features }, || {
            let rows = image_features.f_flatten(0, 1)?;
            Ok(text_embeds.f_index_put(&[Some(&is_image)], &rows, false)?)
        })
    }

    fn check_pixels(&self, pixel_values: &Tensor) -> Result<()> {
        let vision = &self.config().vision_config;
        let found = pixel_values.size();
        let (channels, side) = (vision.num_channels, vision.image_size);
        if found.len() != 4
            || found[1] != channels as i64
            || found[2] != side as i64
            || found[3] != side as i64
        {
            return Err(Error::PixelShape { channels, side, found });
        }
        Ok(())
    }

    fn check_token_ids(&self, input_ids: &Tensor) -> Result<()> {
        let vocab_size = self.config().text_config.vocab_size;
        let ids = Vec::<i64>::try_from(input_ids.f_flatten(0, -1)?)?;
        match ids.into_iter().find(|&id| id < 0 || id >= vocab_size as i64) {
            Some(found) => Err(Error::TokenId { vocab_size, found }),
            None => Ok(()),
        }
    }
}
