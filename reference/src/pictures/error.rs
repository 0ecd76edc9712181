//! What can go wrong between a file and its tiles.

use std::path::PathBuf;

use super::format::Format;

/// An error of [`crate::pictures`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file cannot be opened or read.
    #[error("`{path}`: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is larger than any picture within the limits.
    #[error("`{path}`: expected a picture of at most {limit_bytes} bytes, found more")]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size that is read.
        limit_bytes: u64,
    },
    /// The file's content is refused.
    #[error("`{path}`: {source}")]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DecodeError,
    },
    /// There is too little memory for all tiles of a request.
    #[error(
        "{tiles} tiles and more would take {:.1} GB of memory: expected at most {:.1} GB, all that is free",
        *.needed as f64 / 1e9,
        *.available as f64 / 1e9
    )]
    NoMemory {
        /// Tiles, one for a picture and each frame of a video.
        tiles: usize,
        /// Bytes that they take at least.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// A video gives no frames.
    #[error("video `{path}`: {reason}")]
    Video {
        /// The video.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// `max_num_tiles` of the configuration.
    #[error("`image_processor.max_num_tiles`: expected 1 to {limit}, found {found}")]
    MaxNumTiles {
        /// The largest.
        limit: usize,
        /// The value.
        found: usize,
    },
    /// Another field of `image_processor` in the configuration.
    #[error("`image_processor.{field}`: expected {expected}, found {found}")]
    Config {
        /// The field.
        field: &'static str,
        /// Its allowed values.
        expected: &'static str,
        /// Its value.
        found: String,
    },
    /// libtorch refuses.
    #[error("libtorch cannot resize a picture: {0}")]
    Torch(#[from] tch::TchError),

    /// A picture for a person to look at cannot be written.
    #[error("`{path}`: cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl PictureError {
    /// What to try, where we know it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Decode { source, .. } => source.hint(),
            Self::NoMemory { .. } => Some("ask about fewer pictures or frames at a time"),
            Self::Video { .. } => Some(
                "a folder of pictures is a video, too, with its frames in the order of their names; \
                 a video file is read by ffmpeg (Debian: `apt-get install ffmpeg`)",
            ),
            _ => None,
        }
    }
}

/// Why the content of a file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Nothing in it.
    #[error("expected a picture, found an empty file")]
    Empty,
    /// What stands in the place of the picture: a pointer of Git LFS, a web page.
    #[error("expected a picture ({}), found {}", Format::NAMES, .0)]
    StandIn(store::Content),
    /// No known format begins like this.
    #[error("expected a picture ({}), found {found}", Format::NAMES)]
    UnknownFormat {
        /// The format by name, or the first bytes.
        found: String,
    },
    /// Fewer bytes than the format needs.
    #[error("expected a complete {format} file, found the end after {found_bytes} bytes: it is truncated")]
    Truncated {
        /// The format.
        format: Format,
        /// The file's size.
        found_bytes: usize,
    },
    /// The content contradicts the format.
    #[error("expected a valid {format} file, found: {reason}")]
    Malformed {
        /// The format.
        format: Format,
        /// The decoder's words.
        reason: String,
    },
    /// A variant of the format whose pixels are not known to equal those of the public code.
    #[error("expected {format} in {expected}, found {found}")]
    Unsupported {
        /// The format.
        format: Format,
        /// The variants that are read.
        expected: &'static str,
        /// The variant.
        found: String,
    },
    /// More pixels than Pillow decodes.
    #[error("expected at most {limit} pixels, found {width} × {height}: it may be a decompression bomb")]
    TooManyPixels {
        /// Pixels in a row.
        width: u64,
        /// Rows.
        height: u64,
        /// The most pixels that are decoded.
        limit: u64,
    },
    /// A picture so thin that resizing it would take more memory than any other.
    #[error(
        "expected a picture that can be resized with {:.1} GB of memory, found {width} × {height} pixels, which take {:.1} GB",
        *.limit as f64 / 1e9,
        *.needed as f64 / 1e9
    )]
    TooThin {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes that resizing would take.
        needed: u64,
        /// The most that it may.
        limit: u64,
    },
    /// There is too little memory for the picture.
    #[error(
        "its {width} × {height} pixels would take {:.1} GB of memory: expected at most {:.1} GB, all that is free",
        *.needed as f64 / 1e9,
        *.available as f64 / 1e9
    )]
    NoMemory {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes that it takes at least.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// A side of zero pixels.
    #[error("expected at least one pixel, found {width} × {height}")]
    NoPixels {
        /// Pixels in a row.
        width: u64,
        /// Rows.
        height: u64,
    },
}

impl DecodeError {
    /// What to try, where we know it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::StandIn(content) => content.hint(),
            Self::Unsupported { .. } | Self::UnknownFormat { .. } => Some(
                "save the picture as an 8-bit RGB PNG: no pixel changes, and every tool reads it the same way",
            ),
            Self::TooThin { .. } => {
                Some("cut the picture into several: of one so thin the model sees next to nothing")
            }
            Self::TooManyPixels { .. } | Self::NoMemory { .. } => {
                Some("scale the picture down: the model sees at most `max_num_tiles` tiles of it")
            }
            _ => None,
        }
    }
}
