//! Everything of Llama-3.1-Nemotron-Nano-VL: its names, its tensors, its configuration, its parts.

mod buffers;
mod config;
mod identity;
mod layout;
pub mod names;
pub mod parts;

pub use buffers::Buffers;
pub(crate) use config::positive;
pub use config::{
    Config, FORMAT, FORMAT_VERSION, ImageProcessorConfig, ImageTagType, Part, PsVersion, RopeScaling,
    TextConfig, VisionConfig,
};
pub(crate) use identity::{MODEL, check_model};
pub use layout::{TensorLayout, layout};
