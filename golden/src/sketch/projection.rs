//! A projection and the text that stands for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::short::{self, SHORT, SHORT_BYTES};
use super::sizes::BLOCK;

/// The numbers of a random projection: [`BLOCK`], or half as many in a short sketch.
///
/// In JSON it is the base64 of their little-endian bytes, of which those of a short one have the upper five.
#[derive(Clone, PartialEq)]
pub struct Projection(pub Vec<f64>);

impl std::fmt::Debug for Projection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Projection([{:e}, …])", self.0.first().copied().unwrap_or_default())
    }
}

impl Serialize for Projection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let dropped = if self.0.len() == SHORT { size_of::<f64>() - SHORT_BYTES } else { 0 };
        let bytes: Vec<u8> =
            self.0.iter().flat_map(|value| value.to_le_bytes().into_iter().skip(dropped)).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Projection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        const WHOLE: usize = BLOCK * size_of::<f64>();
        const HALF: usize = SHORT * SHORT_BYTES;
        let text = String::deserialize(deserializer)?;
        let expected = || format!("expected {WHOLE} or {HALF} bytes in base64");
        let bytes =
            STANDARD.decode(&text).map_err(|error| D::Error::custom(format!("{}: {error}", expected())))?;
        Ok(Projection(match bytes.len() {
            WHOLE => bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
            HALF => bytes.as_chunks().0.iter().map(|&upper| short::from_upper(upper)).collect(),
            found => return Err(D::Error::custom(format!("{}, found {found} bytes", expected()))),
        }))
    }
}
