//! How rows of two tensors belong together.

use serde::{Deserialize, Serialize};

/// How the rows of an input belong to the rows of what was computed from it. A row is what an index of all dimensions but the
/// last one selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowAlignment {
    /// One to one.
    #[default]
    Same,
    /// From the end of each sequence: tokens were added or dropped at its beginning, or only the last ones are left.
    FromEnd,
    /// Any row.
    Mixed,
}

impl RowAlignment {
    /// How the rows of two tensors belong together that have a third between them.
    #[must_use]
    pub fn through(self, other: Self) -> Self {
        match (self, other) {
            (Self::Same, other) => other,
            (alignment, Self::Same) => alignment,
            (Self::FromEnd, Self::FromEnd) => Self::FromEnd,
            _ => Self::Mixed,
        }
    }

    /// How the rows of two tensors belong together that have two ways between them.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Mixed }
    }
}
