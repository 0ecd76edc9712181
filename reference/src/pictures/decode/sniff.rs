//! What a file is, by its first bytes; its name is not asked.

use store::Content;

use crate::pictures::error::DecodeError;
use crate::pictures::format::Format;

/// The format whose signature `bytes` begin with.
///
/// # Errors
/// The bytes are empty, or begin with no such signature.
pub fn sniff(bytes: &[u8]) -> Result<Format, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let at =
        |offset: usize, signature: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(signature));
    if at(0, b"\x89PNG\r\n\x1a\n") {
        Ok(Format::Png)
    } else if at(0, b"\xff\xd8\xff") {
        Ok(Format::Jpeg)
    } else if at(0, b"RIFF") && at(8, b"WEBP") {
        Ok(Format::Webp)
    } else if at(0, b"GIF87a") || at(0, b"GIF89a") {
        Ok(Format::Gif)
    } else if at(0, b"BM") {
        Ok(Format::Bmp)
    } else if at(0, b"II*\0") || at(0, b"MM\0*") {
        Ok(Format::Tiff)
    } else {
        match Content::stand_in(bytes) {
            Some(content) => Err(DecodeError::StandIn(content)),
            None => Err(DecodeError::UnknownFormat { found: describe(bytes) }),
        }
    }
}

/// The name of a format that is not read, or else the first bytes.
fn describe(bytes: &[u8]) -> String {
    const OTHERS: [(usize, &[u8], &str); 17] = [
        (4, b"ftypavif", "an AVIF picture"),
        (4, b"ftyphei", "a HEIC picture"),
        (4, b"ftypmif1", "a HEIC picture"),
        (4, b"ftyp", "a video (MP4 or a relative)"),
        (0, b"\xff\x0a", "a JPEG XL picture"),
        (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
        (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
        (0, b"II+\0", "a BigTIFF picture"),
        (0, b"MM\0+", "a BigTIFF picture"),
        (0, b"\0\0\x01\0", "an icon"),
        (0, b"8BPS", "a Photoshop picture"),
        (0, b"%PDF", "a PDF document"),
        (0, b"<svg", "an SVG drawing"),
        (0, b"<?xml", "an XML document"),
        (0, b"<", "a web page"),
        (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
        (0, b"RIFF", "a RIFF file that is not a WebP picture"),
    ];
    let known = OTHERS
        .iter()
        .find(|(offset, signature, _)| bytes.get(*offset..).is_some_and(|rest| rest.starts_with(signature)));
    match known {
        Some((_, _, name)) => (*name).to_owned(),
        None => format!("a file that begins with `{}`", bytes[..bytes.len().min(8)].escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_decides() {
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\nrest").unwrap(), Format::Png);
        assert_eq!(sniff(b"\xff\xd8\xff\xe0").unwrap(), Format::Jpeg);
        assert_eq!(sniff(b"RIFF\x10\0\0\0WEBPVP8 ").unwrap(), Format::Webp);
        assert_eq!(sniff(b"GIF89a").unwrap(), Format::Gif);
        assert_eq!(sniff(b"BM").unwrap(), Format::Bmp);
        assert_eq!(sniff(b"MM\0*").unwrap(), Format::Tiff);
    }

    #[test]
    fn what_is_no_picture_is_named() {
        let found = |bytes: &[u8]| sniff(bytes).unwrap_err().to_string();
        assert_eq!(found(b""), "expected a picture, found an empty file");
        assert_eq!(
            found(b"\0\0\0\x1cftypavif"),
            "expected a picture (PNG, JPEG, WebP, GIF, BMP or TIFF), found an AVIF picture"
        );
        assert_eq!(
            found(b"hello, world"),
            "expected a picture (PNG, JPEG, WebP, GIF, BMP or TIFF), found a file that begins with `hello, w`"
        );
        assert_eq!(
            found(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
            "expected a picture (PNG, JPEG, WebP, GIF, BMP or TIFF), found a Git LFS pointer to a file of 5 bytes"
        );
        assert_eq!(
            found(b"RIFF\x10\0\0\0WAVE"),
            "expected a picture (PNG, JPEG, WebP, GIF, BMP or TIFF), found a RIFF file that is not a WebP picture"
        );
    }
}
