//! A module as a site of its output: what it does, and what it computes from.

use crate::model::{RowAlignment, Step};

/// An earlier entry that a site computes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) index: usize,
    pub(super) rows: RowAlignment,
}

/// A site and its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) step: Step,
    pub(super) sources: Vec<Source>,
}
