//! Which part of a model is written.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The tensors of a model that a folder holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// All of them.
    #[default]
    All,
    /// The language model's.
    Text,
    /// Those of the vision tower, and of what connects it with the language model.
    Vision,
}

impl Part {
    /// Whether nothing is left out.
    pub fn is_all(self) -> bool {
        self == Self::All
    }

    /// Whether the language model is there.
    pub fn has_text(self) -> bool {
        self != Self::Vision
    }

    /// Whether the tower is there.
    pub fn has_vision(self) -> bool {
        self != Self::Text
    }

    /// Its name on the command line and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Text => "text",
            Self::Vision => "vision",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
