//! A part of the model as transformers' own class for it loads it: `RadioModel` the tower, `LlamaForCausalLM` the
//! language model.

mod buffers;
mod config;
mod names;

use crate::architecture::{Apart, Part, Parts};

/// The file of the vision part that has the projector, which transformers' class for the tower does not.
const PROJECTOR: Apart =
    Apart { file: "multi_modal_projector.safetensors", prefix: "multi_modal_projector." };

pub(super) const PARTS: Parts = Parts {
    whole_config_file: "nemotron_vl_config.json",
    name: names::name_in,
    buffers: buffers::buffers,
    apart: |part| (part == Part::Vision).then_some(PROJECTOR),
    config_file: config::config_file,
    check: config::check,
    warning: config::position_warning,
};
