//! The normalized checkpoint: a folder that describes the model completely, with no Python to run.

mod checkpoint;
mod config;
mod consistency;
mod layers;
mod layout;
mod rope_scaling;
mod text;
mod vision;

pub use checkpoint::{CONFIG_FILE, Checkpoint, TensorView};
pub use config::{Config, FORMAT, FORMAT_VERSION, ImageProcessorConfig, ImageTagType, Part, PsVersion};
pub(crate) use consistency::positive;
pub(crate) use layers::{Layers, check_layers};
pub use layout::{TensorLayout, layout};
pub use rope_scaling::RopeScaling;
pub use text::TextConfig;
pub use vision::VisionConfig;

use serde::{Deserialize, Serialize};

/// A floating-point dtype under the name that PyTorch and Hugging Face's configurations use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TorchDtype {
    /// IEEE 754 binary32.
    Float32,
    /// The upper half of binary32: 8 exponent and 7 fraction bits.
    Bfloat16,
    /// IEEE 754 binary16.
    Float16,
}

impl TorchDtype {
    /// The name in `config.json`: `float32`, `bfloat16` or `float16`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
        }
    }
}

impl std::fmt::Display for TorchDtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
