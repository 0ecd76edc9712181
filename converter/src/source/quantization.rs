//! Recognises a quantized sister of the model, whose weights this program can't convert.

use safetensors::Dtype;
use serde_json::Value;

use super::SourceCheckpoint;
use crate::Error;
use crate::error::without_controls;
use crate::names::{Fate, fate};

/// Where NVIDIA's ModelOpt describes what it did.
pub(super) const QUANTIZATION_FILE: &str = "hf_quant_config.json";

/// Ends of the names of tensors that only a quantized checkpoint has, with the scheme that each belongs to.
const SUFFIXES: [(&str, &str); 9] = [
    // NVFP4 has scales of its scales.
    (".weight_scale_2", "NVFP4"),
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
pub(crate) fn refuse_quantized(source: &SourceCheckpoint, config: &Value) -> Result<(), Error> {
    let tensor = first_tensor(source);
    let Some(scheme) = scheme(source, config)?.or_else(|| tensor.as_ref().map(|(_, scheme)| scheme.clone()))
    else {
        return Ok(());
    };
    Err(Error::Quantized {
        path: source.folder().path().to_path_buf(),
        scheme: without_controls(&scheme),
        tensor: tensor.map_or("none of them".into(), |(tensor, _)| tensor),
    })
}

/// The scheme that a configuration names.
fn scheme(source: &SourceCheckpoint, config: &Value) -> Result<Option<String>, Error> {
    let of_model = ["", "/llm_config", "/vision_config", "/text_config"]
        .iter()
        .find_map(|place| named(config.pointer(&format!("{place}/quantization_config"))?));
    if of_model.is_some() || !source.folder().has(QUANTIZATION_FILE) {
        return Ok(of_model);
    }
    let path = source.folder().file_path(QUANTIZATION_FILE);
    let file: Value = crate::json::parse(&path, &source.folder().read(QUANTIZATION_FILE)?)?;
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
fn first_tensor(source: &SourceCheckpoint) -> Option<(String, String)> {
    let is_nvfp4 = source.weights().iter().any(|tensor| tensor.name.ends_with(".weight_scale_2"));
    source.weights().iter().find_map(|tensor| {
        let by_name =
            SUFFIXES.iter().find(|(suffix, _)| tensor.name.ends_with(suffix)).map(|(_, scheme)| *scheme);
        let by_dtype = match tensor.dtype {
            Dtype::F8_E4M3 | Dtype::F8_E5M2 => Some("FP8"),
            Dtype::U8 | Dtype::I8 | Dtype::I32 => Some("packed integers"),
            _ => None,
        };
        // A buffer may well be of integers.
        let is_buffer = matches!(fate(tensor.name), Some((Fate::Value(_) | Fate::Skip(_), _)));
        let scheme = by_name.or(by_dtype).filter(|_| !is_buffer)?;
        let scheme = if is_nvfp4 { "NVFP4" } else { scheme };
        let tensor = format!("`{}` of dtype `{}`", tensor.name.escape_debug(), tensor.dtype);
        Some((tensor, scheme.to_string()))
    })
}
