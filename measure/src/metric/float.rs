//! Floating-point tensors.

use golden::{Dtype, TensorView};
use rayon::prelude::*;

use super::format::{self, FloatFormat, with_format};
use super::measurement::{Measurement, NonFinite, RowError, Rows, difference_at};
use super::row::{self, RowSums};
use super::statistics::statistics;

/// What is kept of each row.
#[derive(Debug, Clone, Copy)]
struct RowLengths {
    /// ‖c_r − g_r‖²
    difference_squares: f64,
    /// ‖g_r‖²
    golden_squares: f64,
    /// Σ |c_i − g_i|
    difference_magnitudes: f64,
    /// Σ |g_i|
    golden_magnitudes: f64,
}

/// What is known of some consecutive elements.
#[derive(Debug, Default)]
struct Part {
    differing: usize,
    first: Option<usize>,
    largest: f64,
    largest_at: Option<usize>,
    max_ulps: u64,
    golden: NonFinite,
    candidate: NonFinite,
    non_finite_mismatches: usize,
    first_non_finite_mismatch: Option<usize>,
    golden_squares: f64,
    candidate_squares: f64,
    difference_squares: f64,
    products: f64,
    rows: Vec<RowLengths>,
}

impl Part {
    /// Appends the part that follows.
    fn append(mut self, next: Part) -> Part {
        self.differing += next.differing;
        self.first = self.first.or(next.first);
        if next.largest > self.largest {
            self.largest = next.largest;
            self.largest_at = next.largest_at;
        }
        self.max_ulps = self.max_ulps.max(next.max_ulps);
        for (sum, part) in [(&mut self.golden, next.golden), (&mut self.candidate, next.candidate)] {
            sum.nan += part.nan;
            sum.inf += part.inf;
        }
        self.non_finite_mismatches += next.non_finite_mismatches;
        self.first_non_finite_mismatch = self.first_non_finite_mismatch.or(next.first_non_finite_mismatch);
        self.golden_squares += next.golden_squares;
        self.candidate_squares += next.candidate_squares;
        self.difference_squares += next.difference_squares;
        self.products += next.products;
        self.rows.extend(next.rows);
        self
    }
}

/// Measures two floating-point tensors of one shape.
pub(super) fn measure(golden: &TensorView<'_>, candidate: &TensorView<'_>) -> Measurement {
    let mut part = pass(golden, candidate, None);
    // Squares of very small or very large float64 leave the range of f64: measure again, scaled into the middle of it.
    let largest_square = part.golden_squares.max(part.candidate_squares).max(part.difference_squares);
    if golden.dtype() == Dtype::Float64 || candidate.dtype() == Dtype::Float64 {
        let in_range = part.differing == 0 || (1e-200..1e200).contains(&largest_square);
        if !in_range && let Some(scale) = scale_of(golden, candidate) {
            part = pass(golden, candidate, Some(scale));
        }
    }

    let golden_l2 = part.golden_squares.sqrt();
    let candidate_l2 = part.candidate_squares.sqrt();
    let difference_l2 = part.difference_squares.sqrt();
    let cosine = if difference_l2 == 0.0 {
        1.0
    } else if golden_l2 == 0.0 || candidate_l2 == 0.0 {
        0.0
    } else {
        (part.products / (golden_l2 * candidate_l2)).clamp(-1.0, 1.0)
    };
    let same_dtype = golden.dtype() == candidate.dtype();
    let at = |flat| difference_at(golden, candidate, flat);
    Measurement {
        elements: golden.len_elems(),
        estimated: false,
        bit_equal: same_dtype && part.differing == 0,
        differing: Some(part.differing),
        first: part.first.map(at),
        largest: part.largest_at.map(at),
        relative_l2: Some(ratio(difference_l2, golden_l2)),
        row_relative_l2: Some(worst_row(&part.rows)),
        rows: row_errors(&part.rows, golden_l2),
        cosine: Some(cosine),
        max_ulps: same_dtype.then_some(part.max_ulps),
        golden: part.golden,
        candidate: part.candidate,
        non_finite_mismatches: part.non_finite_mismatches,
        first_non_finite_mismatch: part.first_non_finite_mismatch.map(at),
    }
}

/// A difference relative to a length: zero if there is none, infinite if there is and the length is zero.
fn ratio(difference: f64, length: f64) -> f64 {
    if difference == 0.0 { 0.0 } else { difference / length }
}

/// The largest relative difference of a row, no row counting as shorter than the median of those that are not zero.
///
/// One wrong row of many hardly shows in the whole tensor's relative difference. A row that is nearly zero has a large
/// relative difference of its own for no other reason than rounding, hence the floor. It is the median, since the
/// first token's row is often longer than all others together and would lift a mean above them.
fn worst_row(rows: &[RowLengths]) -> f64 {
    let mut squares: Vec<f64> =
        rows.iter().map(|row| row.golden_squares).filter(|&square| square > 0.0).collect();
    let middle = squares.len() / 2;
    let floor =
        if squares.is_empty() { 0.0 } else { *squares.select_nth_unstable_by(middle, f64::total_cmp).1 };
    rows.iter()
        .map(|row| ratio(row.difference_squares.sqrt(), row.golden_squares.max(floor).sqrt()))
        .fold(0.0, |worst, row| if row > worst || row.is_nan() { row } else { worst })
}

/// The rows as parts of the whole; none if nothing differs.
fn row_errors(rows: &[RowLengths], golden_l2: f64) -> Vec<RowError> {
    if rows.iter().all(|row| row.difference_squares == 0.0) {
        return Vec::new();
    }
    let error = |row: &RowLengths| {
        let (difference, golden) = (row.difference_squares.sqrt(), row.golden_squares.sqrt());
        let by_magnitude = ratio(row.difference_magnitudes, row.golden_magnitudes);
        RowError {
            golden: ratio(golden, golden_l2) as f32,
            difference: ratio(difference, golden_l2) as f32,
            relative: ratio(difference, golden).max(by_magnitude) as f32,
        }
    };
    rows.iter().map(error).collect()
}

/// A power of two that brings the largest finite magnitude of both near one.
fn scale_of(golden: &TensorView<'_>, candidate: &TensorView<'_>) -> Option<f64> {
    let largest = [golden, candidate]
        .iter()
        .flat_map(|tensor| statistics(tensor).largest_magnitude())
        .fold(0.0, f64::max);
    // 2^±1023 at most, so that the scale itself is finite and normal.
    (largest > 0.0).then(|| 2f64.powi((-largest.log2().floor()).clamp(-1022.0, 1022.0) as i32))
}

fn pass(golden: &TensorView<'_>, candidate: &TensorView<'_>, scale: Option<f64>) -> Part {
    if golden.dtype() == candidate.dtype() {
        with_format!(golden.dtype(), F => {
            chunks::<F, F, _>(golden, candidate, scale, |g, c| (g != c, F::distance(g, c)))
        })
    } else {
        with_format!(golden.dtype(), G => with_format!(candidate.dtype(), C => {
            chunks::<G, C, u32>(golden, candidate, scale, |g, c| {
                let (g, c) = (G::value(g), C::value(c));
                (g != c && !(g.is_nan() && c.is_nan()), 0)
            })
        }))
    }
}

/// Measures chunk by chunk; `compare` tells of two elements whether they differ, and by how many places.
fn chunks<G: FloatFormat, C: FloatFormat, U: Copy + Ord + Default + Into<u64>>(
    golden: &TensorView<'_>,
    candidate: &TensorView<'_>,
    scale: Option<f64>,
    compare: impl Fn(G::Bits, C::Bits) -> (bool, U) + Sync,
) -> Part {
    let rows = Rows::of(golden.shape());
    let golden_chunks = golden.data().par_chunks(rows.chunk_elems * size_of::<G::Bits>());
    let candidate_chunks = candidate.data().par_chunks(rows.chunk_elems * size_of::<C::Bits>());
    let parts: Vec<Part> = golden_chunks
        .zip(candidate_chunks)
        .enumerate()
        .map(|(index, (golden, candidate))| {
            let start = index * rows.chunk_elems;
            let row_elems = rows.row_elems;
            chunk::<G, C, U>(Chunk { golden, candidate, start, row_elems, scale, compare: &compare })
        })
        .collect();
    parts.into_iter().reduce(Part::append).unwrap_or_default()
}

/// Consecutive rows of both tensors, and what `rows` needs to measure them.
struct Chunk<'a, F> {
    golden: &'a [u8],
    candidate: &'a [u8],
    /// The flat index of the first element.
    start: usize,
    row_elems: usize,
    scale: Option<f64>,
    compare: &'a F,
}

/// Measures a chunk with the widest vectors that the processor has. The additions and their order are the same with
/// all of them, and so are the bits.
fn chunk<G: FloatFormat, C: FloatFormat, U: Copy + Ord + Default + Into<u64>>(
    chunk: Chunk<'_, impl Fn(G::Bits, C::Bits) -> (bool, U)>,
) -> Part {
    macro_rules! with_features {
        ($features:literal) => {{
            #[target_feature(enable = $features)]
            fn wide<G: FloatFormat, C: FloatFormat, U: Copy + Ord + Default + Into<u64>>(
                chunk: Chunk<'_, impl Fn(G::Bits, C::Bits) -> (bool, U)>,
            ) -> Part {
                rows::<G, C, U>(chunk)
            }
            // SAFETY: the processor has what the function needs, as was just asked.
            return unsafe { wide::<G, C, U>(chunk) };
        }};
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected;
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            with_features!("avx512f,avx512bw,avx512dq,avx512vl");
        }
        if is_x86_feature_detected!("avx2") {
            with_features!("avx2");
        }
    }
    rows::<G, C, U>(chunk)
}

/// Measures a chunk row by row. Always inlined, so that each caller compiles it for its own vectors.
#[inline(always)]
fn rows<G: FloatFormat, C: FloatFormat, U: Copy + Ord + Default + Into<u64>>(
    chunk: Chunk<'_, impl Fn(G::Bits, C::Bits) -> (bool, U)>,
) -> Part {
    let Chunk { golden, candidate, start, row_elems, scale, compare } = chunk;
    let mut part = Part::default();
    let golden_rows = golden.chunks_exact(row_elems * size_of::<G::Bits>());
    let candidate_rows = candidate.chunks_exact(row_elems * size_of::<C::Bits>());
    part.rows.reserve_exact(golden_rows.len());
    for (index, (golden, candidate)) in golden_rows.zip(candidate_rows).enumerate() {
        let start = start + index * row_elems;
        // Whether there is a scale is asked outside of the loop over the elements.
        let sums = match scale {
            _ if row_elems > row::MAX_ELEMS => None,
            None => row::sums::<G, C, U>(golden, candidate, None, compare),
            scale => row::sums::<G, C, U>(golden, candidate, scale, compare),
        };
        let sums = match sums {
            Some(sums) => {
                // Where the difference is, is asked of few rows: of those that are worse than all before them.
                if sums.largest > part.largest {
                    part.largest = sums.largest;
                    part.largest_at = elements::<G, C>(golden, candidate)
                        .position(|(g, c)| (C::value(c) - G::value(g)).abs() == sums.largest)
                        .map(|place| start + place);
                }
                if sums.differing > 0 && part.first.is_none() {
                    part.first = elements::<G, C>(golden, candidate)
                        .position(|(g, c)| compare(g, c).0)
                        .map(|place| start + place);
                }
                part.differing += sums.differing;
                part.max_ulps = part.max_ulps.max(sums.max_ulps);
                sums
            }
            None => row_with_non_finite::<G, C, U>(&mut part, golden, candidate, start, scale, compare),
        };
        part.golden_squares += sums.golden_squares;
        part.candidate_squares += sums.candidate_squares;
        part.difference_squares += sums.difference_squares;
        part.products += sums.products;
        part.rows.push(RowLengths {
            difference_squares: sums.difference_squares,
            golden_squares: sums.golden_squares,
            difference_magnitudes: sums.difference_magnitudes,
            golden_magnitudes: sums.golden_magnitudes,
        });
    }
    part
}

/// The pairs of elements of a row.
fn elements<'a, G: FloatFormat, C: FloatFormat>(
    golden: &'a [u8],
    candidate: &'a [u8],
) -> impl Iterator<Item = (G::Bits, C::Bits)> + 'a {
    let golden = golden.chunks_exact(size_of::<G::Bits>()).map(bytemuck::pod_read_unaligned);
    let candidate = candidate.chunks_exact(size_of::<C::Bits>()).map(bytemuck::pod_read_unaligned);
    golden.zip(candidate)
}

/// Measures a row element by element, leaving out of the sums what is not finite.
#[inline(never)]
fn row_with_non_finite<G: FloatFormat, C: FloatFormat, U: Into<u64>>(
    part: &mut Part,
    golden: &[u8],
    candidate: &[u8],
    start: usize,
    scale: Option<f64>,
    compare: &impl Fn(G::Bits, C::Bits) -> (bool, U),
) -> RowSums {
    let scale = scale.unwrap_or(1.0);
    let mut sums = RowSums::default();
    for (flat, (golden, candidate)) in (start..).zip(elements::<G, C>(golden, candidate)) {
        let (differs, ulps) = compare(golden, candidate);
        let (golden, candidate) = (G::value(golden), C::value(candidate));
        if differs {
            part.differing += 1;
            part.first.get_or_insert(flat);
        }
        if golden.is_finite() && candidate.is_finite() {
            let magnitude = (candidate - golden).abs();
            if magnitude > part.largest {
                part.largest = magnitude;
                part.largest_at = Some(flat);
            }
            part.max_ulps = part.max_ulps.max(ulps.into());
            let (golden, candidate) = (golden * scale, candidate * scale);
            let difference = candidate - golden;
            sums.golden_squares += golden * golden;
            sums.candidate_squares += candidate * candidate;
            sums.difference_squares += difference * difference;
            sums.products += golden * candidate;
            sums.golden_magnitudes += golden.abs();
            sums.difference_magnitudes += difference.abs();
        } else {
            for (count, value) in [(&mut part.golden, golden), (&mut part.candidate, candidate)] {
                count.nan += usize::from(value.is_nan());
                count.inf += usize::from(value.is_infinite());
            }
            if golden != candidate && !(golden.is_nan() && candidate.is_nan()) {
                part.non_finite_mismatches += 1;
                part.first_non_finite_mismatch.get_or_insert(flat);
            }
        }
    }
    sums
}
