//! What is known of two tensors that were compared.

use golden::TensorView;

use super::value::value_at;

/// The elements of a chunk, rounded down to whole rows.
const CHUNK_ELEMS: usize = 1 << 17;

/// How far a candidate's tensor is from the golden one of the same shape.
///
/// Sums run over the elements that are finite on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The number of elements.
    pub elements: usize,
    /// Whether the numbers are estimates, since one side has a sketch only. What cannot be estimated is `None` then.
    pub estimated: bool,
    /// Whether all bytes are equal.
    pub bit_equal: bool,
    /// How many elements have different bits, or different values where the dtypes differ; `None` if only some are
    /// known to.
    pub differing: Option<usize>,
    /// The first of them.
    pub first: Option<Difference>,
    /// The element with the largest absolute difference, the first of them if there are several.
    pub largest: Option<Difference>,
    /// ‖c − g‖ / ‖g‖ for floating-point numbers: zero if nothing differs, infinite if g is zero and c is not.
    pub relative_l2: Option<f64>,
    /// The largest, over the rows r along the innermost dimension, of ‖c_r − g_r‖ / max(‖g_r‖, median of all ‖g_r‖).
    pub row_relative_l2: Option<f64>,
    /// Each row along the innermost dimension, in order; empty if no number differs.
    pub rows: Vec<RowError>,
    /// The cosine of the angle between both, taken as vectors: one if nothing differs, zero if one of them is zero.
    pub cosine: Option<f64>,
    /// The largest distance in units in the last place: how many values of the dtype further along the candidate is.
    pub max_ulps: Option<u64>,
    /// The NaN and infinities of the golden tensor.
    pub golden: NonFinite,
    /// The NaN and infinities of the candidate's.
    pub candidate: NonFinite,
    /// The elements that are not finite on one side and are not the same kind of non-finite on the other. Of an estimate
    /// one stands for any number of them.
    pub non_finite_mismatches: usize,
    /// The first of them.
    pub first_non_finite_mismatch: Option<Difference>,
}

impl Measurement {
    /// Whether any element differs.
    pub fn differs(&self) -> bool {
        self.differing != Some(0)
    }
}

/// How far a row is off. Lengths are parts of the whole golden tensor's, so that their squares sum to one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowError {
    /// ‖g_r‖ / ‖g‖
    pub golden: f32,
    /// ‖c_r − g_r‖ / ‖g‖: infinite if g is zero and the row is not equal.
    pub difference: f32,
    /// The larger of ‖c_r − g_r‖ / ‖g_r‖ and its like in sums of magnitudes.
    ///
    /// A channel that is a thousand times as large as the others is nearly all of a row's length, and would hide an
    /// error in the others; of the sum of magnitudes it is a lesser part.
    pub relative: f32,
}

/// An element that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Its index in each dimension.
    pub index: Vec<usize>,
    /// What the golden dump has there.
    pub golden: f64,
    /// What the candidate has there.
    pub candidate: f64,
}

impl Difference {
    /// |candidate − golden|
    pub fn magnitude(&self) -> f64 {
        (self.candidate - self.golden).abs()
    }
}

/// How many elements are not numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NonFinite {
    /// NaN of either sign and any payload.
    pub nan: usize,
    /// Positive and negative infinities.
    pub inf: usize,
}

/// The rows of a tensor along its innermost dimension, and the chunks they are measured in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) row_elems: usize,
    pub(super) chunk_elems: usize,
}

impl Rows {
    pub(super) fn of(shape: &[usize]) -> Self {
        let row_elems = shape.last().copied().unwrap_or(1).max(1);
        Rows { row_elems, chunk_elems: (CHUNK_ELEMS / row_elems).max(1) * row_elems }
    }
}

/// The element at a flat index.
pub(super) fn difference_at(golden: &TensorView<'_>, candidate: &TensorView<'_>, flat: usize) -> Difference {
    Difference {
        index: unravel(flat, golden.shape()),
        golden: value_at(golden, flat),
        candidate: value_at(candidate, flat),
    }
}

/// The index in each dimension of a flat row-major index.
fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, &dimension) in index.iter_mut().zip(shape).rev() {
        if let (Some(quotient), Some(remainder)) = (flat.checked_div(dimension), flat.checked_rem(dimension))
        {
            *place = remainder;
            flat = quotient;
        }
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_index_becomes_one_in_each_dimension() {
        assert_eq!(unravel(0, &[]), [0; 0]);
        assert_eq!(unravel(23, &[2, 3, 4]), [1, 2, 3]);
        assert_eq!(unravel(13, &[2, 3, 4]), [1, 0, 1]);
    }

    #[test]
    fn chunks_are_whole_rows() {
        for shape in [&[][..], &[5], &[7, 0], &[100, 3], &[2, CHUNK_ELEMS + 1], &[9, 4096]] {
            let rows = Rows::of(shape);
            assert!(rows.chunk_elems > 0 && rows.chunk_elems.is_multiple_of(rows.row_elems), "{shape:?}");
        }
    }
}
