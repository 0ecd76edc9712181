//! Element types: one row of one table for each.
//!
//! A new dtype is a new row: dumps, sketches, the converter, the command lines and the Python package take it from here.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::float8;

/// What a row says of floating-point numbers beside how they are read.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Float {
    /// Bits of the significand, the hidden one included.
    precision: u32,
    /// Whether a model's weights can have this dtype: the converter reads and writes it.
    is_of_weights: bool,
}

/// Numbers that are no floating-point ones.
const WHOLE: Option<Float> = None;

/// Floating-point numbers that only dumps hold.
const fn float(precision: u32) -> Option<Float> {
    Some(Float { precision, is_of_weights: false })
}

/// Floating-point numbers that weights have, too.
const fn weights(precision: u32) -> Option<Float> {
    Some(Float { precision, is_of_weights: true })
}

/// Reads elements of one dtype.
pub trait Visit {
    /// What comes of it.
    type Output;

    /// Takes what turns the little-endian bytes of an element into its value: exact, but for 64-bit integers beyond 2⁵³.
    fn visit<const BYTES: usize>(
        self,
        read: impl Fn([u8; BYTES]) -> f64 + Copy + Send + Sync,
    ) -> Self::Output;
}

macro_rules! dtypes {
    ($($variant:ident $name:literal $bytes:literal $code:ident $torch:literal $float:expr, $read:expr;)*) => {
        /// An element type, as torch has it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Dtype {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
        }

        impl Dtype {
            /// Every dtype.
            pub const ALL: [Dtype; [$($bytes),*].len()] = [$(Dtype::$variant),*];

            /// The torch name, as it stands in a manifest or a configuration.
            pub const fn name(self) -> &'static str {
                match self { $(Dtype::$variant => $name,)* }
            }

            /// The size of an element in bytes.
            pub const fn size_bytes(self) -> usize {
                match self { $(Dtype::$variant => $bytes,)* }
            }

            /// The number that torch has for it.
            ///
            /// # Source
            /// `c10/core/ScalarType.h`, `ScalarType`, torch 2.11.
            pub const fn torch_number(self) -> i8 {
                match self { $(Dtype::$variant => $torch,)* }
            }

            /// What safetensors calls it.
            pub const fn safetensors(self) -> safetensors::Dtype {
                match self { $(Dtype::$variant => safetensors::Dtype::$code,)* }
            }

            const fn float(self) -> Option<Float> {
                match self { $(Dtype::$variant => $float,)* }
            }

            /// Calls a function with what reads elements of this dtype.
            pub fn visit<V: Visit>(self, visitor: V) -> V::Output {
                match self { $(Dtype::$variant => visitor.visit::<$bytes>($read),)* }
            }
        }
    };
}

// Name, bytes of an element, safetensors' code, torch's number, floating-point or not, and how an element is read.
dtypes! {
    Bool         "bool"          1 BOOL    11 WHOLE,       |[byte]| f64::from(u8::from(byte != 0));
    UInt8        "uint8"         1 U8       0 WHOLE,       |[byte]| f64::from(byte);
    Int8         "int8"          1 I8       1 WHOLE,       |bytes| f64::from(i8::from_le_bytes(bytes));
    Float8E5M2   "float8_e5m2"   1 F8_E5M2 23 float(3),    |[byte]| E5M2[usize::from(byte)];
    Float8E4M3Fn "float8_e4m3fn" 1 F8_E4M3 24 float(4),    |[byte]| E4M3FN[usize::from(byte)];
    Float8E8M0Fnu "float8_e8m0fnu" 1 F8_E8M0 44 float(1),  |[byte]| E8M0FNU[usize::from(byte)];
    Int16        "int16"         2 I16      2 WHOLE,       |bytes| f64::from(i16::from_le_bytes(bytes));
    UInt16       "uint16"        2 U16     27 WHOLE,       |bytes| f64::from(u16::from_le_bytes(bytes));
    Float16      "float16"       2 F16      5 weights(11), |bytes| float16(u16::from_le_bytes(bytes));
    BFloat16     "bfloat16"      2 BF16    15 weights(8),  |bytes| bfloat16(u16::from_le_bytes(bytes));
    Int32        "int32"         4 I32      3 WHOLE,       |bytes| f64::from(i32::from_le_bytes(bytes));
    UInt32       "uint32"        4 U32     28 WHOLE,       |bytes| f64::from(u32::from_le_bytes(bytes));
    Float32      "float32"       4 F32      6 weights(24), |bytes| f64::from(f32::from_le_bytes(bytes));
    Int64        "int64"         8 I64      4 WHOLE,       |bytes| i64::from_le_bytes(bytes) as f64;
    UInt64       "uint64"        8 U64     29 WHOLE,       |bytes| u64::from_le_bytes(bytes) as f64;
    Float64      "float64"       8 F64      7 float(53),   f64::from_le_bytes;
}

static E5M2: LazyLock<[f64; 256]> =
    LazyLock::new(|| std::array::from_fn(|bits| f64::from(float8::e5m2_to_f32(bits as u8))));

static E4M3FN: LazyLock<[f64; 256]> =
    LazyLock::new(|| std::array::from_fn(|bits| f64::from(float8::e4m3fn_to_f32(bits as u8))));

static E8M0FNU: LazyLock<[f64; 256]> =
    LazyLock::new(|| std::array::from_fn(|bits| f64::from(float8::e8m0fnu_to_f32(bits as u8))));

/// The value of a `bfloat16`, which is the upper half of a `float32`.
#[inline(always)]
fn bfloat16(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

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

/// A name or code that stands for no [`Dtype`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype: expected one of {}, found `{found}`", Dtype::names())]
pub struct UnknownDtype {
    /// What was found instead.
    pub found: String,
}

impl Dtype {
    /// The bytes that a tensor of a shape needs; the largest number there is if they are more than that.
    pub fn bytes_of(self, shape: &[usize]) -> u128 {
        let sizes = shape.iter().map(|&dimension| dimension as u128);
        // A zero anywhere makes the tensor empty, however large the other dimensions are.
        if shape.contains(&0) { 0 } else { sizes.fold(self.size_bytes() as u128, u128::saturating_mul) }
    }

    /// Whether the elements are floating-point numbers.
    pub const fn is_float(self) -> bool {
        self.float().is_some()
    }

    /// Whether a model's weights can have this dtype: the converter reads and writes it.
    pub const fn is_of_weights(self) -> bool {
        match self.float() {
            Some(float) => float.is_of_weights,
            None => false,
        }
    }

    /// Bits of the significand of floating-point numbers, the hidden one included.
    pub fn precision(self) -> Option<u32> {
        self.float().map(|float| float.precision)
    }

    /// Half the distance between 1 and the next number: the largest relative error of rounding to nearest.
    pub fn unit_roundoff(self) -> Option<f64> {
        self.precision().map(|precision| 2f64.powi(-(precision as i32)))
    }

    fn names() -> String {
        Dtype::ALL.map(|dtype| format!("`{dtype}`")).join(", ")
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(name: &str) -> Result<Self, UnknownDtype> {
        Dtype::ALL
            .into_iter()
            .find(|dtype| dtype.name() == name)
            .ok_or_else(|| UnknownDtype { found: name.to_owned() })
    }
}

impl Serialize for Dtype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Dtype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

impl From<Dtype> for safetensors::Dtype {
    fn from(dtype: Dtype) -> Self {
        dtype.safetensors()
    }
}

impl TryFrom<safetensors::Dtype> for Dtype {
    type Error = UnknownDtype;

    fn try_from(dtype: safetensors::Dtype) -> Result<Self, UnknownDtype> {
        Dtype::ALL
            .into_iter()
            .find(|&known| known.safetensors() == dtype)
            .ok_or_else(|| UnknownDtype { found: dtype.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_code_leads_back_to_its_dtype() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.name().parse(), Ok(dtype));
            assert_eq!(Dtype::try_from(safetensors::Dtype::from(dtype)), Ok(dtype));
            assert_eq!(dtype.safetensors().bitsize(), dtype.size_bytes() * 8);
        }
    }

    #[test]
    fn an_unknown_dtype_is_refused_by_name() {
        let error = "complex64".parse::<Dtype>().unwrap_err().to_string();
        assert!(error.contains("expected one of `bool`") && error.ends_with("found `complex64`"), "{error}");
        assert_eq!(Dtype::try_from(safetensors::Dtype::C64), Err(UnknownDtype { found: "C64".to_owned() }));
    }

    /// Reads every element.
    struct All<'a>(&'a [u8]);

    impl Visit for All<'_> {
        type Output = Vec<f64>;

        fn visit<const BYTES: usize>(self, read: impl Fn([u8; BYTES]) -> f64) -> Vec<f64> {
            self.0.as_chunks::<BYTES>().0.iter().map(|&element| read(element)).collect()
        }
    }

    #[test]
    fn sixteen_bits_are_read_as_another_library_reads_them() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let (float16, bfloat16) = (Dtype::Float16.visit(All(&all)), Dtype::BFloat16.visit(All(&all)));
        for bits in 0..=u16::MAX {
            let at = usize::from(bits);
            for (found, expected) in [
                (float16[at], half::f16::from_bits(bits).to_f64()),
                (bfloat16[at], half::bf16::from_bits(bits).to_f64()),
            ] {
                let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                assert!(same, "{bits:#x}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn the_roundoff_is_that_of_one_and_the_next_number() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.is_float(), dtype.unit_roundoff().is_some());
            let Some(roundoff) = dtype.unit_roundoff().filter(|_| dtype.size_bytes() <= 2) else { continue };
            let all: Vec<u8> = match dtype.size_bytes() {
                1 => (0..=u8::MAX).collect(),
                _ => (0..=u16::MAX).flat_map(u16::to_le_bytes).collect(),
            };
            let above = dtype.visit(All(&all)).into_iter().filter(|&value| value > 1.0);
            assert_eq!((above.fold(f64::INFINITY, f64::min) - 1.0) / 2.0, roundoff, "{dtype}");
        }
        assert_eq!(Dtype::Float32.unit_roundoff(), Some(f64::from(f32::EPSILON) / 2.0));
        assert_eq!(Dtype::Float64.unit_roundoff(), Some(f64::EPSILON / 2.0));
    }
}
