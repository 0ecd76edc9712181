//! Tensors in the golden layout: seen in their place where they lie so, else put together in memory, one at a time.

use std::borrow::Cow;

use golden::{Dtype, Dump, Entry, TensorView};
use half::{bf16, f16};
use measure::metric::integer_value;
use rayon::prelude::*;

use super::layout_step::{LayoutStep, Refusal, Taken};
use super::strides::Strides;

/// A tensor whose bytes may be the dump's own or a copy.
#[derive(Debug, Clone)]
pub(crate) struct Assembled<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Cow<'a, [u8]>,
}

impl<'a> Assembled<'a> {
    /// A dump's tensor as it is.
    pub(super) fn whole(dump: &'a Dump, entry: &Entry) -> Option<Self> {
        let tensor = dump.get(&entry.key())?;
        Some(Assembled { dtype: entry.dtype, shape: entry.shape.clone(), data: Cow::Borrowed(tensor.data()) })
    }

    /// The tensor; `None` were there more or fewer bytes than its shape says.
    pub(crate) fn view(&self) -> Option<TensorView<'_>> {
        TensorView::new(self.dtype, &self.shape, &self.data).ok()
    }

    /// Integers as those of another dtype, if it holds them all.
    pub(super) fn integers_as(self, dtype: Dtype) -> Self {
        if self.dtype == dtype || self.dtype.is_float() || dtype.is_float() {
            return self;
        }
        let (from_bytes, to_bytes) = (self.dtype.size_bytes(), dtype.size_bytes());
        let mut data = Vec::with_capacity(self.data.len() / from_bytes * to_bytes);
        for bytes in self.data.chunks_exact(from_bytes) {
            let value = integer_value(self.dtype, bytes);
            let converted = &value.to_le_bytes()[..to_bytes];
            if integer_value(dtype, converted) != value || dtype == Dtype::Bool && value > 1 {
                return self;
            }
            data.extend_from_slice(converted);
        }
        Assembled { dtype, shape: self.shape, data: Cow::Owned(data) }
    }
}

/// Views of a tensor, each of the copy that the one before it asks for.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    stages: Vec<Strides>,
}

impl Plan {
    pub(super) fn new(shape: &[usize]) -> Self {
        Plan { stages: vec![Strides::contiguous(shape)] }
    }

    /// The last view.
    fn last(&self) -> &Strides {
        // There is one from the beginning on, and none is taken away.
        &self.stages[self.stages.len() - 1]
    }

    pub(super) fn shape(&self) -> &[usize] {
        self.last().shape()
    }

    /// Takes a step; `other` is the shape of the other side.
    pub(super) fn take(&mut self, step: &LayoutStep, other: &[usize]) -> Result<(), Refusal> {
        match step.take(self.last(), other)? {
            Taken::View(view) => self.replace(view),
            Taken::Copy(shape) => self.stages.push(Strides::contiguous(&shape)),
        }
        Ok(())
    }

    /// Looks at a part of a dimension only.
    pub(super) fn narrow(&mut self, dim: usize, start: usize, len: usize) {
        let narrowed = self.last().narrowed(dim, start, len);
        self.replace(narrowed);
    }

    fn replace(&mut self, view: Strides) {
        self.stages.pop();
        self.stages.push(view);
    }

    /// Whether the tensor of this shape is seen as it is.
    pub(super) fn is_whole(&self, shape: &[usize]) -> bool {
        self.stages.len() == 1 && *self.last() == Strides::contiguous(shape)
    }

    /// Whether the bytes must be moved to be seen so.
    pub(super) fn copies(&self) -> bool {
        self.stages.len() > 1 || !self.last().is_contiguous()
    }

    /// The bytes as the last view has them.
    pub(super) fn run<'a>(&self, bytes: Cow<'a, [u8]>, size_bytes: usize) -> Cow<'a, [u8]> {
        self.stages.iter().fold(bytes, |bytes, stage| stage.gather(bytes, size_bytes))
    }

    /// The whole tensor in this plan's shape.
    pub(super) fn assemble<'a>(&self, dtype: Dtype, bytes: Cow<'a, [u8]>) -> Assembled<'a> {
        let data = self.run(bytes, dtype.size_bytes());
        Assembled { dtype, shape: self.shape().to_vec(), data }
    }
}

/// The rows of several tensors, alike but for one dimension, put one after the other along it.
///
/// Each part comes with its size in that dimension; `inner_bytes` is the size of what lies within one place of it.
pub(super) fn concatenated(parts: &[(Cow<'_, [u8]>, usize)], inner_bytes: usize) -> Vec<u8> {
    let block = parts.iter().map(|(_, size)| size * inner_bytes).sum::<usize>();
    let total = parts.iter().map(|(bytes, _)| bytes.len()).sum();
    let mut joined = vec![0; total];
    if block == 0 {
        return joined;
    }
    joined.par_chunks_mut(block).enumerate().for_each(|(index, to)| {
        let mut at = 0;
        for (bytes, size) in parts {
            let len = size * inner_bytes;
            to[at..at + len].copy_from_slice(&bytes[index * len..(index + 1) * len]);
            at += len;
        }
    });
    joined
}

/// The sum of two tensors of one dtype, rounded once, as an engine adds them; `None` if they are no numbers that it
/// would be done with.
pub(super) fn added(dtype: Dtype, a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    fn by<const N: usize>(a: &[u8], b: &[u8], add: impl Fn([u8; N], [u8; N]) -> [u8; N] + Sync) -> Vec<u8> {
        const AT_ONCE: usize = 1 << 14;
        let mut sums = vec![0; a.len()];
        sums.par_chunks_mut(AT_ONCE * N)
            .zip(a.par_chunks(AT_ONCE * N))
            .zip(b.par_chunks(AT_ONCE * N))
            .for_each(|((to, a), b)| {
                let pairs = a.as_chunks::<N>().0.iter().zip(b.as_chunks::<N>().0);
                for (to, (&a, &b)) in to.as_chunks_mut::<N>().0.iter_mut().zip(pairs) {
                    *to = add(a, b);
                }
            });
        sums
    }
    Some(match dtype {
        Dtype::Float64 => by(a, b, |a, b| (f64::from_le_bytes(a) + f64::from_le_bytes(b)).to_le_bytes()),
        Dtype::Float32 => by(a, b, |a, b| (f32::from_le_bytes(a) + f32::from_le_bytes(b)).to_le_bytes()),
        Dtype::BFloat16 => by(a, b, |a, b| {
            bf16::from_f32(bf16::from_le_bytes(a).to_f32() + bf16::from_le_bytes(b).to_f32()).to_le_bytes()
        }),
        Dtype::Float16 => by(a, b, |a, b| {
            f16::from_f32(f16::from_le_bytes(a).to_f32() + f16::from_le_bytes(b).to_f32()).to_le_bytes()
        }),
        _ => return None,
    })
}

/// Whether tensors of a dtype can be added.
pub(super) fn can_add(dtype: Dtype) -> bool {
    added(dtype, &[], &[]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_along_an_inner_dimension() {
        // [2, 2] and [2, 1] along the last.
        let parts = [(Cow::Borrowed(&[1, 2, 4, 5][..]), 2), (Cow::Borrowed(&[3, 6][..]), 1)];
        assert_eq!(concatenated(&parts, 1), [1, 2, 3, 4, 5, 6]);
        // And along the first: everything is one block.
        let parts = [(Cow::Borrowed(&[1, 2, 3, 4][..]), 2), (Cow::Borrowed(&[5, 6][..]), 1)];
        assert_eq!(concatenated(&parts, 2), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn sums_are_rounded_once_to_nearest_even() {
        let bytes = |value: f32| bf16::from_f32(value).to_le_bytes();
        let sum = |a: f32, b: f32| {
            let sum = added(Dtype::BFloat16, &bytes(a), &bytes(b)).unwrap();
            bf16::from_le_bytes([sum[0], sum[1]]).to_f32()
        };
        assert_eq!(sum(256.0, 1.0), 256.0, "halfway, to the even one");
        assert_eq!(sum(258.0, 1.0), 260.0, "halfway, to the even one");
        assert_eq!(sum(1.0, 2.5), 3.5);
        assert!(!can_add(Dtype::Int32) && can_add(Dtype::Float64));
    }

    #[test]
    fn integers_change_their_width_if_they_fit() {
        let of = |value: i32| Assembled {
            dtype: Dtype::Int32,
            shape: vec![1],
            data: Cow::Owned(value.to_le_bytes().to_vec()),
        };
        let wide = of(-3).integers_as(Dtype::Int64);
        assert_eq!(wide.view().unwrap().to_f64_vec(), [-3.0]);
        assert_eq!(of(-3).integers_as(Dtype::UInt8).dtype, Dtype::Int32, "it has no place there");
        assert_eq!(of(1).integers_as(Dtype::Float32).dtype, Dtype::Int32);
    }
}
