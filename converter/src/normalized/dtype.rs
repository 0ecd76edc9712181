//! The dtypes that weights have: those rows of the table of dtypes that the converter reads and writes.

use std::fmt;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use store::Dtype;

/// A floating-point dtype under the name that PyTorch and Hugging Face's configurations use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TorchDtype {
    /// IEEE 754 binary32.
    Float32,
    /// The upper half of binary32: 8 exponent and 7 fraction bits.
    Bfloat16,
    /// IEEE 754 binary16.
    Float16,
}

impl TorchDtype {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Float32, Self::Bfloat16, Self::Float16];
    /// What safetensors calls them, for messages.
    pub const CODES: &str = "`F32`, `BF16` or `F16`";
    /// What configurations call them, for messages.
    pub const NAMES: &str = "`float32`, `bfloat16` or `float16`";

    /// Its row of the table.
    pub const fn row(self) -> Dtype {
        match self {
            Self::Float32 => Dtype::Float32,
            Self::Bfloat16 => Dtype::BFloat16,
            Self::Float16 => Dtype::Float16,
        }
    }

    /// The name in `config.json`: `float32`, `bfloat16` or `float16`.
    pub const fn as_str(self) -> &'static str {
        self.row().name()
    }

    /// The dtype of this name in a configuration.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.as_str() == name)
    }

    /// The dtype under its name in safetensors.
    pub const fn dtype(self) -> safetensors::Dtype {
        self.row().safetensors()
    }

    /// The dtype that safetensors calls `dtype`, if weights can have it.
    pub fn from_dtype(dtype: safetensors::Dtype) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.dtype() == dtype)
    }

    /// Size of an element in bytes.
    pub const fn elem_bytes(self) -> usize {
        self.row().size_bytes()
    }
}

impl fmt::Display for TorchDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for TorchDtype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TorchDtype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name)
            .ok_or_else(|| D::Error::custom(format!("expected {}, found `{name}`", Self::NAMES)))
    }
}

impl ValueEnum for TorchDtype {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Float32 => "IEEE 754 binary32",
            Self::Bfloat16 => "8 exponent and 7 fraction bits",
            Self::Float16 => "IEEE 754 binary16",
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_rows_of_the_table_that_weights_can_have() {
        let rows: Vec<Dtype> = Dtype::ALL.into_iter().filter(|row| row.is_of_weights()).collect();
        let mut ours = TorchDtype::ALL.map(TorchDtype::row);
        ours.sort_unstable();
        assert_eq!(rows, ours);
        let listed = |names: [String; 3]| {
            let [first, second, third] = names.map(|name| format!("`{name}`"));
            format!("{first}, {second} or {third}")
        };
        assert_eq!(TorchDtype::NAMES, listed(TorchDtype::ALL.map(|dtype| dtype.to_string())));
        assert_eq!(TorchDtype::CODES, listed(TorchDtype::ALL.map(|dtype| dtype.dtype().to_string())));
    }

    #[test]
    fn names_and_codes_lead_back() {
        for dtype in TorchDtype::ALL {
            assert_eq!(TorchDtype::named(dtype.as_str()), Some(dtype));
            assert_eq!(TorchDtype::from_dtype(dtype.dtype()), Some(dtype));
            let json = serde_json::to_string(&dtype).unwrap();
            assert_eq!(serde_json::from_str::<TorchDtype>(&json).unwrap(), dtype);
        }
        assert_eq!(TorchDtype::from_dtype(safetensors::Dtype::F64), None);
        let error = serde_json::from_str::<TorchDtype>("\"float64\"").unwrap_err().to_string();
        assert!(error.starts_with("expected `float32`, `bfloat16` or `float16`, found `float64`"), "{error}");
    }
}
