//! WebP, lossy and lossless.

use std::borrow::Cow;
use std::io::Cursor;

use image_webp::{DecodingError, WebPDecodeOptions, WebPDecoder};

use super::super::DecodeError;
use super::super::raster::{Mode, Raster};
use super::decoded::{Decoded, Warning};
use super::exif::orientation_warning;
use super::limits::{Admit, checked_sides};
use crate::pictures::format::Format;

/// What the decoder may allocate for a single chunk, beside the pixels.
const MAX_CHUNK_BYTES: usize = 256 << 20;

/// Decodes a WebP; of an animated one, the first frame on its canvas.
///
/// # Source
/// Pillow, `WebPImagePlugin.py`
pub fn decode(bytes: &[u8], admit: Admit<'_>) -> Result<Decoded, DecodeError> {
    let error = |error: DecodingError| refusal(error, bytes);
    let first_frame = check_chunks(bytes)?;
    let bytes_to_decode = match first_frame {
        Some(frame) => Cow::Owned(without_blending(bytes, frame)),
        None => Cow::Borrowed(bytes),
    };
    let mut decoder =
        WebPDecoder::new_with_options(Cursor::new(bytes_to_decode.as_ref()), WebPDecodeOptions::default())
            .map_err(error)?;
    decoder.set_memory_limit(MAX_CHUNK_BYTES);
    let (width, height) = decoder.dimensions();
    let (width, height) = checked_sides(width, height, admit)?;
    let mut warnings = Vec::new();
    let exif = decoder.exif_metadata().map_err(error)?;
    warnings.extend(exif.as_deref().and_then(orientation_warning));
    let mode = if decoder.has_alpha() { Mode::Rgba } else { Mode::Rgb };
    if mode == Mode::Rgba {
        warnings.push(Warning::Transparency);
    }
    let mut data = vec![0; width * height * mode.bytes_per_pixel()];
    if decoder.is_animated() {
        if decoder.num_frames() > 1 {
            warnings.push(Warning::SeveralFrames);
        }
        decoder.read_frame(&mut data).map_err(error)?;
    } else {
        decoder.read_image(&mut data).map_err(error)?;
    }
    Ok(Decoded {
        format: Format::Webp,
        raster: Raster { mode, width, height, data, palette: Vec::new() },
        warnings,
    })
}

const FRAME_HEADER_BYTES: usize = 16;

/// The file with its first frame, whose payload begins at `frame`, put on the canvas as it is: libwebp, and so Pillow,
/// blends no first frame with the canvas behind it, whatever the frame's flag says.
///
/// # Source
/// libwebp, `src/demux/anim_decode.c`, `WebPAnimDecoderGetNext`
fn without_blending(bytes: &[u8], frame: usize) -> Vec<u8> {
    const FLAGS_AT: usize = FRAME_HEADER_BYTES - 1;
    const DO_NOT_BLEND: u8 = 0b10;
    let mut bytes = bytes.to_vec();
    if let Some(flags) = bytes.get_mut(frame + FLAGS_AT) {
        *flags |= DO_NOT_BLEND;
    }
    bytes
}

/// Whether all chunks are there, those of later frames as well: a file cut short may still have its first picture. Gives the
/// place of the first frame's payload, where there are frames.
fn check_chunks(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
    let truncated = || DecodeError::Truncated { format: Format::Webp, found_bytes: bytes.len() };
    let riff_bytes = bytes.get(4..8).map(size_of_chunk).ok_or_else(truncated)?;
    let mut chunks = bytes.get(12..8 + riff_bytes).ok_or_else(truncated)?;
    let end = 8 + riff_bytes;
    let mut first_frame = None;
    while !chunks.is_empty() {
        let (name, payload, rest) = split_chunk(chunks).ok_or_else(truncated)?;
        if name == b"ANMF" {
            first_frame.get_or_insert(end - chunks.len() + CHUNK_HEADER_BYTES);
            let mut frame = payload.get(FRAME_HEADER_BYTES..).ok_or_else(truncated)?;
            while !frame.is_empty() {
                (_, _, frame) = split_chunk(frame).ok_or_else(truncated)?;
            }
        }
        chunks = rest;
    }
    Ok(first_frame)
}

const CHUNK_HEADER_BYTES: usize = 8;

/// Name and payload of the first chunk, and what follows it; chunks begin at even offsets.
fn split_chunk(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let payload_bytes = size_of_chunk(bytes.get(4..8)?);
    let payload = bytes.get(8..8 + payload_bytes)?;
    Some((&bytes[..4], payload, bytes.get(8 + payload_bytes.next_multiple_of(2)..).unwrap_or_default()))
}

fn size_of_chunk(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |size, &byte| size << 8 | usize::from(byte))
}

fn refusal(error: DecodingError, bytes: &[u8]) -> DecodeError {
    match error {
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Webp, found_bytes: bytes.len() }
        }
        error => DecodeError::Malformed { format: Format::Webp, reason: error.to_string() },
    }
}
