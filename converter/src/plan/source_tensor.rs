//! A tensor of the source.

use safetensors::Dtype;

use crate::weights::Weights;

/// A tensor of the source, as its file's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTensor {
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The file that has it.
    pub file: String,
}

impl SourceTensor {
    /// Every tensor of `weights`.
    pub fn all(weights: &Weights) -> Vec<Self> {
        weights
            .iter()
            .map(|tensor| Self {
                name: tensor.name.to_string(),
                dtype: tensor.dtype,
                shape: tensor.shape.to_vec(),
                file: tensor.file.name().to_string(),
            })
            .collect()
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }

    /// Bytes of an element; of dtypes with less than a byte, which nothing is made of, 0.
    pub(super) fn elem_bytes(&self) -> usize {
        self.dtype.bitsize() / 8
    }

    /// Its first dimension, or 1.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The product of its other dimensions.
    pub fn columns(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}
