//! `llm_config` to `text_config`: every default of transformers' `LlamaConfig` made explicit.

use serde_json::Value;

use super::dtype::dtype;
use super::fields::{Fields, equal_in_python, show};
use super::findings::{BOOKKEEPING, Findings, GENERATION};
use super::rope::rope;
use crate::Error;
use crate::normalized::{TextConfig, TorchDtype};
use crate::source::CONFIG_FILE;

/// Whose defaults these are.
const CLASS: &str = "transformers LlamaConfig";

/// Resolves `llm_config`; `outer_dtype` is that of the whole model.
pub(super) fn text_config(
    fields: &Fields<'_>,
    outer_dtype: Option<TorchDtype>,
    findings: &mut Findings,
) -> Result<TextConfig, Error> {
    let (architectures, model_type) = llama(fields)?;
    refuse_unsupported_parts(fields)?;

    let mut defaults = Defaults { fields, findings };
    let hidden_size = defaults.size("hidden_size", 4096)?;
    let num_attention_heads = defaults.size("num_attention_heads", 32)?;
    let num_key_value_heads = match fields.size("num_key_value_heads")? {
        Some(heads) => heads,
        None => defaults.give("num_key_value_heads", num_attention_heads),
    };
    let head_dim = defaults.head_dim(hidden_size, num_attention_heads)?;
    let hidden_act = defaults.hidden_act()?;
    let rope = rope(fields, defaults.findings)?;
    let rope_theta = match rope.theta {
        Some(theta) => theta,
        None => {
            fields.refuse_null("rope_theta", "a number")?;
            defaults.give("rope_theta", 10_000.0)
        }
    };

    let config = TextConfig {
        architectures,
        model_type: model_type.into(),
        vocab_size: defaults.size("vocab_size", 32_000)?,
        hidden_size,
        intermediate_size: defaults.size("intermediate_size", 11_008)?,
        num_hidden_layers: defaults.size("num_hidden_layers", 32)?,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        hidden_act: hidden_act.into(),
        max_position_embeddings: defaults.size("max_position_embeddings", 2048)?,
        initializer_range: defaults.unused_number("initializer_range", 0.02),
        rms_norm_eps: defaults.number("rms_norm_eps", 1e-6)?,
        rope_theta,
        rope_scaling: rope.scaling,
        attention_bias: defaults.flag("attention_bias", false)?,
        attention_dropout: defaults.unused_number("attention_dropout", 0.0),
        mlp_bias: defaults.flag("mlp_bias", false)?,
        tie_word_embeddings: defaults.flag("tie_word_embeddings", false)?,
        bos_token_id: defaults.token("bos_token_id", Some(1))?,
        eos_token_id: eos_token_ids(fields, defaults.findings)?,
        pad_token_id: defaults.token("pad_token_id", None)?,
        pretraining_tp: defaults.size("pretraining_tp", 1)?,
        use_cache: defaults.flag("use_cache", true)?,
        torch_dtype: match dtype(fields, &["dtype", "torch_dtype"])?.or(outer_dtype) {
            Some(dtype) => dtype,
            None => {
                defaults.give("torch_dtype", "float32");
                TorchDtype::Float32
            }
        },
    };
    if config.pretraining_tp != 1 {
        findings.warnings.push(format!(
            "`{CONFIG_FILE}`: `{}` is {}: older releases of transformers then summed in slices; the plain product is meant here",
            fields.name("pretraining_tp"),
            config.pretraining_tp
        ));
    }
    warn_of_generation(fields, findings);
    findings.ignore_rest(CONFIG_FILE, fields, BOOKKEEPING);
    Ok(config)
}

/// The architecture and the model type, which are Llama's, be they written or not; another model is refused.
fn llama<'a>(fields: &Fields<'a>) -> Result<(Vec<String>, &'a str), Error> {
    let architectures = fields.texts("architectures")?.unwrap_or_else(|| vec!["LlamaForCausalLM".into()]);
    if architectures != ["LlamaForCausalLM"] {
        let reason = "only Llama is supported as the language model";
        return Err(fields.unsupported("architectures", "`[\"LlamaForCausalLM\"]`", reason));
    }
    let model_type = fields.text("model_type")?.unwrap_or("llama");
    if model_type != "llama" {
        let reason = "only Llama is supported as the language model";
        return Err(fields.unsupported("model_type", "`llama`", reason));
    }
    Ok((architectures, model_type))
}

/// Refuses what would make another computation of the same tensors.
fn refuse_unsupported_parts(fields: &Fields<'_>) -> Result<(), Error> {
    fields.refuse("quantization_config", &[], "quantized weights are not supported")?;
    fields.refuse("sliding_window", &[], "windowed attention is not supported")?;
    fields.refuse("layer_types", &[], "layers of different kinds are not supported")?;
    fields.refuse("num_experts", &[], "experts are not supported")?;
    fields.refuse("pruned_heads", &[], "pruned heads are not supported")?;
    fields.refuse("partial_rotary_factor", &[1.0.into()], "rotating part of a head is not supported")
}

/// Lists the settings of generation, with a warning for those that are not the default.
fn warn_of_generation(fields: &Fields<'_>, findings: &mut Findings) {
    let mut others = Vec::new();
    for &(name, default) in GENERATION {
        let default: Value = serde_json::from_str(default).unwrap_or_default();
        match fields.value(name) {
            Some(value) if !equal_in_python(value, &default) => {
                others.push(format!("`{}`", fields.name(name)));
                findings.ignore(CONFIG_FILE, fields.name(name), false);
            }
            _ => fields.unused(name),
        }
    }
    if !others.is_empty() {
        findings.warnings.push(format!(
            "`{CONFIG_FILE}`: ignored, though transformers' `generate` would choose tokens by them: {}",
            others.join(", ")
        ));
    }
}

/// `eos_token_id`: a number, a list, or nothing.
fn eos_token_ids(fields: &Fields<'_>, findings: &mut Findings) -> Result<Vec<u32>, Error> {
    const NAME: &str = "eos_token_id";
    if !fields.is_written(NAME) {
        findings.library_default("text_config.eos_token_id", vec![2], CLASS);
        return Ok(vec![2]);
    }
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let Some(value) = fields.value(NAME) else { return Ok(Vec::new()) };
    let ids = match value {
        Value::Array(ids) => ids.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    };
    ids.ok_or_else(|| fields.wrong(NAME, "a token's id or a list of them", show(value)))
}

/// Reads fields whose absence means a default of the class, and records each default.
struct Defaults<'f, 'a> {
    fields: &'f Fields<'a>,
    findings: &'f mut Findings,
}

impl Defaults<'_, '_> {
    /// The width of a head: an even share of the whole width where the file says none, which it then has to be.
    fn head_dim(&mut self, hidden_size: usize, num_attention_heads: usize) -> Result<usize, Error> {
        match self.fields.size("head_dim")? {
            Some(head_dim) => Ok(head_dim),
            None if num_attention_heads == 0 || !hidden_size.is_multiple_of(num_attention_heads) => {
                let expected =
                    format!("a multiple of `num_attention_heads`, {num_attention_heads}, or `head_dim`");
                Err(self.fields.wrong("hidden_size", expected, format!("`{hidden_size}`")))
            }
            None => Ok(self.give("head_dim", hidden_size / num_attention_heads)),
        }
    }

    /// The activation of the MLP: the one that is supported, since weights do not show another.
    fn hidden_act(&mut self) -> Result<&'static str, Error> {
        const SILU: &str = "silu";
        match self.fields.text("hidden_act")? {
            Some(SILU) => Ok(SILU),
            Some(_) => {
                let reason = "another activation of the MLP is not supported";
                Err(self.fields.unsupported("hidden_act", "`silu`", reason))
            }
            None => {
                self.fields.refuse_null("hidden_act", "a text")?;
                Ok(self.give("hidden_act", SILU))
            }
        }
    }

    fn give<T: Copy + Into<Value>>(&mut self, name: &str, value: T) -> T {
        self.findings.library_default(&format!("text_config.{name}"), value, CLASS);
        value
    }

    fn size(&mut self, name: &str, default: usize) -> Result<usize, Error> {
        self.fields.refuse_null(name, "a whole number")?;
        Ok(self.fields.size(name)?.unwrap_or_else(|| self.give(name, default)))
    }

    fn number(&mut self, name: &str, default: f64) -> Result<f64, Error> {
        self.fields.refuse_null(name, "a number")?;
        Ok(self.fields.number(name)?.unwrap_or_else(|| self.give(name, default)))
    }

    /// A number without influence: one that no file can hold is listed, and the default stands in its place.
    fn unused_number(&mut self, name: &str, default: f64) -> f64 {
        match self.fields.number(name) {
            Ok(Some(number)) => number,
            _ => {
                self.fields.unused(name);
                self.give(name, default)
            }
        }
    }

    fn flag(&mut self, name: &str, default: bool) -> Result<bool, Error> {
        Ok(self.fields.truth(name)?.unwrap_or_else(|| self.give(name, default)))
    }

    /// A written `null` means that there is no such token.
    fn token(&mut self, name: &str, default: Option<u32>) -> Result<Option<u32>, Error> {
        if self.fields.is_written(name) {
            return self.fields.token(name);
        }
        self.findings.library_default(&format!("text_config.{name}"), default, CLASS);
        Ok(default)
    }
}
