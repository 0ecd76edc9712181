//! The files of a checkpoint beside its weights.

use crate::weights::INDEX_FILE;

/// The file that describes the model.
pub const CONFIG_FILE: &str = "config.json";
/// The file that describes how a picture becomes tiles.
pub const PREPROCESSOR_FILE: &str = "preprocessor_config.json";
/// The tokenizer.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The tokenizer's settings.
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
/// The chat template, where it has a file of its own.
pub const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";
/// Settings of generation.
pub const GENERATION_CONFIG_FILE: &str = "generation_config.json";

/// Where NVIDIA's ModelOpt describes what it did.
pub(super) const QUANTIZATION_FILE: &str = "hf_quant_config.json";

/// Files without which there is no model, beside its configuration.
pub(super) const NEEDED: [&str; 3] = [PREPROCESSOR_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE];
/// Files that are read where they are there.
pub(super) const OPTIONAL: [&str; 5] =
    ["special_tokens_map.json", CHAT_TEMPLATE_FILE, GENERATION_CONFIG_FILE, INDEX_FILE, QUANTIZATION_FILE];
