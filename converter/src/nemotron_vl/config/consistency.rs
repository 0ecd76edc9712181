//! Whether the fields of a normalized configuration agree with the format and with each other.

use std::fmt::Debug;
use std::path::Path;

use super::limits::{MAX_SIZE, positive, within_float32};
use super::rope_scaling::RopeFault;
use super::{Config, FORMAT, FORMAT_VERSION, ImageTagType, RopeScaling};
use crate::Error;

/// More layers than any model has; a bound on the tensors that are listed before a file is looked at.
const MAX_LAYERS: usize = 65_536;

impl Config {
    /// Checks every field against the format and against the others; `path` is the file to name.
    ///
    /// # Errors
    /// [`Error::Field`] for the first field that contradicts.
    pub fn validate(&self, path: &Path) -> Result<(), Error> {
        let check = Check { path };
        check.equal("format", &self.format.as_str(), &FORMAT)?;
        check.equal("format_version", &self.format_version, &FORMAT_VERSION)?;
        self.validate_text(&check)?;
        self.validate_vision(&check)?;
        self.validate_joint(&check)?;
        self.validate_image_processor(&check)
    }

    fn validate_text(&self, check: &Check<'_>) -> Result<(), Error> {
        let text = &self.text_config;
        check.equal("text_config.model_type", &text.model_type.as_str(), &"llama")?;
        check.equal("text_config.hidden_act", &text.hidden_act.as_str(), &"silu")?;
        for (field, size) in [
            ("text_config.vocab_size", text.vocab_size),
            ("text_config.hidden_size", text.hidden_size),
            ("text_config.intermediate_size", text.intermediate_size),
            ("text_config.num_attention_heads", text.num_attention_heads),
            ("text_config.num_key_value_heads", text.num_key_value_heads),
            ("text_config.head_dim", text.head_dim),
            ("text_config.max_position_embeddings", text.max_position_embeddings),
            ("text_config.pretraining_tp", text.pretraining_tp),
        ] {
            check.size(field, size, MAX_SIZE)?;
        }
        check.size("text_config.num_hidden_layers", text.num_hidden_layers, MAX_LAYERS)?;
        check.divides(
            "text_config.num_attention_heads",
            text.num_attention_heads,
            text.num_key_value_heads,
        )?;
        check.size(
            "text_config.head_dim times num_attention_heads",
            text.head_dim.saturating_mul(text.num_attention_heads),
            MAX_SIZE,
        )?;
        check.divides("text_config.head_dim", text.head_dim, 2)?;
        check.epsilon("text_config.rms_norm_eps", text.rms_norm_eps)?;
        check.positive("text_config.rope_theta", text.rope_theta)?;
        if let Some(Err(RopeFault { field, expected, found })) =
            text.rope_scaling.as_ref().map(RopeScaling::check)
        {
            let field = format!("text_config.rope_scaling.{field}");
            return Err(Error::field(check.path, field, expected, found));
        }
        for &id in text.eos_token_id.iter().chain(&text.bos_token_id) {
            check.token("text_config.eos_token_id and bos_token_id", id, text.vocab_size)?;
        }
        Ok(())
    }

    fn validate_vision(&self, check: &Check<'_>) -> Result<(), Error> {
        let vision = &self.vision_config;
        check.equal("vision_config.model_type", &vision.model_type.as_str(), &"radio")?;
        check.equal("vision_config.hidden_act", &vision.hidden_act.as_str(), &"gelu")?;
        check.equal("vision_config.num_channels", &vision.num_channels, &3)?;
        for (field, size) in [
            ("vision_config.hidden_size", vision.hidden_size),
            ("vision_config.num_attention_heads", vision.num_attention_heads),
            // These two are squared.
            ("vision_config.image_size", vision.image_size.saturating_mul(vision.image_size)),
            ("vision_config.max_img_size", vision.max_img_size.saturating_mul(vision.max_img_size)),
            ("vision_config.patch_size", vision.patch_size.saturating_mul(vision.patch_size)),
        ] {
            check.size(field, size, MAX_SIZE)?;
        }
        check.size("vision_config.num_hidden_layers", vision.num_hidden_layers, MAX_LAYERS)?;
        check.divides("vision_config.hidden_size", vision.hidden_size, vision.num_attention_heads)?;
        check.divides("vision_config.image_size", vision.image_size, vision.patch_size)?;
        check.divides("vision_config.max_img_size", vision.max_img_size, vision.patch_size)?;
        check.positive("vision_config.mlp_ratio", vision.mlp_ratio)?;
        let intermediate = vision.hidden_size as f64 * vision.mlp_ratio;
        if !(1.0..=MAX_SIZE as f64).contains(&intermediate) {
            return check.fail("vision_config.mlp_ratio", "a width of at least 1", vision.mlp_ratio);
        }
        check.epsilon("vision_config.layer_norm_eps", vision.layer_norm_eps)?;
        check.size("vision_config.num_cls_tokens", vision.num_cls_tokens, MAX_LAYERS)?;
        check.size(
            "vision_config.num_registers, plus 1",
            vision.num_registers.saturating_add(1),
            MAX_LAYERS,
        )?;
        for &index in &vision.summary_idxs {
            if index >= vision.num_cls_tokens {
                let expected = format!("indices below `num_cls_tokens`, {}", vision.num_cls_tokens);
                return check.fail("vision_config.summary_idxs", &expected, index);
            }
        }
        check.means("vision_config.norm_mean", &vision.norm_mean, vision.num_channels)?;
        check.deviations("vision_config.norm_std", &vision.norm_std, vision.num_channels)
    }

    fn validate_joint(&self, check: &Check<'_>) -> Result<(), Error> {
        let vision = &self.vision_config;
        check.size("projector_hidden_size", self.projector_hidden_size, MAX_SIZE)?;
        check.equal("vision_hidden_size", &self.vision_hidden_size, &vision.hidden_size)?;
        check.epsilon("projector_layer_norm_eps", self.projector_layer_norm_eps)?;

        let grid = vision.image_size / vision.patch_size;
        let factor = 1.0 / self.downsample_ratio;
        if !(1.0..=grid as f64).contains(&factor) || factor.fract() != 0.0 {
            let expected = format!("1 divided by a whole number up to {grid}");
            return check.fail("downsample_ratio", &expected, self.downsample_ratio);
        }
        let factor = self.shuffle_factor();
        if !grid.is_multiple_of(factor) {
            let expected = format!("a grid of a multiple of {factor} patches, by `downsample_ratio`");
            return check.fail("vision_config.image_size", &expected, format!("{grid} patches"));
        }
        check.size(
            "vision_hidden_size, folded",
            self.vision_hidden_size.saturating_mul(factor).saturating_mul(factor),
            MAX_SIZE,
        )?;
        check.equal("image_seq_length", &self.image_seq_length, &self.tokens_per_tile())?;

        let (start, end) = match self.image_tag_type {
            ImageTagType::Internvl => ("<img>", "</img>"),
            ImageTagType::Nvlm => ("<Image>", "</Image>"),
        };
        check.equal("image_start_token", &self.image_start_token.as_str(), &start)?;
        check.equal("image_end_token", &self.image_end_token.as_str(), &end)?;
        check.equal("image_token", &self.image_token.as_str(), &"<image>")?;
        check.token("image_token_id", self.image_token_id, self.text_config.vocab_size)
    }

    fn validate_image_processor(&self, check: &Check<'_>) -> Result<(), Error> {
        let processor = &self.image_processor;
        let channels = self.vision_config.num_channels;
        check.equal("image_processor.image_size", &processor.image_size, &self.vision_config.image_size)?;
        check.size("image_processor.max_num_tiles", processor.max_num_tiles, 4096)?;
        check.size("image_processor.upscale_factor", processor.upscale_factor, 64)?;
        check.positive("image_processor.rescale_factor", processor.rescale_factor)?;
        check.means("image_processor.image_mean", &processor.image_mean, channels)?;
        check.deviations("image_processor.image_std", &processor.image_std, channels)
    }
}

struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn fail(&self, field: &str, expected: &str, found: impl Debug) -> Result<(), Error> {
        Err(Error::field(self.path, field, expected, format!("`{found:?}`")))
    }

    fn equal<T: PartialEq + Debug>(&self, field: &str, found: &T, expected: &T) -> Result<(), Error> {
        if found == expected { Ok(()) } else { self.fail(field, &format!("`{expected:?}`"), found) }
    }

    fn size(&self, field: &str, found: usize, limit: usize) -> Result<(), Error> {
        if (1..=limit).contains(&found) {
            return Ok(());
        }
        self.fail(field, &format!("a whole number from 1 to {limit}"), found)
    }

    fn divides(&self, field: &str, found: usize, divisor: usize) -> Result<(), Error> {
        if found.is_multiple_of(divisor) {
            return Ok(());
        }
        self.fail(field, &format!("a multiple of {divisor}"), found)
    }

    fn positive(&self, field: &str, found: f64) -> Result<(), Error> {
        positive(found).or_else(|expected| self.fail(field, expected, found))
    }

    /// What is added to a variance so that nothing is divided by 0; from 1 on it would be the larger of the two.
    fn epsilon(&self, field: &str, found: f64) -> Result<(), Error> {
        if found >= 1.0 {
            return self.fail(field, "a number above 0 and below 1", found);
        }
        self.positive(field, found)
    }

    fn means(&self, field: &str, found: &[f64], channels: usize) -> Result<(), Error> {
        self.channels(field, found, channels)?;
        match found.iter().find(|&&mean| mean != 0.0 && !within_float32(mean)) {
            Some(mean) => self.fail(field, "numbers that float32 holds", mean),
            None => Ok(()),
        }
    }

    fn deviations(&self, field: &str, found: &[f64], channels: usize) -> Result<(), Error> {
        self.channels(field, found, channels)?;
        found.iter().try_for_each(|&deviation| self.positive(field, deviation))
    }

    fn channels(&self, field: &str, found: &[f64], channels: usize) -> Result<(), Error> {
        if found.len() == channels { Ok(()) } else { self.fail(field, &format!("{channels} numbers"), found) }
    }

    fn token(&self, field: &str, found: u32, vocab_size: usize) -> Result<(), Error> {
        if (found as usize) < vocab_size {
            return Ok(());
        }
        self.fail(field, &format!("ids below `vocab_size`, {vocab_size}"), found)
    }
}
