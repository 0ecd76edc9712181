//! Element types, under their torch names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An element type that a dump can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    /// `bool`, one byte an element.
    Bool,
    /// `uint8`
    UInt8,
    /// `int8`
    Int8,
    /// `float8_e5m2`
    Float8E5M2,
    /// `float8_e4m3fn`: no infinities, one NaN for each sign.
    Float8E4M3Fn,
    /// `int16`
    Int16,
    /// `uint16`
    UInt16,
    /// `float16`
    Float16,
    /// `bfloat16`
    BFloat16,
    /// `int32`
    Int32,
    /// `uint32`
    UInt32,
    /// `float32`
    Float32,
    /// `int64`
    Int64,
    /// `uint64`
    UInt64,
    /// `float64`
    Float64,
}

/// A name or code that stands for no [`Dtype`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype: expected one of {}, found `{found}`", Dtype::names())]
pub struct UnknownDtype {
    /// What was found instead.
    pub found: String,
}

impl Dtype {
    /// Every dtype.
    pub const ALL: [Dtype; 15] = [
        Dtype::Bool,
        Dtype::UInt8,
        Dtype::Int8,
        Dtype::Float8E5M2,
        Dtype::Float8E4M3Fn,
        Dtype::Int16,
        Dtype::UInt16,
        Dtype::Float16,
        Dtype::BFloat16,
        Dtype::Int32,
        Dtype::UInt32,
        Dtype::Float32,
        Dtype::Int64,
        Dtype::UInt64,
        Dtype::Float64,
    ];

    /// The torch name, as it stands in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Bool => "bool",
            Dtype::UInt8 => "uint8",
            Dtype::Int8 => "int8",
            Dtype::Float8E5M2 => "float8_e5m2",
            Dtype::Float8E4M3Fn => "float8_e4m3fn",
            Dtype::Int16 => "int16",
            Dtype::UInt16 => "uint16",
            Dtype::Float16 => "float16",
            Dtype::BFloat16 => "bfloat16",
            Dtype::Int32 => "int32",
            Dtype::UInt32 => "uint32",
            Dtype::Float32 => "float32",
            Dtype::Int64 => "int64",
            Dtype::UInt64 => "uint64",
            Dtype::Float64 => "float64",
        }
    }

    /// The size of an element in bytes.
    pub fn size_bytes(self) -> usize {
        match self {
            Dtype::Bool | Dtype::UInt8 | Dtype::Int8 | Dtype::Float8E5M2 | Dtype::Float8E4M3Fn => 1,
            Dtype::Int16 | Dtype::UInt16 | Dtype::Float16 | Dtype::BFloat16 => 2,
            Dtype::Int32 | Dtype::UInt32 | Dtype::Float32 => 4,
            Dtype::Int64 | Dtype::UInt64 | Dtype::Float64 => 8,
        }
    }

    /// Whether the elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Dtype::Float8E5M2
                | Dtype::Float8E4M3Fn
                | Dtype::Float16
                | Dtype::BFloat16
                | Dtype::Float32
                | Dtype::Float64
        )
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
        match dtype {
            Dtype::Bool => safetensors::Dtype::BOOL,
            Dtype::UInt8 => safetensors::Dtype::U8,
            Dtype::Int8 => safetensors::Dtype::I8,
            Dtype::Float8E5M2 => safetensors::Dtype::F8_E5M2,
            Dtype::Float8E4M3Fn => safetensors::Dtype::F8_E4M3,
            Dtype::Int16 => safetensors::Dtype::I16,
            Dtype::UInt16 => safetensors::Dtype::U16,
            Dtype::Float16 => safetensors::Dtype::F16,
            Dtype::BFloat16 => safetensors::Dtype::BF16,
            Dtype::Int32 => safetensors::Dtype::I32,
            Dtype::UInt32 => safetensors::Dtype::U32,
            Dtype::Float32 => safetensors::Dtype::F32,
            Dtype::Int64 => safetensors::Dtype::I64,
            Dtype::UInt64 => safetensors::Dtype::U64,
            Dtype::Float64 => safetensors::Dtype::F64,
        }
    }
}

impl TryFrom<safetensors::Dtype> for Dtype {
    type Error = UnknownDtype;

    fn try_from(dtype: safetensors::Dtype) -> Result<Self, UnknownDtype> {
        Dtype::ALL
            .into_iter()
            .find(|&known| safetensors::Dtype::from(known) == dtype)
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
            assert_eq!(safetensors::Dtype::from(dtype).bitsize(), dtype.size_bytes() * 8);
        }
    }

    #[test]
    fn an_unknown_dtype_is_refused_by_name() {
        let error = "complex64".parse::<Dtype>().unwrap_err().to_string();
        assert!(error.contains("expected one of `bool`") && error.ends_with("found `complex64`"), "{error}");
        assert_eq!(Dtype::try_from(safetensors::Dtype::C64), Err(UnknownDtype { found: "C64".to_owned() }));
    }
}
