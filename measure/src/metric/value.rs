//! Single elements.

use golden::{Dtype, TensorView};

use super::format::{self, FloatFormat, with_format};

/// The value at a flat index, NaN beyond the end.
pub fn value_at(tensor: &TensorView<'_>, flat: usize) -> f64 {
    let size_bytes = tensor.dtype().size_bytes();
    let Some(bytes) = tensor.data().get(flat * size_bytes..(flat + 1) * size_bytes) else { return f64::NAN };
    match tensor.dtype() {
        Dtype::Float8E5M2
        | Dtype::Float8E4M3Fn
        | Dtype::Float16
        | Dtype::BFloat16
        | Dtype::Float32
        | Dtype::Float64 => float(tensor.dtype(), bytes),
        dtype => integer(dtype, bytes) as f64,
    }
}

/// The integer in little-endian bytes.
pub fn integer(dtype: Dtype, bytes: &[u8]) -> i128 {
    let mut wide = [0u8; 16];
    let len = bytes.len().min(wide.len());
    wide[..len].copy_from_slice(&bytes[..len]);
    let unsigned = i128::from_le_bytes(wide);
    let signed = matches!(dtype, Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64);
    let shift = 128 - 8 * len as u32;
    if signed && shift < 128 { unsigned << shift >> shift } else { unsigned }
}

fn float(dtype: Dtype, bytes: &[u8]) -> f64 {
    with_format!(dtype, F => read::<F>(bytes).map_or(f64::NAN, F::value))
}

fn read<F: FloatFormat>(bytes: &[u8]) -> Option<F::Bits> {
    bytemuck::try_pod_read_unaligned(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_integers_of_either_sign() {
        assert_eq!(integer(Dtype::Int8, &[0xff]), -1);
        assert_eq!(integer(Dtype::UInt8, &[0xff]), 255);
        assert_eq!(integer(Dtype::Int64, &i64::MIN.to_le_bytes()), i128::from(i64::MIN));
        assert_eq!(integer(Dtype::UInt64, &u64::MAX.to_le_bytes()), i128::from(u64::MAX));
        assert_eq!(integer(Dtype::Bool, &[1]), 1);
    }
}
