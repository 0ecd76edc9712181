//! Which numbers a configuration can have.

/// Larger sizes would overflow the shapes that are computed from them.
pub(super) const MAX_SIZE: usize = (1 << 31) - 1;

/// Whether a number that is not 0 is neither 0 nor infinite in float32, in which the model computes.
pub(super) fn within_float32(number: f64) -> bool {
    let number = number as f32;
    number.is_finite() && number != 0.0
}

/// Whether something can be multiplied with a number and divided by it; else what is expected.
pub(crate) fn positive(number: f64) -> Result<(), &'static str> {
    if number > 0.0 && within_float32(number) {
        Ok(())
    } else if number > 0.0 {
        Err("a number above 0 that float32 holds")
    } else {
        Err("a number above 0")
    }
}
