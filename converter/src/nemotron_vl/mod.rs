//! Everything of Llama-3.1-Nemotron-Nano-VL: its names, its tensors, its configuration, its parts.

mod buffers;
mod code_revisions;
mod config;
mod describe;
mod layout;
mod names;
mod parts;

pub use buffers::Buffers;
pub(crate) use code_revisions::recognise;
pub(crate) use config::positive;
pub use config::{
    Config, FORMAT, FORMAT_VERSION, ImageProcessorConfig, ImageTagType, PsVersion, RopeScaling, TextConfig,
    VisionConfig,
};

use crate::architecture::{Architecture, Duplicate, LayerNames, RepeatedLayers};

/// The only `model_type` and architecture of its sources.
pub(crate) const MODEL: &str = "Llama_Nemotron_Nano_VL";

/// The family.
pub static ARCHITECTURE: Architecture = Architecture {
    format: FORMAT,
    model_type: MODEL,
    names: names::NAMES,
    layout: layout::layout,
    layers,
    fused: |_| Vec::new(),
    duplicates: |config| if config.text_config.tie_word_embeddings { &TIED } else { &[] },
    modules: &["vision_model", "multi_modal_projector", "language_model"],
    describe: describe::describe,
    parts: parts::PARTS,
};

/// An output matrix beside tied embeddings: releases of transformers disagree on which of the two they use.
static TIED: [Duplicate; 1] = [Duplicate {
    name: "language_model.lm_head.weight",
    of: "language_model.model.embed_tokens.weight",
    reason: "equal to `language_model.model.embed_tokens.weight`, which `tie_word_embeddings` uses in its place",
    must_equal: "`tie_word_embeddings` is true, and releases of transformers disagree on which is used",
}];

fn layers(config: &Config) -> Vec<RepeatedLayers> {
    const TEXT: &str = "language_model.model.layers.";
    vec![
        RepeatedLayers {
            configured: config.text_config.num_hidden_layers,
            in_source: LayerNames { field: "llm_config.num_hidden_layers", prefix: TEXT },
            in_normalized: LayerNames { field: "text_config.num_hidden_layers", prefix: TEXT },
        },
        RepeatedLayers {
            configured: config.vision_config.num_hidden_layers,
            in_source: LayerNames {
                field: "vision_config.args.model_kwargs.depth",
                prefix: "vision_model.radio_model.model.blocks.",
            },
            in_normalized: LayerNames {
                field: "vision_config.num_hidden_layers",
                prefix: "vision_model.encoder.layer.",
            },
        },
    ]
}
