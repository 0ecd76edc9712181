//! What one tensor is like.

use golden::{Dtype, Sketch, TensorView};
use rayon::prelude::*;

use super::format::{self, FloatFormat, with_format};
use super::measurement::{NonFinite, Rows};
use super::value::integer;

/// The range and size of a tensor's finite elements; nothing of a tensor that has none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Statistics {
    /// The number of finite elements.
    pub finite: usize,
    /// The smallest.
    pub min: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
    /// The sum.
    pub sum: f64,
    /// The sum of the squares.
    pub squares: f64,
    /// The elements that are not finite.
    pub non_finite: NonFinite,
}

impl From<&Sketch> for Statistics {
    fn from(sketch: &Sketch) -> Self {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let l2 = sketch.l2.unwrap_or(f64::INFINITY);
        Statistics {
            finite: count(sketch.count),
            min: sketch.min,
            max: sketch.max,
            sum: sketch.mean.map_or(0.0, |mean| mean * sketch.count as f64),
            squares: l2 * l2,
            non_finite: NonFinite { nan: count(sketch.nan), inf: count(sketch.inf) },
        }
    }
}

impl Statistics {
    /// The arithmetic mean of the finite elements.
    pub fn mean(&self) -> Option<f64> {
        (self.finite > 0).then(|| self.sum / self.finite as f64)
    }

    /// The Euclidean length of the finite elements.
    pub fn l2(&self) -> f64 {
        self.squares.sqrt()
    }

    /// The largest absolute value of a finite element.
    pub(super) fn largest_magnitude(&self) -> Option<f64> {
        Some(self.min?.abs().max(self.max?.abs()))
    }

    fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.finite += 1;
            self.min = Some(self.min.map_or(value, |min| min.min(value)));
            self.max = Some(self.max.map_or(value, |max| max.max(value)));
            self.sum += value;
            self.squares += value * value;
        } else if value.is_nan() {
            self.non_finite.nan += 1;
        } else {
            self.non_finite.inf += 1;
        }
    }

    fn append(self, next: Statistics) -> Statistics {
        let either = |a: Option<f64>, b: Option<f64>, choose: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(choose(a, b)),
            (a, b) => a.or(b),
        };
        Statistics {
            finite: self.finite + next.finite,
            min: either(self.min, next.min, f64::min),
            max: either(self.max, next.max, f64::max),
            sum: self.sum + next.sum,
            squares: self.squares + next.squares,
            non_finite: NonFinite {
                nan: self.non_finite.nan + next.non_finite.nan,
                inf: self.non_finite.inf + next.non_finite.inf,
            },
        }
    }
}

/// Reads a tensor once, on all threads; booleans count as 0 and 1.
pub fn statistics(tensor: &TensorView<'_>) -> Statistics {
    match tensor.dtype() {
        dtype if dtype.is_float() => with_format!(dtype, F => {
            chunks(tensor, |bytes| F::value(bytemuck::pod_read_unaligned(bytes)))
        }),
        dtype => chunks(tensor, |bytes| integer(dtype, bytes) as f64),
    }
}

fn chunks(tensor: &TensorView<'_>, value: impl Fn(&[u8]) -> f64 + Sync) -> Statistics {
    let size_bytes = tensor.dtype().size_bytes();
    let parts: Vec<Statistics> = tensor
        .data()
        .par_chunks(Rows::of(tensor.shape()).chunk_elems * size_bytes)
        .map(|chunk| {
            let mut part = Statistics::default();
            for bytes in chunk.chunks_exact(size_bytes) {
                part.add(value(bytes));
            }
            part
        })
        .collect();
    parts.into_iter().reduce(Statistics::append).unwrap_or_default()
}
