//! A weight times its scale.

use safetensors::Dtype;
use store::dtype::Visit;

use crate::normalized::TorchDtype;
use crate::transform::Converter;

/// Multiplies the little-endian elements of a weight with their scales, chunk by chunk.
///
/// # Dtype
/// The product is computed in float32, which holds every value of both exactly, and rounded once to the dtype after it.
#[derive(Debug)]
pub struct Scaler {
    from: store::Dtype,
    /// Of the weight, and of a block that has one scale.
    shape: Vec<usize>,
    block: Vec<usize>,
    /// Row by row, one for each block.
    scales: Vec<f32>,
    converter: Converter,
    /// Elements that were taken.
    taken: usize,
    products: Vec<u8>,
    overflows: u64,
}

impl Scaler {
    /// A scaler of a weight of a dtype and shape, with the dtype and the bytes of its whole `scale`: one number for each `block`,
    /// whose sizes, one for each dimension, are above 0. The last block along a dimension may be shorter.
    pub fn new(weight: (Dtype, &[usize]), block: &[usize], scale: (Dtype, &[u8]), to: TorchDtype) -> Self {
        Self {
            from: row_of(weight.0),
            shape: weight.1.to_vec(),
            block: block.to_vec(),
            scales: values(row_of(scale.0), scale.1),
            converter: Converter::new(TorchDtype::Float32, to),
            taken: 0,
            products: Vec::new(),
            overflows: 0,
        }
    }

    /// Finite products that became infinite so far.
    pub fn overflows(&self) -> u64 {
        self.overflows + self.converter.overflows()
    }

    /// Takes the next elements of the weight, a whole number of them.
    pub fn scale(&mut self, piece: &[u8]) -> &[u8] {
        let weights = values(self.from, piece);
        self.products.clear();
        let mut rest = weights.as_slice();
        while !rest.is_empty() {
            let (scale, left) = self.here();
            let (run, after) = rest.split_at(left.min(rest.len()));
            for &weight in run {
                let product = weight * scale;
                self.overflows += u64::from(product.is_infinite() && weight.is_finite() && scale.is_finite());
                self.products.extend(product.to_le_bytes());
            }
            self.taken += run.len();
            rest = after;
        }
        self.converter.convert(&self.products)
    }

    /// The scale of the next element, and how many elements with it follow each other, this one included.
    fn here(&self) -> (f32, usize) {
        let (mut at, mut place, mut stride) = (self.taken, 0, 1);
        for (&size, &block) in self.shape.iter().zip(&self.block).rev() {
            place += at % size / block * stride;
            stride *= size.div_ceil(block);
            at /= size;
        }
        let left = match (self.shape.last(), self.block.last()) {
            (Some(&size), Some(&block)) => {
                let at = self.taken % size;
                (block - at % block).min(size - at)
            }
            _ => 1,
        };
        (self.scales.get(place).copied().unwrap_or(f32::NAN), left)
    }
}

/// The row of the table of dtypes; the plan has seen that there is one.
fn row_of(dtype: Dtype) -> store::Dtype {
    store::Dtype::try_from(dtype).unwrap_or(store::Dtype::Float32)
}

fn values(dtype: store::Dtype, bytes: &[u8]) -> Vec<f32> {
    struct Values<'a>(&'a [u8]);
    impl Visit for Values<'_> {
        type Output = Vec<f32>;

        fn visit<const BYTES: usize>(
            self,
            read: impl Fn([u8; BYTES]) -> f64 + Copy + Send + Sync,
        ) -> Vec<f32> {
            self.0.as_chunks::<BYTES>().0.iter().map(|&elem| read(elem) as f32).collect()
        }
    }
    dtype.visit(Values(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Scales of a weight of 4 rows and 6 columns that counts from 1.
    fn scaled(block: &[usize], scales: &[f32], piece: usize) -> Vec<f32> {
        let weight = floats(&(1..=24).map(|value| value as f32).collect::<Vec<_>>());
        let (of_weight, scales) = ((Dtype::F32, &[4, 6][..]), floats(scales));
        let mut scaler = Scaler::new(of_weight, block, (Dtype::F32, &scales), TorchDtype::Float32);
        let bytes: Vec<u8> =
            weight.chunks(piece * 4).flat_map(|piece| scaler.scale(piece).to_vec()).collect();
        bytes.as_chunks::<4>().0.iter().map(|&elem| f32::from_le_bytes(elem)).collect()
    }

    #[test]
    fn each_block_has_its_own_scale_however_the_weight_is_cut() {
        let by = |scale: fn(usize, usize) -> f32| {
            (0..24).map(|i| (i + 1) as f32 * scale(i / 6, i % 6)).collect::<Vec<f32>>()
        };
        for piece in [1, 4, 5, 24] {
            assert_eq!(scaled(&[4, 6], &[2.0], piece), by(|_, _| 2.0));
            let rows = [1.0, 10.0, 100.0, 1000.0];
            assert_eq!(scaled(&[1, 6], &rows, piece), by(|row, _| [1.0, 10.0, 100.0, 1000.0][row]));
            let blocks = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
            assert_eq!(
                scaled(&[2, 2], &blocks, piece),
                by(|row, column| (row / 2 * 3 + column / 2 + 1) as f32)
            );
            // The last block of each dimension is shorter.
            assert_eq!(
                scaled(&[3, 4], &blocks[..4], piece),
                by(|row, column| (row / 3 * 2 + column / 4 + 1) as f32)
            );
        }
    }

    #[test]
    fn eight_bits_times_a_scale_are_rounded_once_and_overflows_are_counted() {
        // 1, 448, the smallest subnormal, a NaN.
        let weight = [0x38, 0x7e, 0x01, 0x7f];
        let scale = |value: f32, to: TorchDtype| {
            let (of_weight, bytes) = ((Dtype::F8_E4M3, &[4][..]), value.to_le_bytes());
            let mut scaler = Scaler::new(of_weight, &[4], (Dtype::F32, &bytes), to);
            let bytes = scaler.scale(&weight).to_vec();
            let bits: Vec<u16> =
                bytes.as_chunks::<2>().0.iter().map(|&elem| u16::from_le_bytes(elem)).collect();
            (bits, scaler.overflows())
        };
        let bf16 = |value: f32| half::bf16::from_f32(value).to_bits();
        let third = 1.0f32 / 3.0;
        let (bits, overflows) = scale(third, TorchDtype::Bfloat16);
        assert_eq!(bits[..3], [bf16(third), bf16(448.0 * third), bf16(third / 512.0)]);
        assert!(half::bf16::from_bits(bits[3]).is_nan());
        assert_eq!(overflows, 0);
        assert_eq!(scale(200.0, TorchDtype::Float16), (vec![0x5a40, 0x7c00, 0x3640, 0x7e00], 1));
        assert_eq!(scale(f32::MAX, TorchDtype::Bfloat16).1, 2);
    }
}
