//! A tensor to write, and what it is made of.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::source_tensor::SourceTensor;
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
    /// What it is made of.
    pub inputs: Vec<Slice>,
    /// How.
    pub transform: Transform,
    /// Of a product, the sizes of the block that has one scale, along each dimension.
    pub block: Vec<usize>,
    /// The file it goes to, as a place in [`super::Plan::shards`].
    pub shard: usize,
    /// Where its data begins in that file's data, in bytes.
    pub offset: usize,
}

/// How a tensor is made of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transform {
    /// The rows of the first input, then those of the second, and so on, each element in the output's dtype.
    Stack,
    /// The first input times the second, its scale: computed in float32, and rounded once to the output's dtype.
    ///
    /// # Shapes
    /// The scale has a number for each of the output's blocks, of which the last along a dimension may be shorter; dimensions of
    /// 1 at its end may be left out. One number, or one for each row, are such.
    Scale,
}

/// A source tensor, or rows and columns of it. Rows are counted along the first dimension; a row has all the others, and its
/// elements are the columns. A tensor without dimensions is one row of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The source tensor, as a place in [`super::Plan::rows`].
    pub row: usize,
    /// Which of its rows.
    pub rows: Range<usize>,
    /// Which of its columns.
    pub columns: Range<usize>,
}

impl Output {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.elem_bytes()
    }

    /// The input that it is made of, if there is only one.
    pub fn only_input(&self) -> Option<&Slice> {
        match (self.inputs.as_slice(), self.transform) {
            ([input], Transform::Stack) => Some(input),
            _ => None,
        }
    }

    /// The source tensors that it is made of, in the order of its inputs, each once.
    pub fn rows(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = Vec::new();
        for input in &self.inputs {
            if !rows.contains(&input.row) {
                rows.push(input.row);
            }
        }
        rows
    }
}

impl Slice {
    /// All of `source`, which stands at the place `row`.
    pub fn whole(row: usize, source: &SourceTensor) -> Self {
        Self { row, rows: 0..source.rows(), columns: 0..source.columns() }
    }

    /// Whether nothing of `source` is left out.
    pub fn is_whole(&self, source: &SourceTensor) -> bool {
        *self == Self::whole(self.row, source)
    }

    /// This slice and the one that follows it, if they are one slice.
    pub(super) fn joined(&self, next: &Self) -> Option<Self> {
        let follows =
            self.row == next.row && self.rows.end == next.rows.start && self.columns == next.columns;
        follows.then(|| Self { rows: self.rows.start..next.rows.end, ..self.clone() })
    }

    /// Where its bytes are among those of `source`.
    pub fn bytes_in(&self, source: &SourceTensor) -> SliceBytes {
        let elem = source.elem_bytes();
        SliceBytes {
            rows: self.rows.clone(),
            row_bytes: source.columns() * elem,
            wanted: self.columns.start * elem..self.columns.end * elem,
        }
    }
}

/// The bytes of a [`Slice`] among those of its tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceBytes {
    rows: Range<usize>,
    row_bytes: usize,
    /// Of each row.
    wanted: Range<usize>,
}

impl SliceBytes {
    /// From the first to the last, with what lies between them.
    pub fn span(&self) -> Range<usize> {
        self.rows.start * self.row_bytes..self.rows.end * self.row_bytes
    }

    /// Those of the slice in a chunk that begins `start` bytes into the tensor, one behind the other; `buffer` has them if
    /// they are not so in the chunk.
    pub fn of_chunk<'a>(&self, start: usize, chunk: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
        let span = self.span();
        let (from, to) = (span.start.max(start), span.end.min(start + chunk.len()));
        if from >= to {
            return &[];
        }
        if self.wanted == (0..self.row_bytes) {
            return &chunk[from - start..to - start];
        }
        buffer.clear();
        for row in from / self.row_bytes..to.div_ceil(self.row_bytes) {
            let first = (row * self.row_bytes + self.wanted.start).max(from);
            let last = (row * self.row_bytes + self.wanted.end).min(to);
            if first < last {
                buffer.extend_from_slice(&chunk[first - start..last - start]);
            }
        }
        buffer
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::Dtype;

    use super::*;

    proptest! {
        /// However a tensor is cut into chunks, a slice has the bytes of its rows and columns, in their order.
        #[test]
        fn chunks_give_the_bytes_of_the_slice(
            shape in (1usize..6, 1usize..6),
            rows in (0usize..6, 0usize..6),
            columns in (0usize..6, 0usize..6),
            chunk in 1usize..9,
        ) {
            let source =
                SourceTensor { name: "x".into(), dtype: Dtype::BF16, shape: vec![shape.0, shape.1], file: "f".into() };
            let cut = |(a, b): (usize, usize), end: usize| a.min(b).min(end)..a.max(b).min(end);
            let slice = Slice { row: 0, rows: cut(rows, shape.0), columns: cut(columns, shape.1) };
            let data: Vec<u8> = (0..source.bytes() as u8).collect();
            let mut expected = Vec::new();
            for row in slice.rows.clone() {
                for column in slice.columns.clone() {
                    let at = (row * shape.1 + column) * 2;
                    expected.extend_from_slice(&data[at..at + 2]);
                }
            }
            let bytes = slice.bytes_in(&source);
            let (mut found, mut buffer) = (Vec::new(), Vec::new());
            for (i, piece) in data.chunks(chunk).enumerate() {
                found.extend_from_slice(bytes.of_chunk(i * chunk, piece, &mut buffer));
            }
            prop_assert_eq!(found, expected);
        }
    }
}
