//! What a picture takes of memory on its way to tiles, known from its sides alone.

use converter::normalized::ImageProcessorConfig;

use super::DecodeError;
use super::decode::MAX_PIXELS;
use super::grid::{self, Grid};
use crate::memory;

/// The most that resizing may take beside the picture and its tiles: a picture of the most pixels takes a quarter of it, if it
/// is no thinner than 1 : 100.
pub const MAX_RESIZING_BYTES: u64 = 2 << 30;

/// Refuses a picture of which no tiles could be made: too many pixels once it is enlarged, too thin to be resized, or more
/// than there is memory for.
///
/// # Errors
/// [`DecodeError::TooManyPixels`], [`DecodeError::TooThin`], [`DecodeError::NoMemory`]
pub fn check(
    width: usize,
    height: usize,
    candidates: &[Grid],
    config: &ImageProcessorConfig,
) -> Result<(), DecodeError> {
    let factor = config.upscale_factor;
    let (sides, enlargement) = ((width as u64, height as u64), (factor * factor) as u64);
    // No more than the largest picture has when doubled.
    let limit = MAX_PIXELS.min(4 * MAX_PIXELS / enlargement);
    if sides.0 * sides.1 > limit {
        return Err(DecodeError::TooManyPixels { width: sides.0, height: sides.1, limit });
    }
    let enlarged = (width * factor, height * factor);
    let grid = grid::choose(candidates, enlarged.0, enlarged.1, config.image_size);
    let tile = (config.image_size, config.image_size);
    let whole = (grid.columns * config.image_size, grid.rows * config.image_size);
    let resizing = resizing_bytes(enlarged, whole).max(resizing_bytes(enlarged, tile));
    if resizing > MAX_RESIZING_BYTES {
        return Err(DecodeError::TooThin { width, height, needed: resizing, limit: MAX_RESIZING_BYTES });
    }
    // As decoded, at least a byte each, and enlarged.
    let needed = resizing + sides.0 * sides.1 * (1 + 3 * enlargement);
    match memory::too_few_bytes(needed) {
        Some(available) => Err(DecodeError::NoMemory { width, height, needed, available }),
        None => Ok(()),
    }
}

/// Bytes that libtorch's antialiased kernel takes for itself: the weights of both directions, and the picture between the
/// two passes, the first of which is along the rows.
///
/// # Source
/// PyTorch 2.11, `ATen/native/cpu/UpSampleKernelAVXAntialias.h`
fn resizing_bytes(from: (usize, usize), to: (usize, usize)) -> u64 {
    let weights = |from: usize, to: usize| {
        if from == to {
            return 0;
        }
        // The triangle reaches so many source pixels to either side.
        let reach = (from.div_ceil(to)) as u64;
        to as u64 * (2 * reach + 1) * size_of::<f64>() as u64
    };
    let between = if from.0 == to.0 { 0 } else { 3 * from.1 as u64 * to.0 as u64 };
    weights(from.0, to.0) + weights(from.1, to.1) + between
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(image_size: usize, upscale_factor: usize) -> ImageProcessorConfig {
        ImageProcessorConfig {
            image_size,
            max_num_tiles: 12,
            use_thumbnail: true,
            upscale_factor,
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: false,
            image_mean: Vec::new(),
            image_std: Vec::new(),
        }
    }

    fn checked(width: usize, height: usize, upscale_factor: usize) -> Result<(), DecodeError> {
        check(width, height, &grid::candidates(12).unwrap(), &config(512, upscale_factor))
    }

    #[test]
    fn a_picture_may_be_smaller_where_it_is_enlarged_more() {
        let side = MAX_PIXELS.isqrt() as usize;
        assert!(checked(side, side, 1).is_ok());
        assert!(checked(side, side, 2).is_ok());
        let error = checked(side, side, 4).unwrap_err();
        assert!(matches!(error, DecodeError::TooManyPixels { limit: 44_739_242, .. }), "{error}");
        assert!(checked(side / 2, side / 2, 4).is_ok());
    }

    #[test]
    fn a_thin_picture_is_refused_where_resizing_would_take_more_than_the_picture() {
        for (width, height) in [(1, 16_000_000), (MAX_PIXELS as usize, 1), (1, MAX_PIXELS as usize)] {
            let error = checked(width, height, 2).unwrap_err();
            assert!(matches!(error, DecodeError::TooThin { .. }), "{width} × {height}: {error}");
        }
        // A scroll, a panorama, and a row of as many pixels as a picture has.
        for (width, height) in [(800, 200_000), (200_000, 800), (16_000_000, 1), (1, 300_000)] {
            assert!(checked(width, height, 2).is_ok(), "{width} × {height}");
        }
    }
}
