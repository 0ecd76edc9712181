//! The picture that the model saw, small enough for a report.

use golden::{Dump, TensorView};
use measure::model::{SiteRole, model_of};

/// The longest side of a tile in a report, in pixels.
const SIDE: usize = 128;

/// The tiles of all pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiles {
    /// How many.
    pub count: usize,
    /// The height of each in pixels.
    pub height: usize,
    /// The width of each in pixels.
    pub width: usize,
    /// Red, green and blue of each pixel, tile by tile and row by row.
    pub rgb: Vec<u8>,
}

/// The tiles in a dump's `pixel_values`; `None` if it has none.
///
/// # Shapes
///
/// `pixel_values` is [tiles, 3, height, width].
pub(crate) fn tiles(dump: &Dump) -> Option<Tiles> {
    of_tensor(&dump.get(&model_of(dump.entries()).entry(dump, SiteRole::Pixels)?.key())?)
}

fn of_tensor(pixels: &TensorView<'_>) -> Option<Tiles> {
    let &[count, 3, full_height, full_width] = pixels.shape() else { return None };
    if count == 0 || full_height == 0 || full_width == 0 || !pixels.dtype().is_float() {
        return None;
    }
    let step = full_height.max(full_width).div_ceil(SIDE);
    let (height, width) = (full_height.div_ceil(step), full_width.div_ceil(step));
    let mut means = Vec::with_capacity(count * height * width * 3);
    let plane = full_height * full_width;
    let tile_bytes = 3 * plane * pixels.dtype().size_bytes();
    for tile in pixels.data().chunks_exact(tile_bytes) {
        // Tile by tile, so that only one is held in float64.
        let values = TensorView::new(pixels.dtype(), &[3, full_height, full_width], tile).ok()?.to_f64_vec();
        for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
            let rows = row * step..((row + 1) * step).min(full_height);
            let columns = column * step..((column + 1) * step).min(full_width);
            for channel in 0..3 {
                let cells = rows.clone().flat_map(|row| columns.clone().map(move |column| (row, column)));
                let sum: f64 =
                    cells.map(|(row, column)| values[channel * plane + row * full_width + column]).sum();
                means.push(sum / (rows.len() * columns.len()) as f64);
            }
        }
    }
    // Pixels are from 0 to 1, unless the checkpoint has them normalised before the tower.
    let finite = || means.iter().copied().filter(|value| value.is_finite());
    let (least, most) = (finite().fold(0.0, f64::min), finite().fold(1.0, f64::max));
    let rgb = means.iter().map(|value| (255.0 * (value - least) / (most - least)).round() as u8).collect();
    Some(Tiles { count, height, width, rgb })
}

#[cfg(test)]
mod tests {
    use golden::Dtype;

    use super::*;

    #[test]
    fn a_tile_keeps_its_colours_where_they_were() {
        // Two tiles of 2 × 256, the second green on its right half.
        let mut values = vec![0.0_f32; 2 * 3 * 2 * 256];
        for row in 0..2 {
            values[(3 + 1) * 512 + row * 256 + 128..][..128].fill(1.0);
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let pixels = TensorView::new(Dtype::Float32, &[2, 3, 2, 256], &bytes).unwrap();
        let tiles = of_tensor(&pixels).unwrap();
        assert_eq!((tiles.count, tiles.height, tiles.width), (2, 1, 128));
        let pixel = |tile: usize, column: usize| &tiles.rgb[(tile * 128 + column) * 3..][..3];
        assert_eq!(pixel(0, 100), [0, 0, 0]);
        assert_eq!(pixel(1, 63), [0, 0, 0]);
        assert_eq!(pixel(1, 64), [0, 255, 0]);
        assert!(of_tensor(&TensorView::new(Dtype::Float32, &[2, 3, 512], &bytes).unwrap()).is_none());
    }
}
