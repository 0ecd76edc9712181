//! A projection and the text that stands for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sizes::BLOCK;

/// The numbers of a random projection; in JSON the base64 of their little-endian bytes.
#[derive(Clone, Copy, PartialEq)]
pub struct Projection(pub [f64; BLOCK]);

impl std::fmt::Debug for Projection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Projection([{:e}, …])", self.0[0])
    }
}

impl Serialize for Projection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|value| value.to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Projection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let text = String::deserialize(deserializer)?;
        let expected = || format!("expected {} bytes in base64", BLOCK * size_of::<f64>());
        let bytes =
            STANDARD.decode(&text).map_err(|error| D::Error::custom(format!("{}: {error}", expected())))?;
        let (values, rest) = bytes.as_chunks::<{ size_of::<f64>() }>();
        let values: [[u8; 8]; BLOCK] = match values.try_into() {
            Ok(values) if rest.is_empty() => values,
            _ => return Err(D::Error::custom(format!("{}, found {} bytes", expected(), bytes.len()))),
        };
        Ok(Projection(values.map(f64::from_le_bytes)))
    }
}
