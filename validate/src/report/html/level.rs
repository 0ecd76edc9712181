//! Errors as bytes.

/// A relative error as a byte: 0 for none, and from 1 on logarithmically from 1e-9 to 10. The page has the inverse.
pub(super) fn level(relative: f32) -> u8 {
    if relative == 0.0 {
        return 0;
    }
    let part = (f64::from(relative).log10() + 9.0) / 10.0;
    1 + (254.0 * part.clamp(0.0, 1.0)).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_logarithmic_and_zero_is_apart() {
        assert_eq!([0.0, 1e-30, 1e-9, 10.0, f32::INFINITY].map(level), [0, 1, 1, 255, 255]);
        assert_eq!(level(1e-4), 128);
    }
}
