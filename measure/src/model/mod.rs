//! What is known of the model whose dumps are compared: one embedded file a family, `models/*.toml`.

mod file;
mod role;

use std::sync::LazyLock;

pub use file::Model;
pub use role::SiteRole;

static NEMOTRON_VL: LazyLock<Model> =
    LazyLock::new(|| Model::parse(include_str!("../../models/nemotron-vl.toml")).unwrap_or_default());

/// The model.
pub fn model() -> &'static Model {
    &NEMOTRON_VL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read() {
        let model = Model::parse(include_str!("../../models/nemotron-vl.toml")).unwrap();
        assert_eq!(model.role("pixel_values"), Some(SiteRole::Pixels));
        assert_eq!(model.role("language_model.model.layers.3.self_attn.q_proj"), Some(SiteRole::Queries));
        assert_eq!(model.role("vision_model.radio_model.model.blocks.0.attn.qkv"), Some(SiteRole::FusedQkv));
        assert_eq!(model.role("mlp1.3"), Some(SiteRole::Projector));
        assert_eq!(model.role("language_model.lm_head"), None);
        assert!(model.is_tiled("mlp1.0") && !model.is_tiled("inputs_embeds"));
    }
}
