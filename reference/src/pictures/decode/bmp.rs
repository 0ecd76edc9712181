//! Windows bitmaps.
//!
//! Why no library does this: a picture is equal to what Pillow decodes, or refused. Which headers, masks and run lengths are
//! accepted is Pillow's choice; a general decoder accepts others, and repairs what Pillow refuses.

use super::super::DecodeError;
use super::super::raster::{Mode, Raster, Rgb};
use super::decoded::{Decoded, Warning};
use super::limits::{Admit, checked_sides};
use crate::pictures::format::Format;

const FILE_HEADER_BYTES: usize = 14;
const OS2_HEADER_BYTES: usize = 12;
const RAW: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;

/// What the headers say.
struct Header {
    width: usize,
    height: usize,
    bits: u16,
    compression: u32,
    top_down: bool,
    /// Where the palette begins.
    header_end: usize,
    /// Bytes of a palette's colour: blue, green, red, and in most versions one that is unused.
    colour_bytes: usize,
    colours: usize,
    masks: [u32; 4],
    pixels_at: usize,
}

/// How a pixel of 16 bits and more is read.
#[derive(Clone, Copy)]
enum Layout {
    /// Five bits each of red, green and blue from the top, the uppermost bit unused.
    Rgb555,
    /// Five, six and five bits of red, green and blue from the top.
    Rgb565,
    /// The places of the channels in a pixel of so many bytes.
    Bytes { pixel_bytes: usize, channels: &'static [usize] },
}

/// Decodes a bitmap.
///
/// # Source
/// Pillow, `BmpImagePlugin.py`, `BmpImageFile`
pub fn decode(bytes: &[u8], admit: Admit<'_>) -> Result<Decoded, DecodeError> {
    let header = read_header(bytes, admit)?;
    let pixels = bytes.get(header.pixels_at..).unwrap_or_default();
    let truncated = || DecodeError::Truncated { format: Format::Bmp, found_bytes: bytes.len() };
    let (mode, palette, mut data) = match header.bits {
        1 | 4 | 8 => {
            let (mode, palette) = read_palette(bytes, &header)?;
            let scale = if mode == Mode::Bilevel { 255 } else { 1 };
            let data = match header.compression {
                RAW => rows(pixels, &header)
                    .ok_or_else(truncated)?
                    .flat_map(|row| indices(row, &header))
                    .map(|index| index * scale)
                    .collect(),
                RLE8 if header.bits == 8 => runs(pixels, &header).ok_or_else(truncated)?,
                RLE4 if header.bits == 4 => runs(pixels, &header).ok_or_else(truncated)?,
                other => return Err(unsupported(format!("compression {other} with {} bits", header.bits))),
            };
            (mode, palette, data)
        }
        16 | 24 | 32 => {
            let layout = layout(&header)?;
            let mode = match layout {
                Layout::Bytes { channels, .. } if channels.len() == 4 => Mode::Rgba,
                _ => Mode::Rgb,
            };
            let rows = rows(pixels, &header).ok_or_else(truncated)?;
            let mut data = Vec::with_capacity(header.width * header.height * mode.bytes_per_pixel());
            for row in rows {
                layout.unpack(&row[..header.width * usize::from(header.bits) / 8], &mut data);
            }
            (mode, Vec::new(), data)
        }
        bits => return Err(unsupported(format!("{bits} bits"))),
    };
    let (width, height) = (header.width, header.height);
    if !header.top_down {
        let row_bytes = width * mode.bytes_per_pixel();
        data = data.chunks_exact(row_bytes).rev().flatten().copied().collect();
    }
    let warnings = if mode == Mode::Rgba { vec![Warning::Transparency] } else { Vec::new() };
    Ok(Decoded { format: Format::Bmp, raster: Raster { mode, width, height, data, palette }, warnings })
}

fn unsupported(found: String) -> DecodeError {
    DecodeError::Unsupported {
        format: Format::Bmp,
        expected: "1, 4, 8, 16, 24 or 32 bits a pixel, raw, run-length encoded or with the usual masks",
        found,
    }
}

fn read_header(bytes: &[u8], admit: Admit<'_>) -> Result<Header, DecodeError> {
    let truncated = || DecodeError::Truncated { format: Format::Bmp, found_bytes: bytes.len() };
    let u16_at = |offset: usize| -> Result<u16, DecodeError> {
        let bytes = bytes.get(offset..offset + 2).ok_or_else(truncated)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    };
    let u32_at = |offset: usize| Ok(u32::from(u16_at(offset)?) | u32::from(u16_at(offset + 2)?) << 16);

    let pixels_at = u32_at(10)? as usize;
    let header_bytes = u32_at(14)? as usize;
    let mut header_end = FILE_HEADER_BYTES + header_bytes;
    let (sides, top_down, bits, compression, colours, colour_bytes) = match header_bytes {
        OS2_HEADER_BYTES => (checked_sides(u16_at(18)?, u16_at(20)?, admit)?, false, u16_at(24)?, RAW, 0, 3),
        40 | 52 | 56 | 64 | 108 | 124 => {
            let height = u32_at(22)?;
            // Pillow looks at the uppermost byte only; a height between is beyond all limits in either reading.
            let top_down = height >> 24 == 0xff;
            let height = if top_down { height.wrapping_neg() } else { height };
            (checked_sides(u32_at(18)?, height, admit)?, top_down, u16_at(28)?, u32_at(30)?, u32_at(46)?, 4)
        }
        other => return Err(unsupported(format!("a header of {other} bytes"))),
    };
    let mut masks = [0; 4];
    if compression == BITFIELDS {
        let in_header = header_bytes >= 52;
        for (index, mask) in masks.iter_mut().enumerate().take(if header_bytes >= 56 { 4 } else { 3 }) {
            *mask = u32_at(FILE_HEADER_BYTES + 40 + 4 * index)?;
        }
        if !in_header {
            header_end += 12;
        }
    }
    let colours = if colours == 0 { 1usize.checked_shl(bits.into()).unwrap_or(0) } else { colours as usize };
    // Some writers forget the palette.
    let palette_forgotten = pixels_at == FILE_HEADER_BYTES + header_bytes && bits <= 8;
    let pixels_at = match pixels_at {
        0 if bits <= 8 => header_end + colour_bytes * colours,
        0 => header_end,
        _ if palette_forgotten => pixels_at + colour_bytes * colours,
        _ => pixels_at,
    };
    let (width, height) = sides;
    Ok(Header {
        width,
        height,
        bits,
        compression,
        top_down,
        header_end,
        colour_bytes,
        colours,
        masks,
        pixels_at,
    })
}

/// The mode, and the palette where it is one; a palette that only numbers the greys is none.
fn read_palette(bytes: &[u8], header: &Header) -> Result<(Mode, Vec<Rgb>), DecodeError> {
    if !(1..=256).contains(&header.colours) {
        return Err(unsupported(format!("a palette of {} colours", header.colours)));
    }
    let palette = bytes
        .get(header.header_end..header.header_end + header.colours * header.colour_bytes)
        .ok_or(DecodeError::Truncated { format: Format::Bmp, found_bytes: bytes.len() })?;
    let colours = palette.chunks_exact(header.colour_bytes).map(|colour| [colour[2], colour[1], colour[0]]);
    let grey = |index: usize| if header.colours == 2 { (index * 255) as u8 } else { index as u8 };
    if !colours.clone().enumerate().all(|(index, colour)| colour == [grey(index); 3]) {
        return Ok((Mode::P, colours.collect()));
    }
    match (header.bits, header.colours, header.compression) {
        (1, 2, RAW) => Ok((Mode::Bilevel, Vec::new())),
        (8, 3.., _) => Ok((Mode::L, Vec::new())),
        // Pillow then reads the pixels with another number of bits than they have.
        (bits, colours, _) => Err(unsupported(format!("{bits} bits with a palette of {colours} greys"))),
    }
}

/// The stored rows, each with the padding at its end; `None` where some are missing.
fn rows<'a>(pixels: &'a [u8], header: &Header) -> Option<std::slice::ChunksExact<'a, u8>> {
    let row_bytes = (header.width * usize::from(header.bits)).div_ceil(32) * 4;
    Some(pixels.get(..row_bytes * header.height)?.chunks_exact(row_bytes))
}

/// A row's indices, the leftmost in the highest bits.
fn indices<'a>(row: &'a [u8], header: &Header) -> impl Iterator<Item = u8> + use<'a> {
    let bits = usize::from(header.bits);
    let mask = ((1u16 << bits) - 1) as u8;
    (0..header.width).map(move |column| row[column * bits / 8] >> (8 - bits - column * bits % 8) & mask)
}

/// The indices of run-length encoded rows; `None` where some are missing or a run is longer than its row.
fn runs(pixels: &[u8], header: &Header) -> Option<Vec<u8>> {
    let size = header.width * header.height;
    let mut data = Vec::with_capacity(size);
    let mut at = 0;
    let mut next = |count: usize| {
        let taken = pixels.get(at..at + count)?;
        at += count;
        Some(taken)
    };
    let four_bits = header.bits == 4;
    while data.len() < size {
        let pair = next(2)?;
        let left_in_row = header.width - data.len() % header.width;
        match (usize::from(pair[0]), pair[1]) {
            // The end of a row, which may be there already.
            (0, 0) => data.resize(data.len().next_multiple_of(header.width), 0),
            (0, 1) => return None,
            (0, 2) => {
                let step = next(2)?;
                let skipped = usize::from(step[0]) + usize::from(step[1]) * header.width;
                data.resize(size.min(data.len() + skipped), 0);
            }
            (0, count) => {
                let count = usize::from(count);
                let stored = if four_bits { count.div_ceil(2) } else { count };
                // Padded to an even number of bytes.
                let literal = next(stored.next_multiple_of(2))?;
                if count > left_in_row {
                    return None;
                }
                if four_bits {
                    data.extend(literal.iter().flat_map(|pair| [pair >> 4, pair & 15]).take(count));
                } else {
                    data.extend(&literal[..count]);
                }
            }
            (count, _) if count > left_in_row => return None,
            (count, value) if four_bits => data.extend([value >> 4, value & 15].iter().cycle().take(count)),
            (count, value) => data.resize(data.len() + count, value),
        }
    }
    Some(data)
}

fn layout(header: &Header) -> Result<Layout, DecodeError> {
    const BGR: Layout = Layout::Bytes { pixel_bytes: 3, channels: &[2, 1, 0] };
    const fn of_four(channels: &'static [usize]) -> Layout {
        Layout::Bytes { pixel_bytes: 4, channels }
    }
    match (header.compression, header.bits, header.masks) {
        (RAW, 16, _) => Ok(Layout::Rgb555),
        (RAW, 24, _) => Ok(BGR),
        (RAW, 32, _) => Ok(of_four(&[2, 1, 0])),
        (BITFIELDS, 16, [0x7c00, 0x3e0, 0x1f, _]) => Ok(Layout::Rgb555),
        (BITFIELDS, 16, [0xf800, 0x7e0, 0x1f, _]) => Ok(Layout::Rgb565),
        (BITFIELDS, 24, [0xff_0000, 0xff00, 0xff, _]) => Ok(BGR),
        (BITFIELDS, 32, [0xff_0000, 0xff00, 0xff, 0]) => Ok(of_four(&[2, 1, 0])),
        (BITFIELDS, 32, [0xff00_0000, 0xff_0000, 0xff00, 0]) => Ok(of_four(&[3, 2, 1])),
        (BITFIELDS, 32, [0xff00_0000, 0xff00, 0xff, 0]) => Ok(of_four(&[3, 1, 0])),
        (BITFIELDS, 32, [0xff00_0000, 0xff_0000, 0xff00, 0xff]) => Ok(of_four(&[3, 2, 1, 0])),
        (BITFIELDS, 32, [0xff, 0xff00, 0xff_0000, 0xff00_0000]) => Ok(of_four(&[0, 1, 2, 3])),
        (BITFIELDS, 32, [0xff_0000, 0xff00, 0xff, 0xff00_0000] | [0, 0, 0, 0]) => Ok(of_four(&[2, 1, 0, 3])),
        (BITFIELDS, 32, [0xff00_0000, 0xff00, 0xff, 0xff_0000]) => Ok(of_four(&[3, 1, 0, 2])),
        (BITFIELDS, bits, masks) => Err(unsupported(format!("{bits} bits with masks {masks:x?}"))),
        (other, bits, _) => Err(unsupported(format!("compression {other} with {bits} bits"))),
    }
}

impl Layout {
    fn unpack(self, row: &[u8], data: &mut Vec<u8>) {
        match self {
            Self::Bytes { pixel_bytes, channels } => {
                data.extend(
                    row.chunks_exact(pixel_bytes)
                        .flat_map(|pixel| channels.iter().map(|&channel| pixel[channel])),
                );
            }
            Self::Rgb555 | Self::Rgb565 => {
                let green_bits = if matches!(self, Self::Rgb565) { 6 } else { 5 };
                // Truncated, not rounded.
                let channel = |pixel: u16, shift: u32, bits: u32| {
                    let most = (1u32 << bits) - 1;
                    ((u32::from(pixel) >> shift & most) * 255 / most) as u8
                };
                data.extend(row.chunks_exact(2).flat_map(|pair| {
                    let pixel = u16::from_le_bytes([pair[0], pair[1]]);
                    [channel(pixel, 5 + green_bits, 5), channel(pixel, 5, green_bits), channel(pixel, 0, 5)]
                }));
            }
        }
    }
}
