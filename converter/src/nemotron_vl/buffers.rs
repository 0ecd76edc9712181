//! The tower's buffers: tensors in the source, values in the normalized configuration.

use safetensors::Dtype;

use super::names::{NAMES, NORM_MEAN, NORM_STD, SUMMARY_IDXS};
use super::positive;
use crate::weights::{Tensor, Weights};
use crate::{Error, TensorProblem};

/// The most that is read of a buffer.
const MAX_BYTES: usize = 1 << 16;

/// The values of the buffers that a checkpoint has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buffers {
    /// Mean of each channel, exactly as stored.
    pub norm_mean: Option<Vec<f64>>,
    /// Standard deviation of each channel, exactly as stored.
    pub norm_std: Option<Vec<f64>>,
    /// Class tokens of the summary.
    pub summary_idxs: Option<Vec<usize>>,
}

impl Buffers {
    /// Reads the buffers among `weights`; a few dozen bytes.
    ///
    /// # Errors
    /// [`Error::Tensors`] for one of another shape or dtype, a number that nothing can be computed with, or a negative index;
    /// those of [`Tensor::read`].
    pub fn read(weights: &Weights, folder: &std::path::Path) -> Result<Self, Error> {
        let mut buffers = Self::default();
        let mut problems = Vec::new();
        for tensor in weights.iter() {
            let Some(field) = NAMES.field(tensor.name) else { continue };
            // One that is larger is none of these, and its shape says so.
            let data = if tensor.bytes() <= MAX_BYTES { tensor.read()? } else { Vec::new() };
            let result = match field {
                NORM_MEAN => channels(tensor, &data, "finite numbers", |mean| mean.is_finite())
                    .map(|values| buffers.norm_mean = Some(values)),
                NORM_STD => channels(tensor, &data, "numbers above 0", |std| positive(std).is_ok())
                    .map(|values| buffers.norm_std = Some(values)),
                SUMMARY_IDXS => indices(tensor, &data).map(|values| buffers.summary_idxs = Some(values)),
                _ => Ok(()),
            };
            problems.extend(result.err());
        }
        if problems.is_empty() {
            Ok(buffers)
        } else {
            Err(Error::Tensors { path: folder.to_path_buf(), problems })
        }
    }
}

/// A number for each channel, all of which are as `expected`.
fn channels(
    tensor: Tensor<'_>,
    data: &[u8],
    expected: &str,
    is_expected: impl Fn(f64) -> bool,
) -> Result<Vec<f64>, TensorProblem> {
    let values = numbers(tensor, data)?;
    match values.iter().find(|&&value| !is_expected(value)) {
        Some(value) => Err(TensorProblem::Value {
            name: tensor.name.to_string(),
            expected: expected.into(),
            found: format!("`{value}`"),
        }),
        None => Ok(values),
    }
}

fn numbers(tensor: Tensor<'_>, data: &[u8]) -> Result<Vec<f64>, TensorProblem> {
    if tensor.shape != [3, 1, 1] && tensor.shape != [3] {
        return Err(TensorProblem::Shape {
            name: tensor.name.to_string(),
            expected: vec![3, 1, 1],
            found: tensor.shape.to_vec(),
        });
    }
    let halves = || data.as_chunks::<2>().0.iter();
    match tensor.dtype {
        Dtype::BF16 => Ok(halves().map(|&elem| half::bf16::from_le_bytes(elem).to_f64()).collect()),
        Dtype::F16 => Ok(halves().map(|&elem| half::f16::from_le_bytes(elem).to_f64()).collect()),
        Dtype::F32 => {
            let elems = data.as_chunks::<4>().0.iter();
            Ok(elems.map(|&elem| f64::from(f32::from_le_bytes(elem))).collect())
        }
        Dtype::F64 => Ok(data.as_chunks::<8>().0.iter().map(|&elem| f64::from_le_bytes(elem)).collect()),
        found => Err(TensorProblem::Dtype {
            name: tensor.name.to_string(),
            expected: "`F32`, `BF16`, `F16` or `F64`",
            found,
        }),
    }
}

fn indices(tensor: Tensor<'_>, data: &[u8]) -> Result<Vec<usize>, TensorProblem> {
    if tensor.shape.len() != 1 || tensor.bytes() > MAX_BYTES {
        return Err(TensorProblem::Value {
            name: tensor.name.to_string(),
            expected: "a list of indices".into(),
            found: format!("shape {:?}", tensor.shape),
        });
    }
    let values: Vec<i64> = match tensor.dtype {
        Dtype::I64 => data.as_chunks::<8>().0.iter().map(|&elem| i64::from_le_bytes(elem)).collect(),
        Dtype::I32 => data.as_chunks::<4>().0.iter().map(|&elem| i32::from_le_bytes(elem).into()).collect(),
        found => {
            return Err(TensorProblem::Dtype {
                name: tensor.name.to_string(),
                expected: "`I64` or `I32`",
                found,
            });
        }
    };
    values
        .iter()
        .map(|&value| {
            usize::try_from(value).map_err(|_| TensorProblem::Value {
                name: tensor.name.to_string(),
                expected: "indices from 0".into(),
                found: format!("`{value}`"),
            })
        })
        .collect()
}
