//! Enlarges a picture in its own mode and turns it into red, green and blue.
//!
//! Row by row: of the enlarged picture only the result is ever held.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::raster::{Mode, Raster, Rgb};
use super::resample::BilinearFilter;

/// Rows of the enlarged picture that one task makes.
const ROWS_PER_TASK: usize = 64;

/// A picture of red, green and blue, a byte each, interleaved: rows from the top, pixels from the left, no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height * 3` bytes.
    pub data: Vec<u8>,
}

/// The picture enlarged by a whole `factor` in both directions, then converted to RGB.
///
/// # Source
/// `image_processing.py`, `LlamaNemotronNanoVLImageProcessor._process_image`; Pillow, `Image.resize` and
/// `Image.convert`
pub fn upscale_to_rgb(raster: &Raster, factor: usize) -> RgbImage {
    let (width, height) = (raster.width * factor, raster.height * factor);
    let mut data = vec![0; 3 * width * height];
    let row_maker = RowMaker::new(raster, factor);
    data.par_chunks_mut(3 * width * ROWS_PER_TASK).enumerate().for_each(|(task, rows)| {
        let mut held = HeldRows::default();
        let mut enlarged = vec![0; width * raster.mode.bytes_per_pixel()];
        for (row, target) in rows.chunks_exact_mut(3 * width).enumerate() {
            let row = task * ROWS_PER_TASK + row;
            if raster.mode == Mode::Rgb {
                row_maker.make(row, &mut held, target);
            } else {
                row_maker.make(row, &mut held, &mut enlarged);
                to_rgb(raster.mode, &enlarged, &raster.palette, target);
            }
        }
    });
    RgbImage { width, height, data }
}

/// Source rows already enlarged horizontally: the index of the first, and their bytes.
#[derive(Default)]
struct HeldRows {
    first: usize,
    rows: VecDeque<Vec<u8>>,
    /// The memory of rows that are no longer needed.
    spare: Vec<Vec<u8>>,
}

impl HeldRows {
    /// Makes sure that the rows of `range` are held, and no earlier ones.
    fn hold(&mut self, range: std::ops::Range<usize>, row_bytes: usize, enlarge: impl Fn(usize, &mut [u8])) {
        while self.first < range.start
            && let Some(row) = self.rows.pop_front()
        {
            self.spare.push(row);
            self.first += 1;
        }
        if self.rows.is_empty() {
            self.first = range.start;
        }
        while self.first + self.rows.len() < range.end {
            let mut row = self.spare.pop().unwrap_or_else(|| vec![0; row_bytes]);
            enlarge(self.first + self.rows.len(), &mut row);
            self.rows.push_back(row);
        }
    }
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
        held.hold(sources, target.len(), |row, target| self.enlarge_row(row, target));
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

/// A row's colours; alpha is dropped.
///
/// # Source
/// Pillow, `src/libImaging/Convert.c`
fn to_rgb(mode: Mode, row: &[u8], palette: &[Rgb], target: &mut [u8]) {
    match mode {
        Mode::Bilevel | Mode::L => colour_each(row, target, |[grey]: [u8; 1]| [grey; 3]),
        Mode::La => colour_each(row, target, |[grey, _]: [u8; 2]| [grey; 3]),
        Mode::P => colour_each(row, target, |[index]: [u8; 1]| {
            palette.get(usize::from(index)).copied().unwrap_or_default()
        }),
        Mode::Rgb => target.copy_from_slice(row),
        Mode::Rgba => colour_each(row, target, |[red, green, blue, _]: [u8; 4]| [red, green, blue]),
        Mode::Cmyk => colour_each(row, target, |[cyan, magenta, yellow, black]: [u8; 4]| {
            let white = 255 - black;
            [cyan, magenta, yellow].map(|ink| white - multiply_255(ink, white))
        }),
        // Clipped, not scaled: a 16-bit picture comes out nearly white.
        Mode::I16 => {
            colour_each(row, target, |pixel: [u8; 2]| [u16::from_ne_bytes(pixel).min(255) as u8; 3]);
        }
    }
}

fn colour_each<const BYTES: usize>(row: &[u8], target: &mut [u8], colour: impl Fn([u8; BYTES]) -> Rgb) {
    let (pixels, _) = row.as_chunks();
    let (colours, _) = target.as_chunks_mut();
    for (pixel, target) in pixels.iter().zip(colours) {
        *target = colour(*pixel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_palette_is_repeated_and_not_mixed() {
        let palette = vec![[10, 20, 30], [200, 100, 0]];
        let raster = Raster { mode: Mode::P, width: 2, height: 1, data: vec![0, 1], palette };
        let image = upscale_to_rgb(&raster, 2);
        assert_eq!((image.width, image.height), (4, 2));
        let row = [10, 20, 30, 10, 20, 30, 200, 100, 0, 200, 100, 0];
        assert_eq!(image.data, [row, row].concat());
    }

    #[test]
    fn a_transparent_colour_does_not_bleed_into_its_neighbour() {
        // Green and invisible beside red and opaque: no green may come through.
        let data = vec![0, 255, 0, 0, 255, 0, 0, 255];
        let raster = Raster { mode: Mode::Rgba, width: 2, height: 1, data, palette: Vec::new() };
        let image = upscale_to_rgb(&raster, 2);
        assert_eq!(image.data[..12], [0, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0]);
    }

    #[test]
    fn factor_one_keeps_even_the_colours_under_full_transparency() {
        let data = vec![9, 8, 7, 0, 1, 2, 3, 4];
        let raster = Raster { mode: Mode::Rgba, width: 2, height: 1, data, palette: Vec::new() };
        assert_eq!(upscale_to_rgb(&raster, 1).data, [9, 8, 7, 1, 2, 3]);
    }

    #[test]
    fn rows_are_the_same_on_either_side_of_a_task() {
        // A vertical ramp, tall enough for several tasks: doubling it gives a ramp again.
        let height = ROWS_PER_TASK + 1;
        let data: Vec<u8> = (0..height).map(|row| row as u8 * 2).collect();
        let raster = Raster { mode: Mode::L, width: 1, height, data, palette: Vec::new() };
        let image = upscale_to_rgb(&raster, 2);
        let column: Vec<u8> = image.data.iter().step_by(2 * 3).copied().collect();
        assert_eq!(column[ROWS_PER_TASK * 2 - 2..ROWS_PER_TASK * 2 + 2], [126, 127, 128, 128]);
        assert!(column.windows(2).all(|pair| pair[1] - pair[0] <= 1));
    }
}
