//! The model families that the converter knows, and which of them a `config.json` is of.

use std::path::Path;

use serde_json::Value;
use store::json;

use crate::Error;
use crate::architecture::Architecture;
use crate::error::visible;
use crate::nemotron_vl;

/// Every family.
pub static FAMILIES: [&Architecture; 1] = [&nemotron_vl::ARCHITECTURE];

/// The family of the source whose `config.json`, at `path`, is `config`.
///
/// # Errors
/// [`Error::Unsupported`] for another model, by its name, and for a checkpoint that is normalized already.
pub fn of_source(path: &Path, config: &Value) -> Result<&'static Architecture, Error> {
    let refuse = |field: &str, expected: String, reason: &str| {
        let found = config.get(field).map_or("none".into(), |value| format!("`{}`", json::show(value)));
        Err(Error::unsupported(path, field, expected, visible(&found), reason))
    };
    if FAMILIES.iter().any(|family| config.get("format") == Some(&family.format.into())) {
        return refuse("format", "no such field".into(), "this checkpoint is normalized already");
    }
    const REASON: &str = "only this model is supported";
    let is_of = |family: &&&Architecture| config.get("model_type") == Some(&family.model_type.into());
    let Some(family) = FAMILIES.iter().find(is_of) else {
        return refuse("model_type", listed(|family| format!("`\"{}\"`", family.model_type)), REASON);
    };
    match config.get("architectures") {
        None | Some(Value::Null) => Ok(family),
        Some(architectures) if *architectures == Value::from(vec![family.model_type]) => Ok(family),
        Some(_) => refuse("architectures", format!("`[\"{}\"]`", family.model_type), REASON),
    }
}

/// The family of the normalized checkpoint whose `config.json`, at `path`, has this `format`.
///
/// # Errors
/// [`Error::Field`] for another format.
pub fn of_normalized(path: &Path, format: Option<&Value>) -> Result<&'static Architecture, Error> {
    let family = FAMILIES.iter().find(|family| format == Some(&family.format.into()));
    family.copied().ok_or_else(|| {
        let found = format.map_or("no such field".into(), |format| format!("`{format}`"));
        Error::field(path, "format", listed(|family| format!("`\"{}\"`", family.format)), found)
    })
}

/// What every family has here, for a message.
fn listed(of: impl Fn(&Architecture) -> String) -> String {
    FAMILIES.map(of).join(" or ")
}
