//! Files to [`Raster`]s, as Pillow decodes them: equal to the last bit, or refused by name.

mod bmp;
mod exif;
mod format;
mod gif;
mod jpeg;
mod limits;
mod png;
mod tiff;
mod webp;

pub use format::Format;
pub use limits::{MAX_FILE_BYTES, MAX_PIXELS, WARN_PIXELS};

use super::DecodeError;
use super::raster::Raster;

/// A picture and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The file's format.
    pub format: Format,
    /// The pixels.
    pub raster: Raster,
    /// What a user may not expect, although the public code does the same.
    pub warnings: Vec<Warning>,
}

/// Something that a user may not expect of a picture, although the public code does the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The picture asks to be turned, and is not.
    #[error("its EXIF orientation is {0}: the model sees it as stored, turned or mirrored")]
    Orientation(u16),
    /// Only the first picture of several is seen.
    #[error("it has several frames: the model sees the first")]
    SeveralFrames,
    /// Alpha is dropped.
    #[error("its transparency is dropped: the model sees the colours under it")]
    Transparency,
    /// Grey in 16 bits is clipped.
    #[error("its 16-bit grey is clipped at 255, not scaled: most of it becomes white")]
    SixteenBitGrey,
    /// More pixels than Pillow takes without a warning.
    #[error("it has {0} pixels, more than {WARN_PIXELS}: it may be a decompression bomb")]
    ManyPixels(u64),
}

/// Whether a picture of this width and height is wanted, or why not.
pub type Admit<'a> = &'a dyn Fn(usize, usize) -> Result<(), DecodeError>;

/// Decodes a file's bytes.
///
/// # Errors
/// The bytes are no picture, a broken one, a variant that is not known to decode as in the public code, or more than
/// [`MAX_PIXELS`].
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    decode_if(bytes, &|_, _| Ok(()))
}

/// Decodes a file's bytes, if its size is admitted: that is asked when the header is read, before memory is taken for the
/// pixels.
///
/// # Errors
/// As [`decode`]; or what `admit` says.
pub fn decode_if(bytes: &[u8], admit: Admit<'_>) -> Result<Decoded, DecodeError> {
    let format = Format::sniff(bytes)?;
    let mut decoded = match format {
        Format::Png => png::decode(bytes, admit)?,
        Format::Jpeg => jpeg::decode(bytes, admit)?,
        Format::Webp => webp::decode(bytes, admit)?,
        Format::Gif => gif::decode(bytes, admit)?,
        Format::Bmp => bmp::decode(bytes, admit)?,
        Format::Tiff => tiff::decode(bytes, admit)?,
    };
    let pixels = decoded.raster.width as u64 * decoded.raster.height as u64;
    if pixels > WARN_PIXELS {
        decoded.warnings.push(Warning::ManyPixels(pixels));
    }
    Ok(decoded)
}
