//! How alike the contents of two tensors are, by a sample of their elements.

use golden::TensorView;
use golden::sketch::word;

use crate::metric::value_at;

/// How many elements are looked at.
const SAMPLE: usize = 512;

/// Up to which relative difference two tensors are taken for the same one.
pub(super) const ALIKE: f64 = 0.1;

/// Where a sample lies among so many elements: evenly, but in no step that a row could have.
fn places(elements: usize) -> impl Iterator<Item = usize> {
    let count = elements.min(SAMPLE);
    let step = elements as f64 / count.max(1) as f64;
    (0..count).map(move |index| {
        // Words that look like chance, and are always the same.
        let within = word(0, index as u64) as f64 / u64::MAX as f64;
        (((index as f64 + within) * step) as usize).min(elements.saturating_sub(1))
    })
}

/// The distance of a candidate's elements from the golden ones, relative to these, as far as a sample tells.
///
/// `other` gives the candidate's value for a place among the `elements` of the golden part, `own` the golden one.
pub(super) fn distance(elements: usize, own: impl Fn(usize) -> f64, other: impl Fn(usize) -> f64) -> f64 {
    let (mut differences, mut squares) = (0.0, 0.0);
    for place in places(elements) {
        let (expected, found) = (own(place), other(place));
        if expected.is_finite() && found.is_finite() {
            differences += (found - expected) * (found - expected);
            squares += expected * expected;
        }
    }
    match (differences > 0.0, squares > 0.0) {
        // Of zeros alone nothing could be told.
        (_, false) => f64::INFINITY,
        (false, true) => 0.0,
        (true, true) => (differences / squares).sqrt(),
    }
}

/// A tensor as rows along its innermost dimension.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) tensor: TensorView<'a>,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn of(tensor: TensorView<'a>) -> Self {
        let columns = tensor.shape().last().copied().unwrap_or(1).max(1);
        Rows { tensor, rows: tensor.len_elems() / columns, columns }
    }

    pub(super) fn at(&self, flat: usize) -> f64 {
        value_at(&self.tensor, flat)
    }

    /// How far the columns of another tensor from `from` on are from this one's from `own` on, `width` of them.
    pub(super) fn columns_from(&self, own: usize, other: &Rows<'_>, from: usize, width: usize) -> f64 {
        distance(
            self.rows * width,
            |place| self.at(place / width * self.columns + own + place % width),
            |place| other.at(place / width * other.columns + from + place % width),
        )
    }

    /// How far this tensor's columns from `own` on are from a tensor with its heads before its tokens.
    pub(super) fn columns_of_heads(&self, own: usize, other: &Heads<'_>) -> f64 {
        let width = other.columns();
        distance(
            self.rows * width,
            |place| self.at(place / width * self.columns + own + place % width),
            |place| other.at(place / width, place % width),
        )
    }

    /// How far another tensor of as many elements, its dimensions permuted, is from this one.
    pub(super) fn permuted(&self, other: &Rows<'_>, order: &[usize]) -> f64 {
        let shape = other.tensor.shape();
        let step = |dim: usize| shape[dim + 1..].iter().product::<usize>();
        let dims: Vec<(usize, usize)> = order.iter().map(|&dim| (shape[dim], step(dim))).collect();
        distance(
            self.rows * self.columns,
            |place| self.at(place),
            |place| {
                let (mut left, mut from) = (place, 0);
                for &(size, step) in dims.iter().rev() {
                    from += left % size * step;
                    left /= size;
                }
                other.at(from)
            },
        )
    }

    /// How far the last rows of each of this tensor's blocks are from another's blocks, which have fewer.
    pub(super) fn last_rows(&self, blocks: usize, other: &Rows<'_>) -> f64 {
        let (own, fewer) = (self.rows / blocks, other.rows / blocks);
        let width = self.columns;
        distance(
            other.rows * width,
            |place| {
                let (row, column) = (place / width, place % width);
                self.at((row / fewer * own + own - fewer + row % fewer) * width + column)
            },
            |place| other.at(place),
        )
    }
}

/// A tensor of [batch, heads, tokens, head_dim], or of [heads, tokens, head_dim], as rows of all heads of a token.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    tensor: TensorView<'a>,
    batch: usize,
    heads: usize,
    tokens: usize,
    head_dim: usize,
}

impl<'a> Heads<'a> {
    pub(super) fn of(tensor: TensorView<'a>) -> Option<Self> {
        let (batch, heads, tokens, head_dim) = match *tensor.shape() {
            [batch, heads, tokens, head_dim] => (batch, heads, tokens, head_dim),
            [heads, tokens, head_dim] => (1, heads, tokens, head_dim),
            _ => return None,
        };
        (heads > 1 && tensor.len_elems() > 0).then_some(Heads { tensor, batch, heads, tokens, head_dim })
    }

    pub(super) fn rows(&self) -> usize {
        self.batch * self.tokens
    }

    pub(super) fn columns(&self) -> usize {
        self.heads * self.head_dim
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        let (batch, token) = (row / self.tokens, row % self.tokens);
        let (head, within) = (column / self.head_dim, column % self.head_dim);
        value_at(&self.tensor, ((batch * self.heads + head) * self.tokens + token) * self.head_dim + within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_lies_within_and_is_the_whole_of_little() {
        assert_eq!(places(3).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(places(0).count(), 0);
        let many: Vec<usize> = places(1_000_003).collect();
        assert_eq!(many.len(), SAMPLE);
        assert!(many.is_sorted() && many[SAMPLE - 1] < 1_000_003);
        // No step of rows: the columns of a width of 128 are about all there.
        let columns: std::collections::BTreeSet<usize> = many.iter().map(|place| place % 128).collect();
        assert!(columns.len() > 100, "{}", columns.len());
    }

    #[test]
    fn zeros_are_like_nothing() {
        assert_eq!(distance(4, |_| 0.0, |_| 0.0), f64::INFINITY);
        assert_eq!(distance(4, |_| 2.0, |_| 2.0), 0.0);
        assert_eq!(distance(4, |_| 2.0, |_| 1.0), 0.5);
    }
}
