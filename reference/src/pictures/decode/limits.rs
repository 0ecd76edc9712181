//! How much a file may ask for.

use crate::pictures::error::DecodeError;

/// Pixels above which Pillow warns: a quarter of a gibibyte of RGB (`Image.MAX_IMAGE_PIXELS`).
pub const WARN_PIXELS: u64 = 1024 * 1024 * 1024 / 4 / 3;
/// Pixels above which Pillow refuses: twice [`WARN_PIXELS`].
pub const MAX_PIXELS: u64 = 2 * WARN_PIXELS;
/// The largest file that is read: more than [`MAX_PIXELS`] of RGB without compression.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// Whether a picture of this width and height is wanted, or why not.
pub type Admit<'a> = &'a dyn Fn(usize, usize) -> Result<(), DecodeError>;

/// The sides, where they are within the limits and admitted; called before anything is allocated for the pixels.
pub fn checked_sides(
    width: impl Into<u64>,
    height: impl Into<u64>,
    admit: Admit<'_>,
) -> Result<(usize, usize), DecodeError> {
    let (width, height) = (width.into(), height.into());
    if width == 0 || height == 0 {
        return Err(DecodeError::NoPixels { width, height });
    }
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(DecodeError::TooManyPixels { width, height, limit: MAX_PIXELS });
    }
    // Both are below MAX_PIXELS, which fits in 32 bits.
    let (width, height) = (width as usize, height as usize);
    admit(width, height)?;
    Ok((width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_pillows() {
        // Image.MAX_IMAGE_PIXELS
        assert_eq!(WARN_PIXELS, 89_478_485);
        assert!(checked_sides(178_956_970u32, 1u32, &|_, _| Ok(())).is_ok());
        let error = checked_sides(178_956_971u32, 1u32, &|_, _| Ok(())).unwrap_err();
        assert!(matches!(error, DecodeError::TooManyPixels { width: 178_956_971, height: 1, .. }));
        assert!(checked_sides(u64::MAX, u64::MAX, &|_, _| Ok(())).is_err());
    }

    #[test]
    fn a_side_of_nothing_is_refused() {
        assert!(matches!(
            checked_sides(0u32, 5u32, &|_, _| Ok(())),
            Err(DecodeError::NoPixels { width: 0, height: 5 })
        ));
    }
}
