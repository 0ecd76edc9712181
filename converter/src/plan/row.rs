//! What becomes of a tensor of the source.

use serde::{Deserialize, Serialize};

use super::source_tensor::SourceTensor;
use crate::architecture::Duplicate;

/// What becomes of one tensor of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The tensor.
    pub source: SourceTensor,
    /// What is done with it.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// Its targets, as places in [`Plan::outputs`](super::Plan::outputs).
    pub outputs: Vec<usize>,
    /// The tensor of the source whose bytes it must equal, or else nobody knows which of the two is meant.
    pub same_as: Option<Duplicate>,
}

/// What is done with a tensor of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Name and bytes stay.
    Kept,
    /// The bytes stay under another name.
    Renamed,
    /// The bytes go to several tensors.
    Split,
    /// It becomes one tensor with others.
    Combined,
    /// The dtype changes; the name may, too.
    Converted,
    /// It is not written.
    Skipped,
}
