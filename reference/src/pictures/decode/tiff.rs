//! TIFF: the variants in everyday use. The format has many more, and Pillow's ways with them are its own.

use std::io::Cursor;

use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::super::DecodeError;
use super::super::raster::{Mode, Raster};
use super::decoded::{Decoded, Warning};
use super::limits::{Admit, MAX_FILE_BYTES, checked_sides};
use crate::pictures::format::Format;

const EXPECTED: &str = "8 bits of grey, RGB, RGBA or CMYK, 16 or 1 of grey, in one plane, upright, \
                        raw or compressed by LZW, Deflate or PackBits";

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

/// The fields that decide how the pixels are read.
#[derive(Debug)]
struct Layout {
    photometric: u16,
    bits: Vec<u16>,
    extra_samples: Vec<u16>,
}

/// Decodes the first picture of a TIFF.
///
/// # Source
/// Pillow, `TiffImagePlugin.py`, `OPEN_INFO`
pub fn decode(bytes: &[u8], admit: Admit<'_>) -> Result<Decoded, DecodeError> {
    let error = |error: TiffError| refusal(error, bytes);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_FILE_BYTES as usize;
    limits.intermediate_buffer_size = MAX_FILE_BYTES as usize;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(error)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(error)?;
    let (width, height) = checked_sides(width, height, admit)?;
    let layout = read_layout(&mut decoder).map_err(error)??;
    let mode = mode_of(&layout, decoder.byte_order() == tiff::tags::ByteOrder::LittleEndian)?;
    let mut warnings = Vec::new();
    if matches!(mode, Mode::La | Mode::Rgba) {
        warnings.push(Warning::Transparency);
    }
    if mode == Mode::I16 {
        warnings.push(Warning::SixteenBitGrey);
    }
    if decoder.more_images() {
        warnings.push(Warning::SeveralFrames);
    }
    let data = match (decoder.read_image().map_err(error)?, mode) {
        (DecodingResult::U8(packed), Mode::Bilevel) => unpack_bits(&packed, width),
        (DecodingResult::U8(data), _) => data,
        (DecodingResult::U16(data), Mode::I16) => data.into_iter().flat_map(u16::to_ne_bytes).collect(),
        _ => return Err(unsupported(format!("{layout:?}"))),
    };
    if data.len() != width * height * mode.bytes_per_pixel() {
        return Err(DecodeError::Truncated { format: Format::Tiff, found_bytes: bytes.len() });
    }
    Ok(Decoded {
        format: Format::Tiff,
        raster: Raster { mode, width, height, data, palette: Vec::new() },
        warnings,
    })
}

/// Reads the fields, and refuses those whose meaning to Pillow is not ours.
fn read_layout(decoder: &mut Reader<'_>) -> Result<Result<Layout, DecodeError>, TiffError> {
    const ONLY: [(Tag, &str, &[u32]); 5] = [
        (Tag::Compression, "compression", &[1, 5, 8, 32773]),
        (Tag::PlanarConfiguration, "planar configuration", &[1]),
        (Tag::FillOrder, "fill order", &[1]),
        (Tag::Orientation, "orientation", &[1]),
        (Tag::SampleFormat, "sample format", &[1]),
    ];
    for (tag, name, allowed) in ONLY {
        let found = decoder.find_tag_unsigned_vec::<u32>(tag)?.unwrap_or_default();
        if let Some(value) = found.iter().find(|value| !allowed.contains(value)) {
            return Ok(Err(unsupported(format!("{name} {value}"))));
        }
    }
    Ok(Ok(Layout {
        photometric: decoder.get_tag_unsigned(Tag::PhotometricInterpretation)?,
        bits: decoder.find_tag_unsigned_vec(Tag::BitsPerSample)?.unwrap_or_else(|| vec![1]),
        extra_samples: decoder.find_tag_unsigned_vec(Tag::ExtraSamples)?.unwrap_or_default(),
    }))
}

fn mode_of(layout: &Layout, little_endian: bool) -> Result<Mode, DecodeError> {
    const WHITE_IS_ZERO: u16 = 0;
    const BLACK_IS_ZERO: u16 = 1;
    const RGB: u16 = 2;
    const CMYK: u16 = 5;
    /// Alpha that the colours were not multiplied with.
    const UNASSOCIATED_ALPHA: &[u16] = &[2];
    match (layout.photometric, layout.bits.as_slice(), layout.extra_samples.as_slice()) {
        (WHITE_IS_ZERO | BLACK_IS_ZERO, [1], []) => Ok(Mode::Bilevel),
        (WHITE_IS_ZERO | BLACK_IS_ZERO, [8], []) => Ok(Mode::L),
        (BLACK_IS_ZERO, [16], []) if little_endian => Ok(Mode::I16),
        (BLACK_IS_ZERO, [8, 8], UNASSOCIATED_ALPHA) => Ok(Mode::La),
        (RGB, [8, 8, 8], []) => Ok(Mode::Rgb),
        (RGB, [8, 8, 8, 8], UNASSOCIATED_ALPHA) => Ok(Mode::Rgba),
        (CMYK, [8, 8, 8, 8], []) => Ok(Mode::Cmyk),
        _ => Err(unsupported(format!(
            "photometric interpretation {}, {:?} bits, extra samples {:?}{}",
            layout.photometric,
            layout.bits,
            layout.extra_samples,
            if little_endian { "" } else { ", big-endian" }
        ))),
    }
}

fn unpack_bits(packed: &[u8], width: usize) -> Vec<u8> {
    packed
        .chunks_exact(width.div_ceil(8))
        .flat_map(|row| (0..width).map(|column| (row[column / 8] >> (7 - column % 8) & 1) * 255))
        .collect()
}

fn unsupported(found: String) -> DecodeError {
    DecodeError::Unsupported { format: Format::Tiff, expected: EXPECTED, found }
}

fn refusal(error: TiffError, bytes: &[u8]) -> DecodeError {
    match error {
        TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Tiff, found_bytes: bytes.len() }
        }
        error => DecodeError::Malformed { format: Format::Tiff, reason: error.to_string() },
    }
}
