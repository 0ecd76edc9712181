//! Cuts tiles into patches, embeds them, adds positions, and puts class and register tokens in front.

use converter::normalized::VisionConfig;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::model::layers::Linear;
use crate::model::observer::{Observer, Site};
use crate::weights::Weights;

/// The patch generator with its cropped position embedding (CPE), as it runs in inference.
///
/// # Source
/// NVlabs/RADIO, `radio/vit_patch_generator.py`, class `ViTPatchGenerator`, and `radio/cls_token.py`, class `ClsToken`
/// (commit 8dfc443).
pub struct PatchGenerator {
    site: String,
    patch_size: i64,
    embedder: Linear,
    /// [1, side², w]
    pos_embed: Tensor,
    pos_embed_side: i64,
    align_corners: bool,
    /// [class tokens + registers, w]
    cls_token: Tensor,
}

impl PatchGenerator {
    /// Loads from `vision_model.embeddings`.
    pub fn load(config: &VisionConfig, weights: &Weights, site: String) -> Result<Self> {
        let embedder = Linear::load(&weights.pp("patch_projection"), false, format!("{site}.embedder"))?;
        Ok(Self {
            embedder: embedder.with_module("ViTPatchLinear"),
            patch_size: config.patch_size as i64,
            pos_embed: weights.get("position_embedding")?,
            pos_embed_side: config.max_img_size.div_ceil(config.patch_size) as i64,
            align_corners: config.position_interpolation_align_corners,
            cls_token: weights.get("cls_register_token")?,
            site,
        })
    }

    /// # Shapes
    /// [t, c, rows · patch, columns · patch] → [t, n, w]
    pub fn forward(&self, pixels: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let size = pixels.size();
        let (rows, columns) = (size[2] / self.patch_size, size[3] / self.patch_size);
        let patches = self.im_to_patches(pixels, rows, columns, observer)?;
        let patches = self.embedder.forward(&patches, observer)?;
        let patches = patches.f_add(&self.pos_embeddings(rows, columns)?)?;

        let tokens = self.cls_token.f_unsqueeze(0)?.f_expand([size[0], -1, -1], false)?;
        let output = Tensor::f_cat(&[&tokens, &patches], 1)?; // [t, n, w]
        let output = observer.output(Site::new(&format!("{}.cls_token", self.site), "ClsToken"), output)?;
        observer.output(Site::new(&self.site, "ViTPatchGenerator"), output)
    }

    /// # Shapes
    /// [t, c, rows · patch, columns · patch] → [t, p, c · patch²], each patch channel by channel, row by row
    fn im_to_patches(
        &self,
        pixels: &Tensor,
        rows: i64,
        columns: i64,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let (tiles, channels, patch) = (pixels.size()[0], pixels.size()[1], self.patch_size);
        let patches = pixels
            .f_reshape([tiles, channels, rows, patch, columns, patch])?
            .f_permute([0, 2, 4, 1, 3, 5])? // [t, rows, columns, c, patch, patch]
            .f_reshape([tiles, rows * columns, channels * patch * patch])?;
        observer.output(Site::new(&format!("{}.im_to_patches", self.site), "Im2Patches"), patches)
    }

    /// The position table for a grid: as it is where the grid is the table's own; else resized bilinearly to the square
    /// of the longer side, and cut at the top left.
    ///
    /// # Shapes
    /// → [1, rows · columns, w]
    fn pos_embeddings(&self, rows: i64, columns: i64) -> Result<Tensor> {
        let side = self.pos_embed_side;
        if (rows, columns) == (side, side) {
            return Ok(self.pos_embed.shallow_clone());
        }
        let longer = rows.max(columns);
        let table = self.pos_embed.f_reshape([1, side, side, -1])?.f_permute([0, 3, 1, 2])?; // [1, w, side, side]
        let resized = table
            .f_to_kind(Kind::Float)?
            .f_upsample_bilinear2d([longer, longer], self.align_corners, None, None)?
            .f_to_kind(self.pos_embed.kind())?;
        let cut = resized.f_narrow(2, 0, rows)?.f_narrow(3, 0, columns)?;
        Ok(cut.f_flatten(2, 3)?.f_permute([0, 2, 1])?)
    }
}
