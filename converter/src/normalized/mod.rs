//! The normalized checkpoint: a folder that describes the model completely, with no Python to run.

mod checkpoint;
mod dtype;
mod layers;

pub use crate::nemotron_vl::{
    Config, FORMAT_VERSION, ImageProcessorConfig, ImageTagType, PsVersion, RopeScaling, TextConfig,
    VisionConfig,
};
pub use checkpoint::{CONFIG_FILE, Checkpoint, TensorView};
pub use dtype::TorchDtype;
pub(crate) use layers::check_layers;
