//! A tensor to write.

use std::ops::Range;

use crate::normalized::TorchDtype;

/// A tensor to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: TorchDtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The row that it is made of.
    pub row: usize,
    /// The bytes of the row's tensor that it is made of.
    pub source_bytes: Range<usize>,
    /// The file it goes to, as a place in [`super::Plan::shards`].
    pub shard: usize,
    /// Where its data begins in that file's data, in bytes.
    pub offset: usize,
}

impl Output {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.elem_bytes()
    }
}
