//! A tensor's bytes, and views of them as numbers.

use std::borrow::Cow;

use half::{bf16, f16};
use ndarray::{ArrayD, CowArray, IxDyn};

use crate::{Dtype, Error, Result};

/// A tensor of a mapped dump: dtype, shape and little-endian bytes in row-major order.
///
/// The bytes can begin at any address: a safetensors file packs its tensors without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorView<'data> {
    dtype: Dtype,
    shape: &'data [usize],
    data: &'data [u8],
}

/// A Rust type that the elements of some [`Dtype`] can be viewed as.
pub trait Element: bytemuck::Pod {
    /// The dtype.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($element:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $element {
            const DTYPE: Dtype = Dtype::$dtype;
        })*
    };
}

elements! {
    u8 => UInt8, i8 => Int8, i16 => Int16, u16 => UInt16, f16 => Float16, bf16 => BFloat16,
    i32 => Int32, u32 => UInt32, f32 => Float32, i64 => Int64, u64 => UInt64, f64 => Float64,
}

impl<'data> TensorView<'data> {
    /// A view of bytes that the caller knows to be as long as the shape says.
    pub(crate) fn new(dtype: Dtype, shape: &'data [usize], data: &'data [u8]) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>() * dtype.size_bytes(), data.len());
        TensorView { dtype, shape, data }
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The shape, outermost dimension first.
    pub fn shape(&self) -> &'data [usize] {
        self.shape
    }

    /// The little-endian bytes in row-major order.
    pub fn data(&self) -> &'data [u8] {
        self.data
    }

    /// The number of elements.
    pub fn len_elems(&self) -> usize {
        self.data.len() / self.dtype.size_bytes()
    }

    /// The elements, in place if the bytes are aligned for `T` and copied if they are not.
    ///
    /// # Errors
    ///
    /// [`Error::WrongElement`] if the tensor has another dtype.
    pub fn elements<T: Element>(&self) -> Result<Cow<'data, [T]>> {
        if T::DTYPE != self.dtype {
            return Err(Error::WrongElement { expected: T::DTYPE, found: self.dtype });
        }
        Ok(match bytemuck::try_cast_slice(self.data) {
            Ok(elements) => Cow::Borrowed(elements),
            Err(_) => {
                Cow::Owned(self.data.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
            }
        })
    }

    /// The tensor as an array, in place if the bytes are aligned for `T` and copied if they are not.
    ///
    /// # Errors
    ///
    /// [`Error::WrongElement`] if the tensor has another dtype.
    pub fn array<T: Element>(&self) -> Result<CowArray<'data, T, IxDyn>> {
        let shape = IxDyn(self.shape);
        // The lengths agree since the view was made, so neither conversion can fail; were it to, an
        // array of no elements is returned rather than a panic.
        Ok(match self.elements::<T>()? {
            Cow::Borrowed(elements) => match ndarray::ArrayViewD::from_shape(shape, elements) {
                Ok(view) => view.into(),
                Err(_) => ArrayD::from_shape_simple_fn(IxDyn(&[0]), T::zeroed).into(),
            },
            Cow::Owned(elements) => match ArrayD::from_shape_vec(shape, elements) {
                Ok(array) => array.into(),
                Err(_) => ArrayD::from_shape_simple_fn(IxDyn(&[0]), T::zeroed).into(),
            },
        })
    }

    /// The elements as `f64`, whatever the dtype; exact but for 64-bit integers beyond 2⁵³.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        fn convert<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            data.as_chunks::<N>().0.iter().map(|&bytes| value(bytes)).collect()
        }
        let data = self.data;
        match self.dtype {
            Dtype::Bool => convert(data, |[byte]| f64::from(u8::from(byte != 0))),
            Dtype::UInt8 => convert(data, |[byte]| f64::from(byte)),
            Dtype::Int8 => convert(data, |bytes| f64::from(i8::from_le_bytes(bytes))),
            Dtype::Float8E5M2 => convert(data, |[byte]| float8_e5m2_to_f64(byte)),
            Dtype::Float8E4M3Fn => convert(data, |[byte]| float8_e4m3fn_to_f64(byte)),
            Dtype::Int16 => convert(data, |bytes| f64::from(i16::from_le_bytes(bytes))),
            Dtype::UInt16 => convert(data, |bytes| f64::from(u16::from_le_bytes(bytes))),
            Dtype::Float16 => convert(data, |bytes| f16::from_le_bytes(bytes).to_f64()),
            Dtype::BFloat16 => convert(data, |bytes| bf16::from_le_bytes(bytes).to_f64()),
            Dtype::Int32 => convert(data, |bytes| f64::from(i32::from_le_bytes(bytes))),
            Dtype::UInt32 => convert(data, |bytes| f64::from(u32::from_le_bytes(bytes))),
            Dtype::Float32 => convert(data, |bytes| f64::from(f32::from_le_bytes(bytes))),
            Dtype::Int64 => convert(data, |bytes| i64::from_le_bytes(bytes) as f64),
            Dtype::UInt64 => convert(data, |bytes| u64::from_le_bytes(bytes) as f64),
            Dtype::Float64 => convert(data, f64::from_le_bytes),
        }
    }
}

/// The value of a `float8_e5m2`, which is the upper half of a `float16`.
pub fn float8_e5m2_to_f64(bits: u8) -> f64 {
    f16::from_bits(u16::from(bits) << 8).to_f64()
}

/// The value of a `float8_e4m3fn`: exponent bias 7, no infinities, NaN where all bits but the sign are set.
pub fn float8_e4m3fn_to_f64(bits: u8) -> f64 {
    let exponent = i32::from((bits >> 3) & 0xf);
    let mantissa = f64::from(bits & 0x7);
    let magnitude = match (exponent, bits & 0x7) {
        (0xf, 0x7) => f64::NAN,
        (0, _) => mantissa / 8.0 * 2f64.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float8_values_are_those_of_the_formats() {
        // The largest finite value, the smallest normal, the smallest subnormal, one, minus zero.
        for (bits, value) in [(0x7e, 448.0), (0x08, 0.015625), (0x01, 0.001953125), (0x38, 1.0), (0xb8, -1.0)]
        {
            assert_eq!(float8_e4m3fn_to_f64(bits), value, "{bits:#x}");
        }
        for (bits, value) in [(0x7b, 57344.0), (0x04, 2f64.powi(-14)), (0x01, 2f64.powi(-16)), (0x3c, 1.0)] {
            assert_eq!(float8_e5m2_to_f64(bits), value, "{bits:#x}");
        }
        assert!(float8_e4m3fn_to_f64(0x7f).is_nan() && float8_e4m3fn_to_f64(0xff).is_nan());
        assert!(float8_e5m2_to_f64(0xfc) == f64::NEG_INFINITY && float8_e5m2_to_f64(0x7d).is_nan());
        assert!(float8_e4m3fn_to_f64(0x80).is_sign_negative());
    }

    #[test]
    fn elements_are_the_same_at_every_alignment() {
        let values = [1.5f32, -0.0, f32::INFINITY, 3.0e-39, 7.0, 8.0];
        for offset in 0..4 {
            let mut bytes = vec![0u8; offset];
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let view = TensorView::new(Dtype::Float32, &[2, 3], &bytes[offset..]);
            assert_eq!(*view.elements::<f32>().unwrap(), values);
            assert_eq!(view.array::<f32>().unwrap()[[1, 0]], 3.0e-39);
            assert_eq!(view.to_f64_vec(), values.map(f64::from));
        }
    }

    #[test]
    fn a_tensor_is_not_viewed_as_another_dtype() {
        let view = TensorView::new(Dtype::Int32, &[1], &[0; 4]);
        let error = view.elements::<f32>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected elements of dtype `float32`, found a tensor of dtype `int32`"
        );
    }

    #[test]
    fn integers_and_booleans_become_numbers() {
        let of = |dtype, bytes: &[u8]| {
            TensorView::new(dtype, &[bytes.len() / dtype.size_bytes()], bytes).to_f64_vec()
        };
        assert_eq!(of(Dtype::Bool, &[0, 1]), [0.0, 1.0]);
        assert_eq!(of(Dtype::Int8, &[0xff]), [-1.0]);
        assert_eq!(of(Dtype::UInt16, &[0xff, 0xff]), [65535.0]);
        assert_eq!(of(Dtype::Int64, &(-3i64).to_le_bytes()), [-3.0]);
    }
}
