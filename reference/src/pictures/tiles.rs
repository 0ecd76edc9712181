//! Pictures to tiles, on libtorch, and tiles to `pixel_values`.

use converter::normalized::ImageProcessorConfig;
use tch::{Device, Kind, Tensor};

use super::PictureError;
use super::grid::Grid;
use super::upscale::RgbImage;
use crate::scalar::ScalarOps as _;

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
pub fn cut(image: &RgbImage, grid: Grid, config: &ImageProcessorConfig) -> Result<Tensor, PictureError> {
    let side = config.image_size as i64;
    let (columns, rows) = (grid.columns as i64, grid.rows as i64);
    let image = borrow(image)?;
    let resized = resize(&image, rows * side, columns * side)?;
    let by_tile = resized
        .f_view([3, rows, side, columns, side])? // [3, rows, side, columns, side]
        .f_permute([1, 3, 0, 2, 4])?; // [rows, columns, 3, side, side]
    let with_thumbnail = config.use_thumbnail && grid.num_tiles() != 1;
    let count = rows * columns;
    let tiles =
        Tensor::f_empty([count + i64::from(with_thumbnail), 3, side, side], (Kind::Uint8, Device::Cpu))?;
    tiles.f_narrow(0, 0, count)?.f_view([rows, columns, 3, side, side])?.f_copy_(&by_tile)?;
    if with_thumbnail {
        tiles.f_narrow(0, count, 1)?.f_copy_(&resize(&image, side, side)?)?;
    }
    Ok(tiles)
}

/// The picture as libtorch sees it, without a copy: its channels are interleaved, as in torchvision's tensor of a Pillow
/// picture. libtorch's kernel reads that several times as fast as planes.
///
/// # Shapes
/// `[1, 3, height, width]`
fn borrow(image: &RgbImage) -> Result<Borrowed<'_>, PictureError> {
    let (width, height) = (image.width as i64, image.height as i64);
    debug_assert_eq!(image.data.len() as i64, 3 * width * height);
    // SAFETY: the sizes and strides address `3 * width * height` bytes, all of `data`, which `Borrowed` keeps borrowed.
    // Nothing writes through the tensor, and `cut` copies what it takes of it into memory of its own.
    let tensor = unsafe {
        Tensor::f_from_blob(
            image.data.as_ptr(),
            &[1, 3, height, width],
            &[3 * width * height, 1, 3 * width, 3],
            Kind::Uint8,
            Device::Cpu,
        )?
    };
    Ok(Borrowed { tensor, _image: image })
}

/// A tensor over a picture's own bytes, and the borrow that keeps them in place.
struct Borrowed<'a> {
    tensor: Tensor,
    _image: &'a RgbImage,
}

/// A bilinear antialiased resize; what has the size already stays as it is.
///
/// # Shapes
/// `[1, 3, h, w]` to `[1, 3, height, width]`
fn resize(image: &Borrowed<'_>, height: i64, width: i64) -> Result<Tensor, PictureError> {
    let Borrowed { tensor, .. } = image;
    if tensor.size()[2..] == [height, width] {
        return Ok(tensor.shallow_clone());
    }
    Ok(tensor.f_internal_upsample_bilinear2d_aa([height, width], false, None, None)?)
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
                if config.do_rescale { values.try_mul_scalar(1.0 / config.rescale_factor)? } else { values };
            Ok(values.f_view([-1, 1, 1])?)
        };
        let centred = tiles.f_to_kind(Kind::Float)?.f_sub(&statistics(&config.image_mean)?)?;
        Ok(centred.f_div(&statistics(&config.image_std)?)?)
    } else if config.do_rescale {
        // In place: what libtorch makes of bytes times a number needs the memory twice.
        Ok(tiles.f_to_kind(Kind::Float)?.try_mul_scalar_(config.rescale_factor)?)
    } else {
        Ok(tiles.f_to_kind(Kind::Float)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_a_picture_that_has_their_size_are_not_its_own_memory() {
        let side = 4;
        let config = ImageProcessorConfig {
            image_size: side,
            max_num_tiles: 1,
            use_thumbnail: true,
            upscale_factor: 1,
            do_rescale: false,
            rescale_factor: 1.0,
            do_normalize: false,
            image_mean: Vec::new(),
            image_std: Vec::new(),
        };
        let data: Vec<u8> = (0..3 * side * side).map(|index| index as u8).collect();
        let planes: Vec<u8> = (0..3).flat_map(|channel| data[channel..].iter().step_by(3).copied()).collect();
        let mut image = RgbImage { width: side, height: side, data };
        let tiles = cut(&image, Grid { columns: 1, rows: 1 }, &config).unwrap();
        image.data.fill(0);
        assert_eq!(tiles.size(), [1, 3, 4, 4]);
        assert_eq!(Vec::<u8>::try_from(tiles.flatten(0, -1)).unwrap(), planes);
    }
}
