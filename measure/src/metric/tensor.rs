//! Two tensors in full.

use golden::TensorView;

use super::measurement::Measurement;
use super::{float, integer};

/// Measures a candidate's tensor against the golden one; `None` if the shapes differ, or the dtypes do and are not
/// both floating-point.
///
/// # Dtype
///
/// Where two floating-point dtypes differ the values are compared and there is no distance in units in the last place.
pub fn measure(golden: &TensorView<'_>, candidate: &TensorView<'_>) -> Option<Measurement> {
    if golden.shape() != candidate.shape() {
        return None;
    }
    match (golden.dtype().is_float(), candidate.dtype().is_float()) {
        (true, true) => Some(float::measure(golden, candidate)),
        (false, false) if golden.dtype() == candidate.dtype() => Some(integer::measure(golden, candidate)),
        _ => None,
    }
}
