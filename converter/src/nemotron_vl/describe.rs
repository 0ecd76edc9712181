//! The model in a few lines: what an engine has to build.

use super::{Config, ImageTagType, PsVersion, RopeScaling, TextConfig, VisionConfig};

/// Each line with its label, which is empty where a line goes on with what is above it.
pub(super) fn describe(config: &Config) -> Vec<(&'static str, String)> {
    let [sizes, positions, ends] = tower(&config.vision_config);
    let [layers, embeddings] = language_model(&config.text_config);
    vec![
        ("tower", sizes),
        ("", positions),
        ("", ends),
        ("projector", projector(config)),
        ("language model", layers),
        ("", embeddings),
        ("pictures", pictures(config)),
        ("prompt", prompt(config)),
    ]
}

/// The tower's sizes, its table of positions and what its blocks end with.
fn tower(tower: &VisionConfig) -> [String; 3] {
    let side = tower.max_img_size / tower.patch_size;
    [
        format!(
            "C-RADIO, {} blocks, width {}, {} heads, MLP {}, {}",
            tower.num_hidden_layers,
            tower.hidden_size,
            tower.num_attention_heads,
            tower.intermediate_size(),
            tower.dtype
        ),
        format!(
            "patches of {} pixels, positions {side} x {side}, {} class tokens and {} registers",
            tower.patch_size, tower.num_cls_tokens, tower.num_registers
        ),
        format!(
            "{}, {}",
            if tower.model_norm { "a final norm" } else { "no final norm" },
            if tower.layerscale_value.is_some() { "LayerScale" } else { "no LayerScale" }
        ),
    ]
}

/// How features of the tower become those of the language model: the shuffle and the three widths.
fn projector(config: &Config) -> String {
    format!(
        "pixel shuffle {} by {}, then {} to {} to {}",
        match config.ps_version {
            PsVersion::V1 => "v1",
            PsVersion::V2 => "v2",
        },
        config.shuffle_factor(),
        config.projector_input_size(),
        config.projector_hidden_size,
        config.text_config.hidden_size
    )
}

/// The language model's sizes and its rotary embedding, which is scaled by one of several rules or by none.
fn language_model(text: &TextConfig) -> [String; 2] {
    let scaling = match &text.rope_scaling {
        None => "not scaled".to_string(),
        Some(RopeScaling::Linear { factor }) => format!("linear scaling by {factor}"),
        Some(RopeScaling::Dynamic { factor, .. }) => format!("dynamic scaling by {factor}"),
        Some(RopeScaling::Llama3 { factor, .. }) => format!("llama3 scaling by {factor}"),
        Some(RopeScaling::Yarn { factor, .. }) => format!("yarn scaling by {factor}"),
    };
    [
        format!(
            "Llama, {} layers, width {}, {} query and {} key-value heads of {}, MLP {}",
            text.num_hidden_layers,
            text.hidden_size,
            text.num_attention_heads,
            text.num_key_value_heads,
            text.head_dim,
            text.intermediate_size
        ),
        format!(
            "vocabulary {}, {} positions, rotary base {}, {scaling}, {} embeddings, {}",
            text.vocab_size,
            text.max_position_embeddings,
            text.rope_theta,
            if text.tie_word_embeddings { "tied" } else { "untied" },
            text.torch_dtype
        ),
    ]
}

/// What is done to a picture before the tower, and how many tokens each tile of it costs.
fn pictures(config: &Config) -> String {
    let pictures = &config.image_processor;
    format!(
        "enlarged by {}, up to {} tiles of {} x {} pixels{}, {} tokens a tile",
        pictures.upscale_factor,
        pictures.max_num_tiles,
        pictures.image_size,
        pictures.image_size,
        if pictures.use_thumbnail { " and a thumbnail" } else { "" },
        config.image_seq_length
    )
}

/// How a picture is written in a prompt, so that a prompt made by hand has the same tokens.
fn prompt(config: &Config) -> String {
    let tile_tags = match config.image_tag_type {
        ImageTagType::Internvl => "",
        ImageTagType::Nvlm => ", with a tag before each tile",
    };
    format!(
        "{}{}…{} (token {}){tile_tags}",
        config.image_start_token, config.image_token, config.image_end_token, config.image_token_id
    )
}
