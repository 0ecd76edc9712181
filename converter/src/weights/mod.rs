//! Tensors in safetensors files, one or many, never loaded whole.

mod file;
mod folder;
mod header;
mod set;

pub use file::{Elsewhere, WeightsFile};
pub use folder::Folder;
pub use header::{Header, HeaderEntry};
pub(crate) use set::Files;
pub use set::{Tensor, Weights};

/// The only file of a checkpoint that is not sharded.
pub const SINGLE_FILE: &str = "model.safetensors";
/// Names the shard of each tensor.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
