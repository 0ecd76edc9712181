//! Whether a folder holds the model that this program converts at all.

use std::path::Path;

use serde_json::Value;
use store::json;

use super::FORMAT;
use crate::Error;
use crate::error::visible;

/// The only `model_type` and architecture that is supported.
pub(crate) const MODEL: &str = "Llama_Nemotron_Nano_VL";

/// Refuses the `config.json` at `path` of any other model, by its name.
pub(crate) fn check_model(path: &Path, config: &Value) -> Result<(), Error> {
    let refuse = |field: &str, expected: String, reason: &str| {
        let found = config.get(field).map_or("none".into(), |value| format!("`{}`", json::show(value)));
        Err(Error::unsupported(path, field, expected, visible(&found), reason))
    };
    if config.get("format") == Some(&FORMAT.into()) {
        return refuse("format", "no such field".into(), "this checkpoint is normalized already");
    }
    const REASON: &str = "only this model is supported";
    if config.get("model_type") != Some(&MODEL.into()) {
        return refuse("model_type", format!("`\"{MODEL}\"`"), REASON);
    }
    match config.get("architectures") {
        None | Some(Value::Null) => Ok(()),
        Some(architectures) if *architectures == Value::from(vec![MODEL]) => Ok(()),
        Some(_) => refuse("architectures", format!("`[\"{MODEL}\"]`"), REASON),
    }
}
