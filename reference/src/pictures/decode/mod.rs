//! Files to [`Raster`](crate::pictures::raster::Raster)s, as Pillow decodes them: equal to the last bit, or refused by name.

mod bmp;
mod decoded;
mod exif;
mod gif;
mod jpeg;
mod limits;
mod png;
mod sniff;
mod tiff;
mod webp;

pub use super::format::Format;
pub use decoded::{Decoded, Warning};
pub use limits::{Admit, MAX_FILE_BYTES, MAX_PIXELS, WARN_PIXELS};

use super::error::DecodeError;
use sniff::sniff;

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
    let format = sniff(bytes)?;
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
