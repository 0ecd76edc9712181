//! Elements of every dtype as `f64`, a block at a time.

use std::sync::LazyLock;

use super::BLOCK;
use crate::{Dtype, float8};

/// Fills the beginning of a block with the values of some bytes, which are those of [`BLOCK`] elements at most.
pub(super) trait Load: Copy + Send + Sync {
    fn load(&self, bytes: &[u8], values: &mut [f64; BLOCK]);
}

/// Elements of a fixed width, each with its value.
#[derive(Clone, Copy)]
struct Fixed<const WIDTH: usize, V>(V);

impl<const WIDTH: usize, V: Fn([u8; WIDTH]) -> f64 + Copy + Send + Sync> Load for Fixed<WIDTH, V> {
    #[inline(always)]
    fn load(&self, bytes: &[u8], values: &mut [f64; BLOCK]) {
        for (value, &element) in values.iter_mut().zip(bytes.as_chunks::<WIDTH>().0) {
            *value = (self.0)(element);
        }
    }
}

/// Calls a function with the loader of a dtype.
pub(super) fn with_loader<R>(dtype: Dtype, use_it: impl Visit<R>) -> R {
    match dtype {
        Dtype::Bool => use_it.visit(Fixed(|[byte]: [u8; 1]| f64::from(u8::from(byte != 0)))),
        Dtype::UInt8 => use_it.visit(Fixed(|[byte]: [u8; 1]| f64::from(byte))),
        Dtype::Int8 => use_it.visit(Fixed(|bytes| f64::from(i8::from_le_bytes(bytes)))),
        Dtype::Float8E5M2 => use_it.visit(Fixed(|[byte]: [u8; 1]| E5M2[usize::from(byte)])),
        Dtype::Float8E4M3Fn => use_it.visit(Fixed(|[byte]: [u8; 1]| E4M3FN[usize::from(byte)])),
        Dtype::Int16 => use_it.visit(Fixed(|bytes| f64::from(i16::from_le_bytes(bytes)))),
        Dtype::UInt16 => use_it.visit(Fixed(|bytes| f64::from(u16::from_le_bytes(bytes)))),
        Dtype::Float16 => use_it.visit(Fixed(|bytes| float16(u16::from_le_bytes(bytes)))),
        Dtype::BFloat16 => {
            use_it.visit(Fixed(|bytes| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))))
        }
        Dtype::Int32 => use_it.visit(Fixed(|bytes| f64::from(i32::from_le_bytes(bytes)))),
        Dtype::UInt32 => use_it.visit(Fixed(|bytes| f64::from(u32::from_le_bytes(bytes)))),
        Dtype::Float32 => use_it.visit(Fixed(|bytes| f64::from(f32::from_le_bytes(bytes)))),
        Dtype::Int64 => use_it.visit(Fixed(|bytes| i64::from_le_bytes(bytes) as f64)),
        Dtype::UInt64 => use_it.visit(Fixed(|bytes| u64::from_le_bytes(bytes) as f64)),
        Dtype::Float64 => use_it.visit(Fixed(f64::from_le_bytes)),
    }
}

/// What [`with_loader`] calls.
pub(super) trait Visit<R> {
    fn visit(self, loader: impl Load) -> R;
}

static E5M2: LazyLock<[f64; 256]> =
    LazyLock::new(|| std::array::from_fn(|bits| f64::from(float8::e5m2_to_f32(bits as u8))));

static E4M3FN: LazyLock<[f64; 256]> =
    LazyLock::new(|| std::array::from_fn(|bits| f64::from(float8::e4m3fn_to_f32(bits as u8))));

/// The value of a `float16` without a branch, so that several can be had at once.
#[inline(always)]
fn float16(bits: u16) -> f64 {
    /// 2¹¹²: the difference of the biases of `float32` and `float16`.
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    const INFINITY: u32 = 0x7f80_0000;
    let (sign, magnitude) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff) << 13);
    // The product is exact, and makes subnormal numbers normal.
    let finite = (f32::from_bits(magnitude) * SCALE).to_bits();
    let all = if magnitude >= 0x7c00 << 13 { magnitude | INFINITY } else { finite };
    f64::from(f32::from_bits(all | sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorView;

    struct First<'a>(&'a [u8]);

    impl Visit<Vec<f64>> for First<'_> {
        fn visit(self, loader: impl Load) -> Vec<f64> {
            let mut values = [0.0; BLOCK];
            loader.load(self.0, &mut values);
            values.to_vec()
        }
    }

    #[test]
    fn values_are_those_of_the_view() {
        for dtype in Dtype::ALL {
            // Every pair of leading bytes, so that the narrow dtypes are seen whole.
            let bytes: Vec<u8> = (0..=u16::MAX)
                .flat_map(|n| {
                    let mut element = vec![0x5a; dtype.size_bytes()];
                    let at = element.len().saturating_sub(2);
                    element[at..].copy_from_slice(&n.to_le_bytes()[..dtype.size_bytes().min(2)]);
                    element
                })
                .collect();
            let shape = [bytes.len() / dtype.size_bytes()];
            let expected = TensorView::new(dtype, &shape, &bytes).unwrap().to_f64_vec();
            for (block, expected) in bytes.chunks(BLOCK * dtype.size_bytes()).zip(expected.chunks(BLOCK)) {
                let found = with_loader(dtype, First(block));
                for (found, expected) in found.iter().zip(expected) {
                    let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                    assert!(same, "{dtype}: {found} for {expected}");
                }
            }
        }
    }
}
