//! Pillow's bilinear filter, as it enlarges.
//!
//! Two passes, each rounded to whole numbers: along the rows, then along the columns. The weights of 8-bit channels are
//! integers with [`PRECISION_BITS`] fractional bits, and that decides the last bit of many pixels.
//!
//! Why no library does this: the pixels must equal Pillow's to the last bit, with its weights, its rounding and its order of
//! passes. A resizing crate has its own.

/// Fractional bits of the integer weights: 32, less 8 for the channel and 2 for the sum's overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The most source pixels that make up one pixel of an enlarged picture.
const MAX_TAPS: usize = 2;

/// The source pixels that make up one pixel of the result.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Taps {
    /// The first source pixel.
    start: usize,
    /// How many there are.
    count: usize,
    /// The weight of each, from `start` on; they sum to one.
    weights: [f64; MAX_TAPS],
}

impl Taps {
    fn weights(&self) -> &[f64] {
        &self.weights[..self.count]
    }

    /// The weights with [`PRECISION_BITS`] fractional bits.
    fn fixed_weights(&self) -> [i32; MAX_TAPS] {
        let one = f64::from(1u32 << PRECISION_BITS);
        self.weights.map(|weight| (0.5 + weight * one) as i32)
    }
}

/// The weights of one direction. They are computed where they are needed: kept for every pixel they would take more memory
/// than a picture of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct BilinearFilter {
    /// Pixels of the source.
    from: usize,
    /// Pixels of the source for one of the result.
    scale: f64,
    /// Whether the result is twice as long: the public code's own factor, for which [`mix_three_to_one`] does the same
    /// with fewer and narrower numbers.
    doubling: bool,
}

impl BilinearFilter {
    /// The weights that enlarge a side of `from` pixels to `to`; `from <= to`.
    pub fn enlarging(from: usize, to: usize) -> Self {
        Self { from, scale: from as f64 / to as f64, doubling: to == 2 * from }
    }

    /// # Source
    /// Pillow, `src/libImaging/Resample.c`, `precompute_coeffs` and `normalize_coeffs_8bpc`
    fn taps(&self, position: usize) -> Taps {
        let center = (position as f64 + 0.5) * self.scale;
        // The triangle reaches one source pixel to either side. Both casts truncate towards zero.
        let start = (center - 1.0 + 0.5).max(0.0) as usize;
        let end = ((center + 1.0 + 0.5) as usize).min(self.from);
        let triangle = |x: f64| (1.0 - x.abs()).max(0.0);
        let mut taps = Taps { start, count: (end - start).min(MAX_TAPS), weights: [0.0; MAX_TAPS] };
        for (tap, weight) in taps.weights[..taps.count].iter_mut().enumerate() {
            *weight = triangle((tap + start) as f64 - center + 0.5);
        }
        let sum: f64 = taps.weights().iter().sum();
        if sum != 0.0 {
            taps.weights = taps.weights.map(|weight| weight / sum);
        }
        taps
    }

    /// The source pixels that pixel `position` of the result is made from.
    pub fn sources(&self, position: usize) -> std::ops::Range<usize> {
        let taps = self.taps(position);
        taps.start..taps.start + taps.count
    }

    /// Resizes a row of pixels of `CHANNELS` bytes.
    pub fn along_row<const CHANNELS: usize>(&self, source: &[u8], target: &mut [u8]) {
        if self.doubling {
            return double_row::<CHANNELS>(source, target);
        }
        for (position, pixel) in target.chunks_exact_mut(CHANNELS).enumerate() {
            let taps = self.taps(position);
            let mut sums = [HALF; CHANNELS];
            let sources = source[taps.start * CHANNELS..].chunks_exact(CHANNELS).take(taps.count);
            for (source, weight) in sources.zip(taps.fixed_weights()) {
                for (sum, &byte) in sums.iter_mut().zip(source) {
                    *sum += i32::from(byte) * weight;
                }
            }
            for (byte, sum) in pixel.iter_mut().zip(sums) {
                *byte = clip8(sum);
            }
        }
    }

    /// Row `position` of the result, from the `rows` that [`Self::sources`] names.
    pub fn across_rows(&self, position: usize, rows: &[&[u8]], target: &mut [u8]) {
        match (self.doubling, rows) {
            (true, [only]) => return target.copy_from_slice(only),
            (true, [above, below]) if position.is_multiple_of(2) => {
                return mix_three_to_one(below, above, target);
            }
            (true, [above, below]) => return mix_three_to_one(above, below, target),
            _ => {}
        }
        let weights = self.taps(position).fixed_weights();
        for (column, byte) in target.iter_mut().enumerate() {
            let sum = rows
                .iter()
                .zip(weights)
                .fold(HALF, |sum, (row, weight)| sum + i32::from(row[column]) * weight);
            *byte = clip8(sum);
        }
    }

    /// As [`Self::along_row`], for pixels of 16 bits.
    ///
    /// # Source
    /// Pillow, `src/libImaging/Resample.c`, `ImagingResampleHorizontal_16bpc`: floating-point weights
    pub fn along_row_16(&self, source: &[u16], target: &mut [u16]) {
        for (position, pixel) in target.iter_mut().enumerate() {
            let taps = self.taps(position);
            let sources = source[taps.start..].iter().zip(taps.weights());
            *pixel = round16(sources.fold(0.0, |sum, (&value, weight)| sum + f64::from(value) * weight));
        }
    }

    /// As [`Self::across_rows`], for pixels of 16 bits.
    pub fn across_rows_16(&self, position: usize, rows: &[&[u16]], target: &mut [u16]) {
        let taps = self.taps(position);
        for (column, pixel) in target.iter_mut().enumerate() {
            let sum = rows
                .iter()
                .zip(taps.weights())
                .fold(0.0, |sum, (row, weight)| sum + f64::from(row[column]) * weight);
            *pixel = round16(sum);
        }
    }
}

/// A row of twice as many pixels: between two neighbours, one nearer to the left and one nearer to the right; at the
/// ends, copies.
fn double_row<const CHANNELS: usize>(source: &[u8], target: &mut [u8]) {
    let last = source.len() - CHANNELS;
    target[..CHANNELS].copy_from_slice(&source[..CHANNELS]);
    target[2 * last + CHANNELS..].copy_from_slice(&source[last..]);
    // Mixed a block at a time, then interleaved: so the mixing, which ignores what is a pixel, is done many bytes at
    // once.
    const PIXELS: usize = 256;
    let (mut nearer_left, mut nearer_right) = ([[0; CHANNELS]; PIXELS], [[0; CHANNELS]; PIXELS]);
    let blocks = source[..last]
        .chunks(PIXELS * CHANNELS)
        .zip(source[CHANNELS..].chunks(PIXELS * CHANNELS))
        .zip(target[CHANNELS..2 * last + CHANNELS].chunks_mut(2 * PIXELS * CHANNELS));
    for ((left, right), target) in blocks {
        mix_three_to_one(left, right, &mut nearer_left.as_flattened_mut()[..left.len()]);
        mix_three_to_one(right, left, &mut nearer_right.as_flattened_mut()[..left.len()]);
        let (pixels, _) = target.as_chunks_mut::<CHANNELS>();
        for ((pair, left), right) in pixels.chunks_exact_mut(2).zip(&nearer_left).zip(&nearer_right) {
            pair[0] = *left;
            pair[1] = *right;
        }
    }
}

/// Three quarters of the one and a quarter of the other, rounded as the weights of [`BilinearFilter`] round: theirs are
/// these quarters exactly, and half a unit is added.
fn mix_three_to_one(near: &[u8], far: &[u8], target: &mut [u8]) {
    for ((byte, &near), &far) in target.iter_mut().zip(near).zip(far) {
        *byte = ((3 * u16::from(near) + u16::from(far) + 2) >> 2) as u8;
    }
}

fn clip8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

fn round16(sum: f64) -> u16 {
    (sum + 0.5).floor().clamp(0.0, 65535.0) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_mixes_three_to_one_and_repeats_the_edges() {
        let filter = BilinearFilter::enlarging(3, 6);
        let mut target = [0; 6];
        filter.along_row::<1>(&[0, 100, 200], &mut target);
        assert_eq!(target, [0, 25, 75, 125, 175, 200]);
    }

    #[test]
    fn a_half_is_rounded_up_in_each_pass() {
        let filter = BilinearFilter::enlarging(2, 4);
        let mut target = [0; 4];
        // 0.75 · 1 + 0.25 · 3 = 1.5
        filter.along_row::<1>(&[1, 3], &mut target);
        assert_eq!(target, [1, 2, 3, 3]);
        let mut target = [0; 2];
        filter.across_rows(1, &[&[1, 3], &[3, 1]], &mut target);
        assert_eq!(target, [2, 3]);
    }

    /// The general way, whatever the factor.
    fn by_weights(filter: &BilinearFilter) -> BilinearFilter {
        BilinearFilter { doubling: false, ..filter.clone() }
    }

    #[test]
    fn doubling_mixes_every_pair_of_bytes_as_the_weights_do() {
        let filter = BilinearFilter::enlarging(2, 4);
        let first: Vec<u8> = (0..=u16::MAX).map(|pair| (pair >> 8) as u8).collect();
        let second: Vec<u8> = (0..=u16::MAX).map(|pair| pair as u8).collect();
        for position in [1, 2] {
            let (mut quick, mut slow) = (vec![0; 1 << 16], vec![0; 1 << 16]);
            filter.across_rows(position, &[&first, &second], &mut quick);
            by_weights(&filter).across_rows(position, &[&first, &second], &mut slow);
            assert!(quick == slow, "position {position}");
        }
    }

    #[test]
    fn doubling_a_row_of_any_length_is_what_the_weights_make_of_it() {
        fn check<const CHANNELS: usize>(pixels: usize) {
            let source: Vec<u8> =
                (0..pixels * CHANNELS).map(|index| ((index * index * 37) >> 3) as u8).collect();
            let filter = BilinearFilter::enlarging(pixels, 2 * pixels);
            let (mut quick, mut slow) = (vec![0; 2 * source.len()], vec![0; 2 * source.len()]);
            filter.along_row::<CHANNELS>(&source, &mut quick);
            by_weights(&filter).along_row::<CHANNELS>(&source, &mut slow);
            assert!(quick == slow, "{pixels} pixels of {CHANNELS} bytes");
        }
        for pixels in (1..20).chain([255, 256, 257, 258, 513, 700]) {
            check::<1>(pixels);
            check::<2>(pixels);
            check::<3>(pixels);
            check::<4>(pixels);
        }
    }

    #[test]
    fn one_pixel_becomes_many_of_its_own_value() {
        let filter = BilinearFilter::enlarging(1, 5);
        let mut target = [0; 10];
        filter.along_row::<2>(&[7, 250], &mut target);
        assert_eq!(target, [7, 250, 7, 250, 7, 250, 7, 250, 7, 250]);
    }
}
