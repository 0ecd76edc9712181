//! A tensor's bytes, and views of them as numbers.

use std::borrow::Cow;

use half::{bf16, f16};
use ndarray::{ArrayD, CowArray, IxDyn};
use store::dtype::Visit;

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
    /// A view of bytes that are not a dump's.
    ///
    /// # Errors
    ///
    /// [`Error::ViewBytes`] if they are too many or too few for the shape.
    pub fn new(dtype: Dtype, shape: &'data [usize], data: &'data [u8]) -> Result<Self> {
        let expected = dtype.bytes_of(shape);
        if expected != data.len() as u128 {
            return Err(Error::ViewBytes { dtype, shape: shape.to_vec(), expected, found: data.len() });
        }
        Ok(TensorView { dtype, shape, data })
    }

    /// A view of bytes that were found to be as long as the shape says when their file was opened.
    pub(crate) fn of_checked(dtype: Dtype, shape: &'data [usize], data: &'data [u8]) -> Self {
        debug_assert_eq!(dtype.bytes_of(shape), data.len() as u128);
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
        struct Collect<'a>(&'a [u8]);

        impl Visit for Collect<'_> {
            type Output = Vec<f64>;

            fn visit<const BYTES: usize>(self, read: impl Fn([u8; BYTES]) -> f64) -> Vec<f64> {
                self.0.as_chunks::<BYTES>().0.iter().map(|&element| read(element)).collect()
            }
        }

        self.dtype.visit(Collect(self.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_the_same_at_every_alignment() {
        let values = [1.5f32, -0.0, f32::INFINITY, 3.0e-39, 7.0, 8.0];
        for offset in 0..4 {
            let mut bytes = vec![0u8; offset];
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let view = TensorView::new(Dtype::Float32, &[2, 3], &bytes[offset..]).unwrap();
            assert_eq!(*view.elements::<f32>().unwrap(), values);
            assert_eq!(view.array::<f32>().unwrap()[[1, 0]], 3.0e-39);
            assert_eq!(view.to_f64_vec(), values.map(f64::from));
        }
    }

    #[test]
    fn a_tensor_is_not_viewed_as_another_dtype() {
        let view = TensorView::new(Dtype::Int32, &[1], &[0; 4]).unwrap();
        let error = view.elements::<f32>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected elements of dtype `float32`, found a tensor of dtype `int32`"
        );
    }

    #[test]
    fn a_view_has_as_many_bytes_as_its_shape_says() {
        let error = TensorView::new(Dtype::Int32, &[2], &[0; 4]).unwrap_err();
        assert!(matches!(error, Error::ViewBytes { expected: 8, found: 4, .. }), "{error}");
        assert!(TensorView::new(Dtype::Int32, &[usize::MAX; 9], &[0; 4]).is_err());
    }

    #[test]
    fn integers_and_booleans_become_numbers() {
        let of = |dtype, bytes: &[u8]| {
            TensorView::new(dtype, &[bytes.len() / dtype.size_bytes()], bytes).unwrap().to_f64_vec()
        };
        assert_eq!(of(Dtype::Bool, &[0, 1]), [0.0, 1.0]);
        assert_eq!(of(Dtype::Int8, &[0xff]), [-1.0]);
        assert_eq!(of(Dtype::UInt16, &[0xff, 0xff]), [65535.0]);
        assert_eq!(of(Dtype::Int64, &(-3i64).to_le_bytes()), [-3.0]);
    }
}
