//! Enlarges a picture in its own mode and turns it into planes of red, green and blue.
//!
//! Row by row: of the enlarged picture only the planes are ever held.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::raster::{Mode, Raster, Rgb};
use super::resample::BilinearFilter;

/// Rows of the enlarged picture that one task makes.
const ROWS_PER_TASK: usize = 64;

/// A picture as three planes of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planes {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// All of red, all of green, all of blue.
    pub data: Vec<u8>,
}

/// The picture enlarged by a whole `factor` in both directions, then converted to RGB.
///
/// # Source
/// `image_processing.py`, `LlamaNemotronNanoVLImageProcessor._process_image`; Pillow, `Image.resize` and
/// `Image.convert`
pub fn upscale_to_rgb(raster: &Raster, factor: usize) -> Planes {
    let (width, height) = (raster.width * factor, raster.height * factor);
    let mut data = vec![0; 3 * width * height];
    let (red, others) = data.split_at_mut(width * height);
    let (green, blue) = others.split_at_mut(width * height);
    let task_bytes = ROWS_PER_TASK * width;
    let row_maker = RowMaker::new(raster, factor);
    red.par_chunks_mut(task_bytes)
        .zip(green.par_chunks_mut(task_bytes))
        .zip(blue.par_chunks_mut(task_bytes))
        .enumerate()
        .for_each(|(task, ((red, green), blue))| {
            let rows = red
                .chunks_exact_mut(width)
                .zip(green.chunks_exact_mut(width))
                .zip(blue.chunks_exact_mut(width));
            let mut held = HeldRows::default();
            let mut enlarged = vec![0; width * raster.mode.bytes_per_pixel()];
            for (row, ((red, green), blue)) in rows.enumerate() {
                row_maker.make(task * ROWS_PER_TASK + row, &mut held, &mut enlarged);
                for (((pixel, red), green), blue) in enlarged
                    .chunks_exact(raster.mode.bytes_per_pixel())
                    .zip(red.iter_mut())
                    .zip(green.iter_mut())
                    .zip(blue.iter_mut())
                {
                    [*red, *green, *blue] = to_rgb(raster.mode, pixel, &raster.palette);
                }
            }
        });
    Planes { width, height, data }
}

/// Source rows already enlarged horizontally: the index of the first, and their bytes.
#[derive(Default)]
struct HeldRows {
    first: usize,
    rows: VecDeque<Vec<u8>>,
}

/// Makes any row of the enlarged picture, in the picture's own mode.
struct RowMaker<'a> {
    raster: &'a Raster,
    factor: usize,
    horizontal: BilinearFilter,
    vertical: BilinearFilter,
}

impl<'a> RowMaker<'a> {
    fn new(raster: &'a Raster, factor: usize) -> Self {
        Self {
            raster,
            factor,
            horizontal: BilinearFilter::enlarging(raster.width, raster.width * factor),
            vertical: BilinearFilter::enlarging(raster.height, raster.height * factor),
        }
    }

    fn make(&self, row: usize, held: &mut HeldRows, target: &mut [u8]) {
        let mode = self.raster.mode;
        // Pillow copies a picture that keeps its size, and repeats what cannot be interpolated.
        if self.factor == 1 {
            target.copy_from_slice(self.raster.row(row));
            return;
        }
        if matches!(mode, Mode::Bilevel | Mode::P) {
            for (pixels, &byte) in
                target.chunks_exact_mut(self.factor).zip(self.raster.row(row / self.factor))
            {
                pixels.fill(byte);
            }
            return;
        }
        let sources = self.vertical.sources(row);
        while held.first < sources.start && held.rows.pop_front().is_some() {
            held.first += 1;
        }
        if held.rows.is_empty() {
            held.first = sources.start;
        }
        while held.first + held.rows.len() < sources.end {
            let mut wide = vec![0; target.len()];
            self.enlarge_row(held.first + held.rows.len(), &mut wide);
            held.rows.push_back(wide);
        }
        if mode == Mode::I16 {
            let rows: Vec<Vec<u16>> = held.rows.iter().map(|row| to_u16(row)).collect();
            let rows: Vec<&[u16]> = rows.iter().map(Vec::as_slice).collect();
            let mut pixels = vec![0; target.len() / 2];
            self.vertical.across_rows_16(row, &rows, &mut pixels);
            from_u16(&pixels, target);
            return;
        }
        let rows: Vec<&[u8]> = held.rows.iter().map(Vec::as_slice).collect();
        self.vertical.across_rows(row, &rows, target);
        match mode {
            Mode::La => unpremultiply::<2>(target),
            Mode::Rgba => unpremultiply::<4>(target),
            _ => {}
        }
    }

    /// Row `row` of the source, enlarged horizontally; colours under transparency come out premultiplied.
    fn enlarge_row(&self, row: usize, target: &mut [u8]) {
        let source = self.raster.row(row);
        match self.raster.mode {
            Mode::Bilevel | Mode::P | Mode::L => self.horizontal.along_row::<1>(source, target),
            Mode::La => self.horizontal.along_row::<2>(&premultiplied::<2>(source), target),
            Mode::Rgb => self.horizontal.along_row::<3>(source, target),
            Mode::Rgba => self.horizontal.along_row::<4>(&premultiplied::<4>(source), target),
            Mode::Cmyk => self.horizontal.along_row::<4>(source, target),
            Mode::I16 => {
                let mut pixels = vec![0; target.len() / 2];
                self.horizontal.along_row_16(&to_u16(source), &mut pixels);
                from_u16(&pixels, target);
            }
        }
    }
}

/// `a · b / 255`, rounded, as Pillow's `MULDIV255` does it.
fn multiply_255(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// Each colour multiplied by the alpha that ends its pixel.
///
/// # Source
/// Pillow, `src/libImaging/Convert.c`, `rgbA2rgba`
fn premultiplied<const CHANNELS: usize>(source: &[u8]) -> Vec<u8> {
    let mut target = source.to_vec();
    for pixel in target.chunks_exact_mut(CHANNELS) {
        let alpha = pixel[CHANNELS - 1];
        for colour in &mut pixel[..CHANNELS - 1] {
            *colour = multiply_255(*colour, alpha);
        }
    }
    target
}

/// Each colour divided by the alpha that ends its pixel, truncated.
///
/// # Source
/// Pillow, `src/libImaging/Convert.c`, `rgba2rgbA`
fn unpremultiply<const CHANNELS: usize>(pixels: &mut [u8]) {
    for pixel in pixels.chunks_exact_mut(CHANNELS) {
        let alpha = u32::from(pixel[CHANNELS - 1]);
        if alpha != 0 && alpha != 255 {
            for colour in &mut pixel[..CHANNELS - 1] {
                *colour = (255 * u32::from(*colour) / alpha).min(255) as u8;
            }
        }
    }
}

fn to_u16(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]])).collect()
}

fn from_u16(pixels: &[u16], bytes: &mut [u8]) {
    for (pair, pixel) in bytes.chunks_exact_mut(2).zip(pixels) {
        pair.copy_from_slice(&pixel.to_ne_bytes());
    }
}

/// The colour of one pixel; alpha is dropped.
///
/// # Source
/// Pillow, `src/libImaging/Convert.c`
#[inline]
fn to_rgb(mode: Mode, pixel: &[u8], palette: &[Rgb]) -> Rgb {
    match mode {
        Mode::Bilevel | Mode::L | Mode::La => [pixel[0]; 3],
        Mode::P => palette.get(usize::from(pixel[0])).copied().unwrap_or_default(),
        Mode::Rgb | Mode::Rgba => [pixel[0], pixel[1], pixel[2]],
        Mode::Cmyk => {
            let white = 255 - pixel[3];
            [0, 1, 2].map(|ink| white - multiply_255(pixel[ink], white))
        }
        // Clipped, not scaled: a 16-bit picture comes out nearly white.
        Mode::I16 => [u16::from_ne_bytes([pixel[0], pixel[1]]).min(255) as u8; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_palette_is_repeated_and_not_mixed() {
        let palette = vec![[10, 20, 30], [200, 100, 0]];
        let raster = Raster { mode: Mode::P, width: 2, height: 1, data: vec![0, 1], palette };
        let planes = upscale_to_rgb(&raster, 2);
        assert_eq!((planes.width, planes.height), (4, 2));
        assert_eq!(planes.data[..8], [10, 10, 200, 200, 10, 10, 200, 200]);
        assert_eq!(planes.data[8..16], [20, 20, 100, 100, 20, 20, 100, 100]);
    }

    #[test]
    fn a_transparent_colour_does_not_bleed_into_its_neighbour() {
        // Green and invisible beside red and opaque: no green may come through.
        let data = vec![0, 255, 0, 0, 255, 0, 0, 255];
        let raster = Raster { mode: Mode::Rgba, width: 2, height: 1, data, palette: Vec::new() };
        let planes = upscale_to_rgb(&raster, 2);
        assert_eq!(planes.data[8..16], [0; 8]);
        assert_eq!(planes.data[..4], [0, 255, 255, 255]);
    }

    #[test]
    fn factor_one_keeps_even_the_colours_under_full_transparency() {
        let data = vec![9, 8, 7, 0, 1, 2, 3, 4];
        let raster = Raster { mode: Mode::Rgba, width: 2, height: 1, data, palette: Vec::new() };
        assert_eq!(upscale_to_rgb(&raster, 1).data, [9, 1, 8, 2, 7, 3]);
    }

    #[test]
    fn rows_are_the_same_on_either_side_of_a_task() {
        // A vertical ramp, tall enough for several tasks: doubling it gives a ramp again.
        let height = ROWS_PER_TASK + 1;
        let data: Vec<u8> = (0..height).map(|row| row as u8 * 2).collect();
        let raster = Raster { mode: Mode::L, width: 1, height, data, palette: Vec::new() };
        let planes = upscale_to_rgb(&raster, 2);
        let column: Vec<u8> =
            planes.data[..planes.width * planes.height].iter().step_by(2).copied().collect();
        assert_eq!(column[ROWS_PER_TASK * 2 - 2..ROWS_PER_TASK * 2 + 2], [126, 127, 128, 128]);
        assert!(column.windows(2).all(|pair| pair[1] - pair[0] <= 1));
    }
}
