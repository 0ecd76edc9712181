//! The normalized configuration of the whole model beside a part of it: with a field `part` at its end.

use std::path::Path;

use serde_json::{Map, Value};

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
    let mut fields: Map<String, Value> = json::parse(path, text)?;
    let found = fields.remove(FIELD);
    if found != Some(part.as_str().into()) {
        let found = found.map_or("no such field".into(), |found| format!("`{found}`"));
        return Err(Error::field(path, FIELD, format!("`\"{part}\"`"), found));
    }
    let config: Config = json::parse(path, Value::Object(fields).to_string().as_bytes())?;
    config.validate(path)?;
    Ok(config)
}
