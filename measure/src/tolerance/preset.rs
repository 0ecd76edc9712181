//! Policies with a name.

use golden::Dtype;
use serde::Deserialize;

/// A policy with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Every bit.
    Exact,
    /// The limits of float32, whatever the dtype.
    Float32,
    /// The limits of bfloat16, whatever the dtype: for an engine that records more than it computes with.
    Bfloat16,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 3] = [Preset::Exact, Preset::Float32, Preset::Bfloat16];

    /// The preset of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Exact => "exact",
            Preset::Float32 => "float32",
            Preset::Bfloat16 => "bfloat16",
        }
    }

    /// The dtype whose limits all entries have.
    pub fn dtype(self) -> Option<Dtype> {
        match self {
            Preset::Exact => None,
            Preset::Float32 => Some(Dtype::Float32),
            Preset::Bfloat16 => Some(Dtype::BFloat16),
        }
    }
}
