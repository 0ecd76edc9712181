//! JPEG, by libjpeg with its slow integer transform and smooth upsampling: Pillow's own choice, bit by bit.

use std::any::Any;
use std::cell::Cell;
use std::ffi::c_int;
use std::io::{BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mozjpeg::{ColorSpace, DctMethod, Decompress, Marker};
use mozjpeg_sys as ffi;

use super::super::DecodeError;
use super::super::raster::{Mode, Raster};
use super::decoded::Decoded;
use super::exif::orientation_warning;
use super::limits::{Admit, MAX_PIXELS, checked_sides};
use crate::pictures::format::Format;

/// The most scans of one picture. Progressive encoders make about ten; each costs a pass over all pixels, however few
/// bytes it has.
const MAX_SCANS: usize = 1000;
/// The most pixels over which scans may pass altogether.
const MAX_SCANNED_PIXELS: u64 = 32 * MAX_PIXELS;

/// Decodes a JPEG: grey, YCbCr or RGB, CMYK or YCCK; Huffman or arithmetic coding; sequential or progressive.
///
/// # Source
/// Pillow, `JpegImagePlugin.py` and `src/libImaging/JpegDecode.c`
pub fn decode(bytes: &[u8], admit: Admit<'_>) -> Result<Decoded, DecodeError> {
    let reached_end = Cell::new(false);
    let source = Source { bytes, reached_end: &reached_end };
    // libjpeg reports an error by not returning: `error_exit` unwinds through it, and drops what it holds.
    match catch_unwind(AssertUnwindSafe(|| decode_or_unwind(source, admit))) {
        Ok(result) => result,
        Err(_) if reached_end.get() => {
            Err(DecodeError::Truncated { format: Format::Jpeg, found_bytes: bytes.len() })
        }
        Err(payload) => Err(malformed(message(payload.as_ref()))),
    }
}

fn decode_or_unwind(source: Source<'_>, admit: Admit<'_>) -> Result<Decoded, DecodeError> {
    let Source { bytes, reached_end } = source;
    let io_error = |error: std::io::Error| match reached_end.get() {
        true => DecodeError::Truncated { format: Format::Jpeg, found_bytes: bytes.len() },
        false => malformed(error.to_string()),
    };
    let builder = Decompress::builder().with_err(strict_error_manager()).with_markers(&[Marker::APP(1)]);
    let mut decompress = builder.from_reader(source).map_err(io_error)?;
    let (width, height) = decompress.size();
    let (width, height) = checked_sides(width as u64, height as u64, admit)?;
    let scans = count_scans(bytes);
    if scans > MAX_SCANS || scans as u64 * width as u64 * height as u64 > MAX_SCANNED_PIXELS {
        return Err(malformed(format!(
            "{scans} scans of {width} × {height} pixels, which would take too long"
        )));
    }
    let warnings =
        decompress.markers().find_map(|marker| orientation_warning(marker.data)).into_iter().collect();
    let components = decompress.components().len();
    let (mode, color_space) = match components {
        1 => (Mode::L, ColorSpace::JCS_GRAYSCALE),
        3 => (Mode::Rgb, ColorSpace::JCS_RGB),
        4 => (Mode::Cmyk, ColorSpace::JCS_CMYK),
        _ => {
            return Err(DecodeError::Unsupported {
                format: Format::Jpeg,
                expected: "1, 3 or 4 channels",
                found: components.to_string(),
            });
        }
    };
    decompress.dct_method(DctMethod::IntegerSlow);
    decompress.do_fancy_upsampling(true);
    let mut started = decompress.to_colorspace(color_space).map_err(io_error)?;
    let mut data = started.read_scanlines::<u8>().map_err(io_error)?;
    // Reads up to the marker at the end, which Pillow wants to see as well.
    started.finish().map_err(io_error)?;
    if reached_end.get() {
        return Err(DecodeError::Truncated { format: Format::Jpeg, found_bytes: bytes.len() });
    }
    if mode == Mode::Cmyk {
        // Stored inverted, as Adobe does; Pillow takes that for granted.
        for ink in &mut data {
            *ink = 255 - *ink;
        }
    }
    Ok(Decoded {
        format: Format::Jpeg,
        raster: Raster { mode, width, height, data, palette: Vec::new() },
        warnings,
    })
}

/// Scans of the picture: one more than [`MAX_SCANS`] where there are more. What stands behind the picture's end is none of
/// it (a phone's video, a second picture), nor what stands in a marker's segment (a thumbnail).
fn count_scans(bytes: &[u8]) -> usize {
    const START_OF_IMAGE: u8 = 0xd8;
    const END_OF_IMAGE: u8 = 0xd9;
    const START_OF_SCAN: u8 = 0xda;
    let mut scans = 0;
    let mut rest = bytes;
    // As libjpeg looks for a marker: whatever is in front of it is passed over, coded data as well.
    while scans <= MAX_SCANS
        && let Some(at) = rest.iter().position(|&byte| byte == 0xff)
    {
        let fill = rest[at..].iter().take_while(|&&byte| byte == 0xff).count();
        rest = &rest[at + fill..];
        let Some((&marker, behind)) = rest.split_first() else { break };
        rest = behind;
        match marker {
            END_OF_IMAGE => break,
            // A byte of coded data, a restart, and what has no segment.
            0 | 1 | START_OF_IMAGE | 0xd0..=0xd7 => {}
            _ => {
                scans += usize::from(marker == START_OF_SCAN);
                let length = rest.first_chunk().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
    scans
}

/// Bytes that remember whether more were asked for.
struct Source<'a> {
    bytes: &'a [u8],
    reached_end: &'a Cell<bool>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.bytes.is_empty() {
            self.reached_end.set(true);
        }
        Ok(self.bytes)
    }

    fn consume(&mut self, amount: usize) {
        self.bytes = &self.bytes[amount..];
    }
}

fn malformed(reason: String) -> DecodeError {
    DecodeError::Malformed { format: Format::Jpeg, reason }
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "the decoder stopped".to_owned())
}

/// libjpeg's error handling, but silent, unwinding, and strict about data that it would invent a substitute for: what
/// stands in for lost data is not the same in each of its releases.
fn strict_error_manager() -> ffi::jpeg_error_mgr {
    // SAFETY: a C struct of numbers, pointers and optional functions, for which zeros are valid; `jpeg_std_error` then
    // fills in every field.
    let mut manager = unsafe {
        let mut manager: ffi::jpeg_error_mgr = std::mem::zeroed();
        ffi::jpeg_std_error(&mut manager);
        manager
    };
    manager.error_exit = Some(error_exit);
    manager.emit_message = Some(emit_message);
    manager
}

extern "C-unwind" fn error_exit(info: &mut ffi::jpeg_common_struct) {
    // `resume_unwind` calls no panic hook: nothing is printed.
    resume_unwind(Box::new(formatted(info)));
}

extern "C-unwind" fn emit_message(info: &mut ffi::jpeg_common_struct, level: c_int) {
    const DAMAGE: [ffi::J_MESSAGE_CODE; 5] = [
        ffi::JWRN_BOGUS_PROGRESSION,
        ffi::JWRN_HIT_MARKER,
        ffi::JWRN_HUFF_BAD_CODE,
        ffi::JWRN_JPEG_EOF,
        ffi::JWRN_MUST_RESYNC,
    ];
    // SAFETY: libjpeg calls this with the manager that it was given.
    let code = unsafe { (*info.err).msg_code };
    if level < 0 && DAMAGE.iter().any(|&damage| i64::from(damage) == i64::from(code)) {
        error_exit(info);
    }
}

/// The message that libjpeg has ready.
fn formatted(info: &mut ffi::jpeg_common_struct) -> String {
    type FormatMessage = unsafe extern "C-unwind" fn(&mut ffi::jpeg_common_struct, *mut u8);
    let mut buffer = [0u8; 80];
    // SAFETY: libjpeg calls this with the manager that it was given. Its function writes a text of at most 80 bytes
    // (`JMSG_LENGTH_MAX`), zero included, through its second argument, which the binding declares as immutable.
    unsafe {
        if let Some(format_message) = (*info.err).format_message {
            let format_message = std::mem::transmute::<*const (), FormatMessage>(format_message as *const ());
            format_message(info, buffer.as_mut_ptr());
        }
    }
    let text = buffer.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
