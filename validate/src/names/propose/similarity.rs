//! How alike the contents of two tensors are, by a sample of their elements.

use golden::TensorView;
use golden::sketch::word;

use measure::metric::value_at;

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
    relative(differences, squares)
}

fn relative(differences: f64, squares: f64) -> f64 {
    match (differences > 0.0, squares > 0.0) {
        // Of zeros alone nothing could be told.
        (_, false) => f64::INFINITY,
        (false, true) => 0.0,
        (true, true) => (differences / squares).sqrt(),
    }
}

/// The elements of a golden tensor, or of a part of it, that are looked at.
pub(super) struct Sample {
    values: Vec<f64>,
    squares: f64,
}

impl Sample {
    /// Looks at some of so many elements, which `own` gives.
    pub(super) fn of(elements: usize, own: impl Fn(usize) -> f64) -> Self {
        let values: Vec<f64> = places(elements).map(own).collect();
        let squares = values.iter().filter(|value| value.is_finite()).map(|value| value * value).sum();
        Sample { values, squares }
    }

    /// [`distance`] of a candidate's elements, or infinity if that is beyond [`ALIKE`]: for most tensors a few elements tell.
    pub(super) fn distance(&self, elements: usize, other: impl Fn(usize) -> f64) -> f64 {
        // Where the candidate is not finite, the golden square does not count: the limit is the highest that can be.
        let limit = 1.01 * ALIKE * ALIKE * self.squares;
        let (mut differences, mut squares) = (0.0, 0.0);
        for (&expected, place) in self.values.iter().zip(places(elements)) {
            let found = other(place);
            if expected.is_finite() && found.is_finite() {
                differences += (found - expected) * (found - expected);
                squares += expected * expected;
                if differences > limit {
                    return f64::INFINITY;
                }
            }
        }
        let distance = relative(differences, squares);
        if distance <= ALIKE { distance } else { f64::INFINITY }
    }

    /// The same of a tensor of as many elements, its dimensions permuted.
    pub(super) fn permuted(&self, elements: usize, other: &Rows<'_>, order: &[usize]) -> f64 {
        let shape = other.tensor.shape();
        let step = |dim: usize| shape[dim + 1..].iter().product::<usize>();
        let dims: Vec<(usize, usize)> = order.iter().map(|&dim| (shape[dim], step(dim))).collect();
        self.distance(elements, |place| {
            let (mut left, mut from) = (place, 0);
            for &(size, step) in dims.iter().rev() {
                from += left % size * step;
                left /= size;
            }
            other.at(from)
        })
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

    pub(super) fn elements(&self) -> usize {
        self.rows * self.columns
    }

    pub(super) fn sample(&self) -> Sample {
        Sample::of(self.elements(), |place| self.at(place))
    }

    /// An element among those of the columns from `from` on, `width` of them.
    pub(super) fn at_columns(&self, from: usize, width: usize, place: usize) -> f64 {
        self.at(place / width * self.columns + from + place % width)
    }
}

/// The last rows of each of a tensor's blocks.
pub(super) struct LastRows<'a> {
    of: &'a Rows<'a>,
    /// The rows of a block, and how many of them.
    block: usize,
    last: usize,
}

impl<'a> LastRows<'a> {
    /// As many rows in all as another tensor has, which has as many blocks and fewer rows.
    pub(super) fn of(of: &'a Rows<'a>, blocks: usize, rows: usize) -> Self {
        LastRows { of, block: of.rows / blocks, last: rows / blocks }
    }

    pub(super) fn at(&self, place: usize) -> f64 {
        let (row, column) = (place / self.of.columns, place % self.of.columns);
        let row = row / self.last * self.block + self.block - self.last + row % self.last;
        self.of.at(row * self.of.columns + column)
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

    pub(super) fn at(&self, row: usize, column: usize) -> f64 {
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

    #[test]
    fn a_sample_tells_the_same_as_far_as_tensors_are_alike() {
        let own = |place: usize| (place as f64 * 0.7).sin();
        let sample = Sample::of(5000, own);
        for off in [0.0, 1e-9, 0.05, 0.0999] {
            let other = |place: usize| own(place) * (1.0 + off);
            assert_eq!(sample.distance(5000, other), distance(5000, own, other), "{off}");
        }
        let looked_at = std::cell::Cell::new(0);
        let other = |place: usize| {
            looked_at.set(looked_at.get() + 1);
            -own(place)
        };
        assert_eq!(sample.distance(5000, other), f64::INFINITY);
        assert!(looked_at.get() < 20, "{} elements", looked_at.get());
        let other = |place: usize| if place.is_multiple_of(2) { f64::NAN } else { own(place) };
        assert_eq!(sample.distance(5000, other), 0.0);
    }
}
