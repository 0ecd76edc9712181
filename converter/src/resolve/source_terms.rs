//! Failures of the normalized configuration under the names of the source's fields.

use std::path::Path;

use crate::Error;

/// The names that the source has for fields of the normalized configuration.
const SOURCE_FIELDS: &[(&str, &str)] = &[
    ("text_config", "llm_config"),
    ("vision_hidden_size", "vit_hidden_size"),
    ("image_seq_length", "downsample_ratio"),
    ("vision_config.hidden_size", "vision_config.args.model_kwargs.embed_dim"),
    ("vision_config.num_hidden_layers", "vision_config.args.model_kwargs.depth"),
    ("vision_config.num_attention_heads", "vision_config.args.model_kwargs.num_heads"),
    ("vision_config.mlp_ratio", "vision_config.args.model_kwargs.mlp_ratio"),
    ("vision_config.patch_size", "vision_config.args.model_kwargs.patch_size"),
    ("vision_config.image_size", "force_image_size"),
    ("vision_config.max_img_size", "vision_config.args.cpe_max_size"),
    ("vision_config.num_cls_tokens", "vision_config.args.teachers"),
    ("vision_config.num_registers", "vision_config.args.register_multiple and cpe_num_registers"),
    ("vision_config.summary_idxs", "vision_config.args.teachers"),
];

/// A failure of the normalized rules, under the names that the source's author knows.
pub(super) fn in_source_terms(error: Error, config: &Path, preprocessor: &Path) -> Error {
    match error {
        Error::Field { field, expected, found, .. } => match field.strip_prefix("image_processor.") {
            Some(field) => Error::field(preprocessor, field, expected, found),
            None => {
                let name = SOURCE_FIELDS.iter().find_map(|(normalized, source)| {
                    field.strip_prefix(normalized).map(|rest| format!("{source}{rest}"))
                });
                Error::field(config, name.unwrap_or(field), expected, found)
            }
        },
        other => other,
    }
}
