//! Planes to tiles, on libtorch, and tiles to `pixel_values`.

use converter::normalized::ImageProcessorConfig;
use tch::{Kind, Tensor};

use super::PictureError;
use super::grid::Grid;
use super::upscale::Planes;

/// The tiles of an enlarged picture, row by row, then its thumbnail where there is more than one.
///
/// # Shapes
/// `[tiles, 3, image_size, image_size]`
///
/// # Dtype
/// uint8, by libtorch's integer kernel, whose results do not depend on the processor. torchvision 0.26 calls it on x86
/// with AVX2 or AVX-512, where the goldens come from; elsewhere it goes through float32, and then about a fifth of the
/// values of a resized picture differ by one.
///
/// # Source
/// `image_processing.py`, `LlamaNemotronNanoVLImageProcessor.dynamic_preprocess`
pub fn cut(planes: &Planes, grid: Grid, config: &ImageProcessorConfig) -> Result<Tensor, PictureError> {
    let side = config.image_size as i64;
    let (columns, rows) = (grid.columns as i64, grid.rows as i64);
    let image =
        Tensor::f_from_slice(&planes.data)?.f_view([1, 3, planes.height as i64, planes.width as i64])?;
    let resized = resize(&image, rows * side, columns * side)?;
    let tiles = resized
        .f_view([3, rows, side, columns, side])? // [3, rows, side, columns, side]
        .f_permute([1, 3, 0, 2, 4])? // [rows, columns, 3, side, side]
        .f_reshape([rows * columns, 3, side, side])?;
    if config.use_thumbnail && grid.num_tiles() != 1 {
        Ok(Tensor::f_cat(&[tiles, resize(&image, side, side)?], 0)?)
    } else {
        Ok(tiles)
    }
}

/// A bilinear antialiased resize.
///
/// # Shapes
/// `[1, 3, h, w]` to `[1, 3, height, width]`
fn resize(image: &Tensor, height: i64, width: i64) -> Result<Tensor, PictureError> {
    if image.size()[2..] == [height, width] {
        return Ok(image.shallow_clone());
    }
    Ok(image.f_internal_upsample_bilinear2d_aa([height, width], false, None, None)?)
}

/// Tiles of bytes to the tower's input: rescaled, and normalised where the configuration says so.
///
/// # Shapes
/// `[tiles, 3, image_size, image_size]` to the same
///
/// # Dtype
/// uint8 to float32
///
/// # Source
/// transformers, `image_processing_utils_fast.py`, `BaseImageProcessorFast.rescale_and_normalize`: with both, the
/// factor goes into the mean and the standard deviation
pub fn to_pixel_values(tiles: &Tensor, config: &ImageProcessorConfig) -> Result<Tensor, PictureError> {
    if config.do_normalize {
        let statistics = |values: &[f64]| -> Result<Tensor, PictureError> {
            let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            let values = Tensor::f_from_slice(&values)?;
            let values =
                if config.do_rescale { values.f_mul_scalar(1.0 / config.rescale_factor)? } else { values };
            Ok(values.f_view([-1, 1, 1])?)
        };
        let centred = tiles.f_to_kind(Kind::Float)?.f_sub(&statistics(&config.image_mean)?)?;
        Ok(centred.f_div(&statistics(&config.image_std)?)?)
    } else if config.do_rescale {
        Ok(tiles.f_mul_scalar(config.rescale_factor)?)
    } else {
        Ok(tiles.f_to_kind(Kind::Float)?)
    }
}
