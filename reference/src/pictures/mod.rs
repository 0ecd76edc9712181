//! Pictures to tiles: what the public code's image processor computes, to the last bit.
//!
//! A file is decoded into the [mode](raster::Mode) in which Pillow holds it ([`decode`]), enlarged in that mode and
//! converted to RGB ([`upscale`]), resized to the best [`grid`] of square tiles and cut ([`tiles`]).

mod contact_sheet;
pub mod decode;
mod error;
mod format;
pub mod grid;
mod preprocess;
pub mod raster;
pub mod resample;
mod room;
pub mod tiles;
pub mod upscale;
pub mod video;

pub use contact_sheet::{contact_sheet, write_contact_sheet};
pub use decode::Warning;
pub use error::{DecodeError, PictureError};
pub use preprocess::{MediaFile, Picture, Preprocessed, preprocess, preprocess_media};
