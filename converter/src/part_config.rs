//! The normalized configuration of the whole model beside a part of it: with a field `part` at its end.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde_json::Value;
use store::json::show;

use crate::architecture::Part;
use crate::normalized::Config;
use crate::{Error, json};

/// The name of the field.
const FIELD: &str = "part";

/// The content of the file.
pub(crate) fn to_json(config: &Config, part: Part) -> Value {
    let mut json = serde_json::to_value(config).unwrap_or_default();
    if let Some(fields) = json.as_object_mut() {
        fields.insert(FIELD.into(), part.as_str().into());
    }
    json
}

/// The configuration in `text`, the content of the file at `path` beside `part`.
///
/// # Errors
/// Where it is of another part, or no normalized configuration.
pub(crate) fn parse(path: &Path, text: &[u8], part: Part) -> Result<Config, Error> {
    let Beside { part: found, config } = json::parse(path, text)?;
    if found != Some(part.as_str().into()) {
        let found = found.map_or("no such field".into(), |found| format!("`{}`", show(&found)));
        return Err(Error::field(path, FIELD, format!("`\"{part}\"`"), found));
    }
    config.validate(path)?;
    Ok(config)
}

/// The content of the file, read in one pass, so that a failure has its line and column in the file.
struct Beside {
    part: Option<Value>,
    config: Config,
}

impl<'de> Deserialize<'de> for Beside {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BesideVisitor)
    }
}

struct BesideVisitor;

impl<'de> Visitor<'de> for BesideVisitor {
    type Value = Beside;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Beside, A::Error> {
        let mut fields = WithoutPart { fields, part: None };
        let config = Config::deserialize(MapAccessDeserializer::new(&mut fields))?;
        Ok(Beside { part: fields.part, config })
    }
}

/// The fields of the configuration: the other one is set aside.
struct WithoutPart<A> {
    fields: A,
    part: Option<Value>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutPart<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.fields.next_key::<String>()? {
            if key != FIELD {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.part = Some(self.fields.next_value()?);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.fields.next_value_seed(seed)
    }
}
