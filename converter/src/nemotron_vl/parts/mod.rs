//! A part of the model as transformers' own class for it loads it: `RadioModel` the tower, `LlamaForCausalLM` the
//! language model.

mod buffers;
mod config;
mod names;

pub use buffers::Buffer;
pub(crate) use buffers::buffers;
pub(crate) use config::{check_vision, config_file, position_warning};
pub(crate) use names::{PartName, name_in};

/// The file of a part that has the normalized configuration of the whole model; its `config.json` is transformers'.
pub const WHOLE_CONFIG_FILE: &str = "nemotron_vl_config.json";
/// The file of the vision part that has the projector, which transformers' class for the tower does not.
pub const PROJECTOR_FILE: &str = "multi_modal_projector.safetensors";
