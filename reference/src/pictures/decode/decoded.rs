//! A picture that was decoded.

use super::limits::WARN_PIXELS;
use crate::pictures::format::Format;
use crate::pictures::raster::Raster;

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
