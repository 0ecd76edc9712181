//! Where the elements of a tensor lie: shape, strides and offset, and what changes them without touching a byte.

use std::borrow::Cow;

use rayon::prelude::*;

/// About how many bytes a thread copies at once.
const CHUNK_BYTES: usize = 1 << 18;

/// A tensor's elements within a buffer, counted in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Strides {
    shape: Vec<usize>,
    steps: Vec<usize>,
    offset: usize,
}

impl Strides {
    /// The elements one after the other, in row-major order.
    pub(super) fn contiguous(shape: &[usize]) -> Self {
        let mut steps = vec![1; shape.len()];
        for place in (1..shape.len()).rev() {
            steps[place - 1] = steps[place] * shape[place].max(1);
        }
        Strides { shape: shape.to_vec(), steps, offset: 0 }
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(super) fn len_elems(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the elements lie one after the other, from the offset on.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&size, &step) in self.shape.iter().zip(&self.steps).rev() {
            if size != 1 && step != expected {
                return self.len_elems() == 0;
            }
            expected *= size;
        }
        true
    }

    /// The dimensions in another order, of which each is there once.
    pub(super) fn permuted(&self, order: &[usize]) -> Self {
        let taken = |of: &[usize]| order.iter().map(|&place| of[place]).collect();
        Strides { shape: taken(&self.shape), steps: taken(&self.steps), offset: self.offset }
    }

    /// The part of a dimension from `start` on, `len` long, which lies within it.
    pub(super) fn narrowed(&self, dim: usize, start: usize, len: usize) -> Self {
        let mut narrowed = self.clone();
        narrowed.offset += start * self.steps[dim];
        narrowed.shape[dim] = len;
        narrowed
    }

    /// The same without a dimension of size 1.
    pub(super) fn squeezed(&self, dim: usize) -> Self {
        let mut squeezed = self.clone();
        squeezed.shape.remove(dim);
        squeezed.steps.remove(dim);
        squeezed
    }

    /// The elements in another shape of as many, if that is a matter of strides; `None` if they must be copied first.
    pub(super) fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        if self.is_contiguous() {
            return Some(Strides { offset: self.offset, ..Strides::contiguous(shape) });
        }
        // What is left are runs of dimensions that lie within each other; each new dimension must divide one.
        let mut runs = self.runs();
        let mut steps = vec![0; shape.len()];
        let mut run = runs.pop()?;
        let mut used = 1;
        for (place, &size) in shape.iter().enumerate().rev() {
            if size == 1 {
                steps[place] = run.1 * used;
                continue;
            }
            if used == run.0 {
                run = runs.pop()?;
                used = 1;
            }
            steps[place] = run.1 * used;
            used *= size;
            if used > run.0 || !run.0.is_multiple_of(used) {
                return None;
            }
        }
        Some(Strides { shape: shape.to_vec(), steps, offset: self.offset })
    }

    /// The dimensions, each merged with the next where it can be, as size and step; those of size 1 are left out.
    fn runs(&self) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (&size, &step) in self.shape.iter().zip(&self.steps).filter(|(size, _)| **size != 1) {
            match runs.last_mut() {
                Some((merged, outer)) if *outer == step * size => {
                    *merged *= size;
                    *outer = step;
                }
                _ => runs.push((size, step)),
            }
        }
        runs
    }

    /// The elements in row-major order: a part of the buffer if they lie so, else a copy, made on all threads.
    pub(super) fn gather<'a>(&self, buffer: Cow<'a, [u8]>, size_bytes: usize) -> Cow<'a, [u8]> {
        let len_bytes = self.len_elems() * size_bytes;
        let start = self.offset * size_bytes;
        if self.is_contiguous() {
            return match buffer {
                Cow::Borrowed(bytes) => {
                    Cow::Borrowed(bytes.get(start..start + len_bytes).unwrap_or_default())
                }
                Cow::Owned(mut bytes) => {
                    bytes.truncate(start + len_bytes);
                    bytes.drain(..start.min(bytes.len()));
                    Cow::Owned(bytes)
                }
            };
        }
        let mut runs = self.runs();
        let Some((row, step)) = runs.pop() else { return buffer };
        let row_bytes = row * size_bytes;
        let rows_at_once = (CHUNK_BYTES / row_bytes).max(1);
        let mut gathered = vec![0; len_bytes];
        gathered.par_chunks_mut(rows_at_once * row_bytes).enumerate().for_each(|(chunk, to)| {
            for (index, to) in to.chunks_exact_mut(row_bytes).enumerate() {
                let mut left = chunk * rows_at_once + index;
                let mut from = self.offset;
                for &(size, step) in runs.iter().rev() {
                    from += left % size * step;
                    left /= size;
                }
                copy_row(&buffer, from, step, to, size_bytes);
            }
        });
        Cow::Owned(gathered)
    }
}

/// Copies elements that lie `step` apart.
fn copy_row(buffer: &[u8], from: usize, step: usize, to: &mut [u8], size_bytes: usize) {
    fn spread<const N: usize>(buffer: &[u8], from: usize, step: usize, to: &mut [u8]) {
        for (place, to) in to.as_chunks_mut::<N>().0.iter_mut().enumerate() {
            let start = (from + place * step) * N;
            to.copy_from_slice(&buffer[start..start + N]);
        }
    }
    match (step, size_bytes) {
        (1, _) => to.copy_from_slice(&buffer[from * size_bytes..][..to.len()]),
        (_, 1) => spread::<1>(buffer, from, step, to),
        (_, 2) => spread::<2>(buffer, from, step, to),
        (_, 4) => spread::<4>(buffer, from, step, to),
        _ => spread::<8>(buffer, from, step, to),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The elements by their definition, one by one.
    fn by_hand(strides: &Strides, buffer: &[u8]) -> Vec<u8> {
        (0..strides.len_elems())
            .map(|flat| {
                let (mut left, mut at) = (flat, strides.offset);
                for (&size, &step) in strides.shape.iter().zip(&strides.steps).rev() {
                    at += left % size * step;
                    left /= size;
                }
                buffer[at]
            })
            .collect()
    }

    #[test]
    fn what_lies_in_order_is_not_copied() {
        let buffer: Vec<u8> = (0..24).collect();
        let whole = Strides::contiguous(&[2, 3, 4]);
        let tail = whole.narrowed(0, 1, 1).squeezed(0).reshaped(&[12]).unwrap();
        assert!(
            matches!(tail.gather(Cow::Borrowed(&buffer), 1), Cow::Borrowed(bytes) if bytes == &buffer[12..])
        );
        let columns = whole.narrowed(2, 1, 2);
        assert!(!columns.is_contiguous());
        assert_eq!(*columns.gather(Cow::Borrowed(&buffer), 1), [1, 2, 5, 6, 9, 10, 13, 14, 17, 18, 21, 22]);
    }

    #[test]
    fn a_reshape_is_a_view_where_the_strides_allow_it() {
        let heads_first = Strides::contiguous(&[1, 4, 6, 8]).permuted(&[0, 2, 1, 3]);
        assert!(heads_first.reshaped(&[6, 4, 8]).is_some());
        assert!(heads_first.reshaped(&[1, 6, 4, 2, 4]).is_some());
        assert!(heads_first.reshaped(&[6, 32]).is_none(), "heads lie apart");
    }

    proptest! {
        #[test]
        fn views_and_copies_have_the_elements_in_their_places(
            shape in prop::collection::vec(1_usize..5, 1..5),
            order in any::<prop::sample::Index>(),
            dim in any::<prop::sample::Index>(),
            start in any::<prop::sample::Index>(),
            size_bytes in prop::sample::select(vec![1_usize, 2, 4, 8]),
        ) {
            let elements: usize = shape.iter().product();
            let numbers: Vec<u8> = (0..elements).map(|index| (index % 251) as u8).collect();
            let bytes: Vec<u8> = numbers.iter().flat_map(|&number| std::iter::repeat_n(number, size_bytes)).collect();
            let (dim, rotated) = (dim.index(shape.len()), order.index(shape.len()));
            let start = start.index(shape[dim]);
            let mut places: Vec<usize> = (0..shape.len()).collect();
            places.rotate_left(rotated);
            let view = Strides::contiguous(&shape).narrowed(dim, start, shape[dim] - start).permuted(&places);
            let expected = by_hand(&view, &numbers);
            let of = |view: &Strides| -> Vec<u8> {
                view.gather(Cow::Borrowed(&bytes), size_bytes).chunks_exact(size_bytes).map(|chunk| chunk[0]).collect()
            };
            prop_assert_eq!(of(&view), expected.clone());
            // An owned buffer gives the same, and so does every reshape that is a view.
            let owned = view.gather(Cow::Owned(bytes.clone()), size_bytes);
            prop_assert_eq!(owned.len(), expected.len() * size_bytes);
            for shape in [vec![expected.len()], vec![1, expected.len(), 1], [view.shape(), &[1]].concat()] {
                if let Some(reshaped) = view.reshaped(&shape) {
                    prop_assert_eq!(of(&reshaped), expected.clone());
                }
            }
        }
    }
}
