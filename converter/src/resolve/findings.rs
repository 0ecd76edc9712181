//! What was found out beside the configuration itself: behaviours, defaults, fields without influence, warnings.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::{Fields, Unasked};
use crate::source::{Behaviour, CodeFile, Evidence};

/// What the resolution of a configuration has to say about it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// Behaviours that came from Python code.
    pub behaviours: Vec<Behaviour>,
    /// Fields of the normalized configuration that the source doesn't write, and that a library's default gave.
    pub defaults: Vec<DefaultedField>,
    /// Fields of the source that were not used.
    pub ignored: Vec<IgnoredField>,
    /// Files of other repositories' code that were read.
    pub code: Vec<ReadCode>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A file of another repository's code that was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadCode {
    /// `owner/name`.
    pub repository: String,
    /// The commit, as the cache has it.
    pub revision: String,
    /// The file.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
}

/// A field that a documented default of a library gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultedField {
    /// Dotted path in the normalized configuration.
    pub field: String,
    /// The value.
    pub value: Value,
    /// Whose default.
    pub default_of: String,
}

/// A field of the source that was not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgnoredField {
    /// The file.
    pub file: String,
    /// Dotted path.
    pub field: String,
    /// Whether this program knows that the field has no influence on inference.
    pub known: bool,
}

impl Findings {
    pub(super) fn behaviour(&mut self, name: &str, value: impl Into<Value>, evidence: Evidence) {
        self.behaviours.push(Behaviour { name: name.into(), value: value.into(), evidence });
    }

    /// Notes code of another repository that is read.
    pub(super) fn read_code(&mut self, file: &CodeFile) {
        let Some((repository, revision)) = file.origin.clone() else { return };
        let read = ReadCode { repository, revision, file: file.name.clone(), sha256: file.sha256.clone() };
        if let Err(place) = self.code.binary_search(&read) {
            self.code.insert(place, read);
        }
    }

    /// A value that the model's own Python class gives where the source's field is absent.
    pub(super) fn assumed_default(&mut self, name: &str, field: &str, value: impl Into<Value>, class: &str) {
        let evidence = Evidence::Assumed {
            reason: format!("`{field}` is absent; the default of `{class}`"),
            settled_by: format!("the field `{field}`, once written,"),
        };
        self.behaviour(name, value, evidence);
    }

    pub(super) fn library_default(&mut self, field: &str, value: impl Into<Value>, class: &str) {
        self.defaults.push(DefaultedField {
            field: field.into(),
            value: value.into(),
            default_of: class.into(),
        });
    }

    /// Lists a field of `file` that was not used.
    pub(super) fn ignore(&mut self, file: &str, field: String, known: bool) {
        self.ignored.push(IgnoredField { file: file.into(), field, known });
    }

    /// Lists what nobody asked for, here and inside; a field that is neither in `known` nor `null` is worth a warning.
    pub(super) fn ignore_rest(&mut self, file: &str, fields: &Fields<'_>, known: &[&str]) {
        let mut unknown = Vec::new();
        for field in fields.take_unasked() {
            let is_known = field.is_unused || known.contains(&field.name.as_str());
            if !is_known {
                unknown.push(format!("`{}`", field.path));
            }
            self.ignore(file, field.path, is_known);
        }
        if !unknown.is_empty() {
            self.warnings.push(format!(
                "`{file}`: {} ignored, because this program does not know what they do: {}",
                if unknown.len() == 1 { "1 field was" } else { "these fields were" },
                unknown.join(", ")
            ));
        }
    }

    /// Lists what nobody asked for, here and inside, as known to have no influence.
    pub(super) fn ignore_all(&mut self, file: &str, fields: &Fields<'_>) {
        for Unasked { path, .. } in fields.take_unasked() {
            self.ignore(file, path, true);
        }
    }
}

/// Fields of transformers' `PretrainedConfig`, and of tools that write it, that do not change what a forward pass computes.
pub(super) const BOOKKEEPING: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_from_model_config",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "is_composition",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// Settings of generation that transformers takes from a language model's configuration, each with its default, as JSON. Other
/// values change which tokens its `generate` chooses, and nothing that a forward pass computes.
///
/// # Source
/// transformers 4.57, `PretrainedConfig._get_global_generation_defaults` and `GenerationConfig.from_model_config`
pub(super) const GENERATION: &[(&str, &str)] = &[
    ("bad_words_ids", "null"),
    ("begin_suppress_tokens", "null"),
    ("diversity_penalty", "0"),
    ("do_sample", "false"),
    ("early_stopping", "false"),
    ("encoder_no_repeat_ngram_size", "0"),
    ("exponential_decay_length_penalty", "null"),
    ("forced_bos_token_id", "null"),
    ("forced_eos_token_id", "null"),
    ("length_penalty", "1"),
    ("min_length", "0"),
    ("no_repeat_ngram_size", "0"),
    ("num_beam_groups", "1"),
    ("num_beams", "1"),
    ("num_return_sequences", "1"),
    ("repetition_penalty", "1"),
    ("suppress_tokens", "null"),
    ("temperature", "1"),
    ("top_k", "50"),
    ("top_p", "1"),
    ("typical_p", "1"),
];
