//! The normalized checkpoint: a folder that describes the model completely, with no Python to run.

mod checkpoint;
mod config;
mod consistency;
mod dtype;
mod layers;
mod layout;
mod limits;
mod rope_scaling;
mod text;
mod vision;

pub use checkpoint::{CONFIG_FILE, Checkpoint, TensorView};
pub use config::{Config, FORMAT, FORMAT_VERSION, ImageProcessorConfig, ImageTagType, Part, PsVersion};
pub use dtype::TorchDtype;
pub(crate) use layers::{Layers, check_layers};
pub use layout::{TensorLayout, layout};
pub(crate) use limits::positive;
pub use rope_scaling::RopeScaling;
pub use text::TextConfig;
pub use vision::VisionConfig;
