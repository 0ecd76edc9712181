//! Recognises a quantized sister of the model, whose weights this program can't convert.

use safetensors::Dtype;
use serde_json::Value;

use super::files::QUANTIZATION_FILE;
use crate::architecture::Names;
use crate::error::visible;
use crate::weights::{Folder, INDEX_FILE, Weights};
use crate::{Error, json};

/// NVFP4 has scales of its scales.
const NVFP4: &str = ".weight_scale_2";
/// Ends of the names of tensors that only a quantized checkpoint has, with the scheme that each belongs to.
const SUFFIXES: [(&str, &str); 9] = [
    (NVFP4, "NVFP4"),
    (".weight_scale_inv", "FP8"),
    (".weight_scale", "FP8"),
    (".input_scale", "FP8"),
    (".qweight", "AWQ or GPTQ"),
    (".qzeros", "AWQ or GPTQ"),
    (".scales", "AWQ or GPTQ"),
    (".weight_packed", "compressed-tensors"),
    (".pre_quant_scale", "AWQ"),
];

/// Refuses a quantized checkpoint, with its scheme and its first quantized tensor.
///
/// # Errors
/// [`Error::Quantized`]; those of a `hf_quant_config.json` that is no JSON.
pub(crate) fn refuse_quantized(
    folder: &Folder,
    weights: &Weights,
    config: &Value,
    names: Names,
) -> Result<(), Error> {
    refuse(folder, config, first_tensor(weights, names))
}

/// Refuses a quantized checkpoint of which the small files are there and no weights yet: by its configuration, or by the names
/// in its index.
///
/// # Errors
/// As [`refuse_quantized`]; those of an index that is no JSON.
pub(super) fn refuse_before_weights(folder: &Folder, config: &Value) -> Result<(), Error> {
    let mut tensor = None;
    if folder.has(INDEX_FILE) {
        let index: Value = json::parse(&folder.file_path(INDEX_FILE), &folder.read(INDEX_FILE)?)?;
        let mut names: Vec<&str> = index
            .get("weight_map")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|map| map.keys().map(String::as_str))
            .collect();
        names.sort_unstable();
        let is_nvfp4 = names.iter().any(|name| name.ends_with(NVFP4));
        tensor = names.iter().find_map(|name| {
            let scheme = by_name(name)?;
            Some((quoted(name), if is_nvfp4 { "NVFP4" } else { scheme }.to_string()))
        });
    }
    refuse(folder, config, tensor)
}

/// Refuses the checkpoint if its configuration names a scheme, or there is a quantized `tensor`, which comes with its own.
fn refuse(folder: &Folder, config: &Value, tensor: Option<(String, String)>) -> Result<(), Error> {
    let Some(scheme) = scheme(folder, config)?.or_else(|| tensor.as_ref().map(|(_, scheme)| scheme.clone()))
    else {
        return Ok(());
    };
    Err(Error::Quantized {
        path: folder.path().to_path_buf(),
        scheme: visible(&scheme),
        tensor: tensor.map_or("none of them".into(), |(tensor, _)| tensor),
    })
}

/// The scheme that a configuration names.
fn scheme(folder: &Folder, config: &Value) -> Result<Option<String>, Error> {
    let of_model = ["", "/llm_config", "/vision_config", "/text_config"]
        .iter()
        .find_map(|place| named(config.pointer(&format!("{place}/quantization_config"))?));
    if of_model.is_some() || !folder.has(QUANTIZATION_FILE) {
        return Ok(of_model);
    }
    let path = folder.file_path(QUANTIZATION_FILE);
    let file: Value = json::parse(&path, &folder.read(QUANTIZATION_FILE)?)?;
    Ok(named(file.get("quantization").unwrap_or(&file)))
}

/// `quant_algo` says more than `quant_method`, which may be the tool's name.
fn named(quantization: &Value) -> Option<String> {
    let fields = quantization.as_object().filter(|fields| !fields.is_empty())?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_string);
    let scheme = text("quant_algo").or_else(|| text("quant_method"));
    match scheme {
        Some(scheme) => Some(scheme),
        // Nothing but `null`s: not quantized.
        None if fields.values().all(Value::is_null) => None,
        None => Some("a scheme without a name".into()),
    }
}

/// The first tensor that is quantized, or belongs to one that is, with what it tells of the scheme.
fn first_tensor(weights: &Weights, names: Names) -> Option<(String, String)> {
    let is_nvfp4 = weights.iter().any(|tensor| tensor.name.ends_with(NVFP4));
    weights.iter().find_map(|tensor| {
        let by_dtype = match tensor.dtype {
            Dtype::F8_E4M3 | Dtype::F8_E5M2 => Some("FP8"),
            Dtype::U8 | Dtype::I8 | Dtype::I32 => Some("packed integers"),
            _ => None,
        };
        // A buffer may well be of integers.
        let is_buffer = names.is_buffer(tensor.name);
        let scheme = by_name(tensor.name).or(by_dtype).filter(|_| !is_buffer)?;
        let scheme = if is_nvfp4 { "NVFP4" } else { scheme };
        Some((format!("{} of dtype `{}`", quoted(tensor.name), tensor.dtype), scheme.to_string()))
    })
}

/// The scheme that the end of a tensor's name tells.
fn by_name(name: &str) -> Option<&'static str> {
    SUFFIXES.iter().find(|(suffix, _)| name.ends_with(suffix)).map(|(_, scheme)| *scheme)
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.escape_debug())
}
