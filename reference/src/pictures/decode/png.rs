//! PNG, into the modes that Pillow has for each of its kinds.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Limits};

use super::super::DecodeError;
use super::super::raster::{Mode, Raster};
use super::decoded::{Decoded, Warning};
use super::exif::orientation_warning;
use super::limits::{Admit, checked_sides};
use crate::pictures::format::Format;

/// What the decoder may allocate beside the pixels: rows and chunks.
const MAX_DECODER_BYTES: usize = 256 << 20;

/// Decodes a PNG; of an animated one, the default image.
///
/// # Source
/// Pillow, `PngImagePlugin.py`, `_MODES`
pub fn decode(bytes: &[u8], admit: Admit<'_>) -> Result<Decoded, DecodeError> {
    let error = |error: DecodingError| refusal(error, bytes);
    let mut options = DecodeOptions::default();
    // Pillow refuses these as well.
    options.set_ignore_adler32(false);
    options.set_skip_ancillary_crc_failures(false);
    // Never looked at; they may expand to any size.
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_limits(Limits { bytes: MAX_DECODER_BYTES });
    let header = decoder.read_header_info().map_err(error)?;
    let (width, height) = checked_sides(header.width, header.height, admit)?;
    let mut reader = decoder.read_info().map_err(error)?;
    let buffer_size = reader.output_buffer_size().ok_or_else(|| error(DecodingError::LimitsExceeded))?;
    let mut packed = vec![0; buffer_size];
    reader.next_frame(&mut packed).map_err(error)?;

    let info = reader.info();
    let (color_type, bit_depth) = (info.color_type, info.bit_depth);
    let mut warnings = Vec::new();
    warnings.extend(info.exif_metadata.as_deref().and_then(orientation_warning));
    if info.animation_control.is_some_and(|animation| animation.num_frames > 1) {
        warnings.push(Warning::SeveralFrames);
    }
    if info.trns.is_some() || matches!(color_type, ColorType::GrayscaleAlpha | ColorType::Rgba) {
        warnings.push(Warning::Transparency);
    }
    let palette = match (color_type, info.palette.as_deref()) {
        (ColorType::Indexed, Some(palette)) => {
            palette.chunks_exact(3).map(|colour| [colour[0], colour[1], colour[2]]).collect()
        }
        _ => Vec::new(),
    };

    let row_bytes = packed.len() / height;
    let unpacked = |bits: u32, scale: u8| -> Vec<u8> {
        packed
            .chunks_exact(row_bytes)
            .flat_map(|row| unpack_bits(row, bits, width))
            .map(|value| value * scale)
            .collect()
    };
    let (mode, data) = match (color_type, bit_depth) {
        (ColorType::Grayscale, BitDepth::One) => (Mode::Bilevel, unpacked(1, 255)),
        (ColorType::Grayscale, BitDepth::Two) => (Mode::L, unpacked(2, 85)),
        (ColorType::Grayscale, BitDepth::Four) => (Mode::L, unpacked(4, 17)),
        (ColorType::Grayscale, BitDepth::Eight) => (Mode::L, packed),
        (ColorType::Grayscale, BitDepth::Sixteen) => {
            warnings.push(Warning::SixteenBitGrey);
            let native =
                packed.chunks_exact(2).flat_map(|pair| u16::from_be_bytes([pair[0], pair[1]]).to_ne_bytes());
            (Mode::I16, native.collect())
        }
        (ColorType::Indexed, BitDepth::Eight) => (Mode::P, packed),
        (ColorType::Indexed, depth) => (Mode::P, unpacked(depth as u32, 1)),
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => {
            let rgba = packed.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[0], pixel[0], pixel[2]]);
            (Mode::Rgba, rgba.collect())
        }
        (ColorType::GrayscaleAlpha, _) => (Mode::La, packed),
        // Of 16 bits the upper 8 are kept.
        (ColorType::Rgb, BitDepth::Sixteen) => (Mode::Rgb, packed.into_iter().step_by(2).collect()),
        (ColorType::Rgb, _) => (Mode::Rgb, packed),
        (ColorType::Rgba, BitDepth::Sixteen) => (Mode::Rgba, packed.into_iter().step_by(2).collect()),
        (ColorType::Rgba, _) => (Mode::Rgba, packed),
    };
    Ok(Decoded { format: Format::Png, raster: Raster { mode, width, height, data, palette }, warnings })
}

/// The first `width` values of `bits` bits each, the leftmost in the highest bits.
fn unpack_bits(row: &[u8], bits: u32, width: usize) -> impl Iterator<Item = u8> {
    let per_byte = 8 / bits as usize;
    let mask = ((1u16 << bits) - 1) as u8;
    (0..width).map(move |column| {
        let shift = 8 - bits * (column % per_byte + 1) as u32;
        (row[column / per_byte] >> shift) & mask
    })
}

fn refusal(error: DecodingError, bytes: &[u8]) -> DecodeError {
    match error {
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Png, found_bytes: bytes.len() }
        }
        error => DecodeError::Malformed { format: Format::Png, reason: error.to_string() },
    }
}
