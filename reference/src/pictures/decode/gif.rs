//! GIF: the first frame on its canvas.

use std::io::Cursor;

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::super::DecodeError;
use super::super::raster::{Mode, Raster, Rgb};
use super::decoded::{Decoded, Warning};
use super::limits::{Admit, MAX_PIXELS, checked_sides};
use crate::pictures::format::Format;

/// Decodes a GIF. A palette that only numbers the greys is none: such a picture is grey, and is interpolated.
///
/// # Source
/// Pillow, `GifImagePlugin.py`, `GifImageFile`
pub fn decode(bytes: &[u8], admit: Admit<'_>) -> Result<Decoded, DecodeError> {
    let error = |error: DecodingError| refusal(error, bytes);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // A frame may reach beyond the screen, which then grows.
    options.check_frame_consistency(false);
    if let Some(limit) = std::num::NonZeroU64::new(MAX_PIXELS) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(error)?;
    let (screen_width, screen_height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    let global_palette = decoder.global_palette().map(<[u8]>::to_vec);

    let frame = decoder.next_frame_info().map_err(error)?;
    let frame = frame.cloned().ok_or_else(|| malformed("no picture in it".to_owned()))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let width = screen_width.max(left + frame_width);
    let height = screen_height.max(top + frame_height);
    let (width, height) = checked_sides(width as u64, height as u64, admit)?;
    if frame_width == 0 || frame_height == 0 {
        return Err(DecodeError::NoPixels { width: frame_width as u64, height: frame_height as u64 });
    }
    let mut pixels = vec![0; frame_width * frame_height];
    decoder.read_into_buffer(&mut pixels).map_err(error)?;

    let palette = frame.palette.or(global_palette).unwrap_or_default();
    let palette: Vec<Rgb> = palette.chunks_exact(3).map(|colour| [colour[0], colour[1], colour[2]]).collect();
    let only_greys = palette
        .iter()
        .enumerate()
        .all(|(index, colour)| colour.iter().all(|&value| usize::from(value) == index));
    let mut warnings = Vec::new();
    if frame.transparent.is_some() {
        warnings.push(Warning::Transparency);
    }
    let mut data = vec![frame.transparent.unwrap_or(0); width * height];
    for (row, pixels) in pixels.chunks_exact(frame_width).enumerate() {
        let start = (top + row) * width + left;
        data[start..start + frame_width].copy_from_slice(pixels);
    }
    // What is wrong with a later frame is not our business.
    if matches!(decoder.next_frame_info(), Ok(Some(_))) {
        warnings.push(Warning::SeveralFrames);
    }
    let (mode, palette) = if only_greys { (Mode::L, Vec::new()) } else { (Mode::P, palette) };
    Ok(Decoded { format: Format::Gif, raster: Raster { mode, width, height, data, palette }, warnings })
}

fn malformed(reason: String) -> DecodeError {
    DecodeError::Malformed { format: Format::Gif, reason }
}

fn refusal(error: DecodingError, bytes: &[u8]) -> DecodeError {
    match error {
        DecodingError::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Gif, found_bytes: bytes.len() }
        }
        DecodingError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Gif, found_bytes: bytes.len() }
        }
        error => malformed(error.to_string()),
    }
}
