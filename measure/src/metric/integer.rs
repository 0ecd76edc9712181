//! Integers and booleans, which are equal or are not.

use golden::{Dtype, TensorView};
use rayon::prelude::*;

use super::measurement::{Measurement, NonFinite, Rows, difference_at};
use super::value::integer;

#[derive(Debug, Default)]
struct Part {
    differing: usize,
    first: Option<usize>,
    largest: u128,
    largest_at: Option<usize>,
}

/// Measures two tensors of one shape and one dtype that is not floating-point.
pub(super) fn measure(golden: &TensorView<'_>, candidate: &TensorView<'_>) -> Measurement {
    let dtype = golden.dtype();
    let chunk_elems = Rows::of(golden.shape()).chunk_elems;
    let chunk_bytes = chunk_elems * dtype.size_bytes();
    let parts: Vec<Part> = golden
        .data()
        .par_chunks(chunk_bytes)
        .zip(candidate.data().par_chunks(chunk_bytes))
        .enumerate()
        .map(|(index, (golden, candidate))| chunk(dtype, golden, candidate, index * chunk_elems))
        .collect();
    let whole = parts.into_iter().fold(Part::default(), |mut whole, part| {
        whole.differing += part.differing;
        whole.first = whole.first.or(part.first);
        if part.largest > whole.largest {
            whole.largest = part.largest;
            whole.largest_at = part.largest_at;
        }
        whole
    });
    let at = |flat| difference_at(golden, candidate, flat);
    Measurement {
        elements: golden.len_elems(),
        estimated: false,
        bit_equal: whole.differing == 0,
        differing: Some(whole.differing),
        first: whole.first.map(at),
        largest: whole.largest_at.map(at),
        relative_l2: None,
        row_relative_l2: None,
        rows: Vec::new(),
        cosine: None,
        max_ulps: None,
        golden: NonFinite::default(),
        candidate: NonFinite::default(),
        non_finite_mismatches: 0,
        first_non_finite_mismatch: None,
    }
}

fn chunk(dtype: Dtype, golden: &[u8], candidate: &[u8], start: usize) -> Part {
    let mut part = Part::default();
    if golden == candidate {
        return part;
    }
    let size_bytes = dtype.size_bytes();
    let pairs = golden.chunks_exact(size_bytes).zip(candidate.chunks_exact(size_bytes));
    for (flat, (golden, candidate)) in (start..).zip(pairs) {
        if golden == candidate {
            continue;
        }
        part.differing += 1;
        part.first.get_or_insert(flat);
        let magnitude = integer(dtype, golden).abs_diff(integer(dtype, candidate));
        if magnitude > part.largest {
            part.largest = magnitude;
            part.largest_at = Some(flat);
        }
    }
    part
}
