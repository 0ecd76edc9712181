//! Tensors of which at least one side has a sketch only.

use golden::{Dtype, Dump, Entry, Sketch, TensorView};

use super::measurement::{Measurement, NonFinite};
use super::tensor::measure;
use crate::error::{Error, Result};

/// Measures what two dumps have under a name of each, in full or as a sketch; `None` if one of them has nothing, or if
/// shapes or kinds of dtype differ as in [`measure`].
///
/// Where one side is in full and the other a sketch, the full one is sketched as the other was.
///
/// # Errors
///
/// [`Error::Seeds`] if the sketches of tensors that are not equal were drawn from different seeds.
pub fn measure_entry(golden: (&Dump, &str), candidate: (&Dump, &str)) -> Result<Option<Measurement>> {
    let [tensor, other] = [golden, candidate].map(|(dump, name)| dump.get(name));
    if let (Some(golden), Some(candidate)) = (&tensor, &other) {
        return Ok(measure(golden, candidate));
    }
    let [Some(expected), Some(found)] = [golden, candidate].map(|(dump, name)| dump.entry(name)) else {
        return Ok(None);
    };
    if !are_comparable((&expected.shape, expected.dtype), (&found.shape, found.dtype)) {
        return Ok(None);
    }
    let sketch =
        |tensor: &Option<TensorView<'_>>, as_other: &Sketch| tensor.as_ref().map(|view| as_other.like(view));
    let sketches = [golden, candidate].map(|(dump, name)| dump.sketch(name));
    Ok(match sketches.into() {
        (Some(g), Some(c)) => Some(estimate((expected, g), (found, c))?),
        (Some(g), None) => match sketch(&other, g) {
            Some(c) => Some(estimate((expected, g), (found, &c))?),
            None => None,
        },
        (None, Some(c)) => match sketch(&tensor, c) {
            Some(g) => Some(estimate((expected, &g), (found, c))?),
            None => None,
        },
        (None, None) => None,
    })
}

/// Measures a tensor against the sketch of a golden one, as [`measure_entry`] does.
///
/// # Errors
///
/// Those of [`measure_entry`].
pub fn measure_tensor(golden: (&Entry, &Sketch), candidate: &TensorView<'_>) -> Result<Option<Measurement>> {
    let (entry, sketch) = golden;
    let dtype = candidate.dtype();
    if !are_comparable((&entry.shape, entry.dtype), (candidate.shape(), dtype)) {
        return Ok(None);
    }
    let found = Entry { dtype, sha256: golden::sha256_hex(candidate.data()), ..entry.clone() };
    Ok(Some(estimate(golden, (&found, &sketch.like(candidate)))?))
}

/// Whether shapes are equal, and dtypes equal or both of floating point.
fn are_comparable(golden: (&[usize], Dtype), candidate: (&[usize], Dtype)) -> bool {
    let both_float = golden.1.is_float() && candidate.1.is_float();
    golden.0 == candidate.0 && (golden.1 == candidate.1 || both_float)
}

/// What two sketches tell of their tensors.
fn estimate(golden: (&Entry, &Sketch), candidate: (&Entry, &Sketch)) -> Result<Measurement> {
    let ((entry, expected), (other, found)) = (golden, candidate);
    let elements = usize::try_from(expected.len_elems()).unwrap_or(usize::MAX);
    let (is_float, same_dtype) = (entry.dtype.is_float(), entry.dtype == other.dtype);
    let counts = |sketch: &Sketch| NonFinite {
        nan: usize::try_from(sketch.nan).unwrap_or(usize::MAX),
        inf: usize::try_from(sketch.inf).unwrap_or(usize::MAX),
    };
    let mut measurement = Measurement {
        elements,
        estimated: false,
        bit_equal: true,
        differing: Some(0),
        first: None,
        largest: None,
        relative_l2: is_float.then_some(0.0),
        row_relative_l2: is_float.then_some(0.0),
        rows: Vec::new(),
        cosine: is_float.then_some(1.0),
        max_ulps: (is_float && same_dtype).then_some(0),
        golden: counts(expected),
        candidate: counts(found),
        non_finite_mismatches: 0,
        first_non_finite_mismatch: None,
    };
    // The hash is that of the tensors: no estimate is needed.
    if same_dtype && entry.sha256 == other.sha256 {
        return Ok(measurement);
    }
    if !expected.is_comparable(found) {
        return Err(Error::Seeds {
            name: entry.key().into_owned(),
            expected: expected.seed,
            found: found.seed,
        });
    }
    measurement.estimated = true;
    measurement.bit_equal = false;
    measurement.differing = None;
    measurement.relative_l2 = expected.relative_l2(found).filter(|_| is_float);
    measurement.row_relative_l2 = None;
    measurement.cosine = expected.cosine(found).filter(|_| is_float);
    measurement.max_ulps = None;
    measurement.non_finite_mismatches = usize::from(!expected.has_same_non_finite(found));
    Ok(measurement)
}
