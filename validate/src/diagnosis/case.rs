//! A golden and a candidate's tensor as rows and columns, and how well one explains the other.

use golden::{Dtype, Role, TensorView};

use crate::entry::EntryReport;
use measure::metric::value_at;

/// The most rows that a test looks at, evenly spread.
const ROWS: usize = 2048;

/// The rows of a first look.
const GLANCE: usize = 64;

/// How many times a test that looks at all must improve the match.
const IMPROVEMENT: f64 = 4.0;

/// Two tensors of one shape, seen as rows along the innermost dimension.
pub(super) struct Case<'a> {
    golden: TensorView<'a>,
    candidate: TensorView<'a>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// What rounding explains.
    pub(super) rounding: f64,
    /// How far the candidate is off.
    pub(super) error: f64,
    /// Whether the numbers were given and not computed.
    given: bool,
}

impl<'a> Case<'a> {
    pub(super) fn new(
        golden: TensorView<'a>,
        candidate: TensorView<'a>,
        entry: &EntryReport,
    ) -> Option<Self> {
        let columns = golden.shape().last().copied().filter(|&columns| columns > 0)?;
        let rows = golden.len_elems() / columns;
        let error = entry.measurement.as_ref()?.relative_l2.filter(|error| error.is_finite())?;
        let rounding = entry.origin.rounding?;
        let given = entry.entry.role == Role::Input;
        Some(Case { golden, candidate, rows, columns, rounding, error, given })
    }

    pub(super) fn golden(&self, row: usize, column: usize) -> f64 {
        value_at(&self.golden, row * self.columns + column)
    }

    pub(super) fn candidate(&self, row: usize, column: usize) -> f64 {
        value_at(&self.candidate, row * self.columns + column)
    }

    pub(super) fn entry_is_given(&self) -> bool {
        self.given
    }

    /// A number as the golden dump and as the candidate would have recorded it.
    pub(super) fn as_golden(&self, value: f32) -> f64 {
        in_dtype(self.golden.dtype(), value)
    }

    pub(super) fn as_candidate(&self, value: f32) -> f64 {
        in_dtype(self.candidate.dtype(), value)
    }

    /// The rows that tests look at.
    pub(super) fn sample(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.rows).step_by(self.rows.div_ceil(ROWS).max(1))
    }

    /// The same, of some rows.
    pub(super) fn sample_of(rows: &[usize]) -> impl Iterator<Item = usize> {
        rows.iter().copied().step_by(rows.len().div_ceil(ROWS).max(1))
    }

    /// The distance of expected and found numbers, relative to the length of the expected ones.
    pub(super) fn distance(&self, pair: impl Fn(usize, usize) -> Option<(f64, f64)>) -> f64 {
        self.distance_in(self.sample(), pair)
    }

    /// The same in a few rows, to see whether it is worth the while.
    pub(super) fn glance(&self, pair: impl Fn(usize, usize) -> Option<(f64, f64)>) -> f64 {
        self.distance_in((0..self.rows).step_by(self.rows.div_ceil(GLANCE).max(1)), pair)
    }

    /// The same over whatever `rows` counts.
    pub(super) fn distance_in(
        &self,
        rows: impl Iterator<Item = usize>,
        pair: impl Fn(usize, usize) -> Option<(f64, f64)>,
    ) -> f64 {
        let (mut differences, mut squares) = (0.0, 0.0);
        for row in rows {
            for (expected, found) in (0..self.columns).filter_map(|column| pair(row, column)) {
                if expected.is_finite() && found.is_finite() {
                    differences += (found - expected) * (found - expected);
                    squares += expected * expected;
                }
            }
        }
        if squares > 0.0 { (differences / squares).sqrt() } else { f64::INFINITY }
    }

    /// The distance of the golden tensor and the candidate's with its rows and columns taken from elsewhere.
    pub(super) fn moved(&self, from: impl Fn(usize, usize) -> (usize, usize)) -> f64 {
        self.distance(|row, column| {
            let (from_row, from_column) = from(row, column);
            Some((self.golden(row, column), self.candidate(from_row, from_column)))
        })
    }

    /// The factor by which the candidate's rows come nearest to the golden ones.
    pub(super) fn factor(&self, rows: impl Iterator<Item = usize>) -> f64 {
        let (mut products, mut squares) = (0.0, 0.0);
        for (row, column) in rows.flat_map(|row| (0..self.columns).map(move |column| (row, column))) {
            let (golden, candidate) = (self.golden(row, column), self.candidate(row, column));
            if golden.is_finite() && candidate.is_finite() {
                products += golden * candidate;
                squares += golden * golden;
            }
        }
        if squares > 0.0 { products / squares } else { 1.0 }
    }

    /// The distance that is left without a factor of each row.
    pub(super) fn without_factor(&self, factor: impl Fn(usize) -> f64) -> f64 {
        self.distance(|row, column| {
            let golden = self.golden(row, column);
            Some((golden, golden + self.candidate(row, column) - factor(row) * golden))
        })
    }

    /// Whether what is left of the error is explained by rounding, and much less than before.
    pub(super) fn explains(&self, left: f64) -> bool {
        self.explains_of(left, self.error)
    }

    /// The same of a test that leaves some of the tensor out, and of the error in what it does not.
    pub(super) fn explains_of(&self, left: f64, before: f64) -> bool {
        let small = left <= 1.5 * self.rounding || left <= 0.02 * before.min(1.0);
        small && left * IMPROVEMENT <= before && before > 0.0
    }

    /// The same for a mistake that rounding hides half of: one that is fitted to few numbers.
    pub(super) fn explains_half(&self, left: f64) -> bool {
        self.explains(left) || left <= self.rounding && 2.0 * left <= self.error
    }
}

/// The golden part that each part of the candidate's is nearest to: the one in its own place, unless another is nearer.
///
/// `distance` is given the candidate's part, then the golden one.
pub(super) fn nearest_parts(count: usize, distance: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let nearest = |of: usize| {
        let own = distance(of, of);
        let best = (0..count).map(|from| (from, distance(of, from))).min_by(|a, b| a.1.total_cmp(&b.1));
        best.filter(|&(_, best)| best < own).map_or(of, |(from, _)| from)
    };
    (0..count).map(nearest).collect()
}

/// A number rounded to a dtype.
pub(super) fn in_dtype(dtype: Dtype, value: f32) -> f64 {
    match dtype {
        Dtype::BFloat16 => half::bf16::from_f32(value).to_f64(),
        Dtype::Float16 => half::f16::from_f32(value).to_f64(),
        _ => f64::from(value),
    }
}
