//! The one EXIF field that matters: the orientation, which is *not* applied.
//!
//! Why no library does this: it is one field in thirty lines, and a damaged block is ignored as Pillow ignores it.

use super::decoded::Warning;

const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;

/// A warning where an EXIF block (with or without its `Exif\0\0` introduction) asks for the picture to be turned.
pub fn orientation_warning(exif: &[u8]) -> Option<Warning> {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    orientation(tiff).filter(|value| (2..=8).contains(value)).map(Warning::Orientation)
}

/// The value of the orientation in the first directory of a TIFF structure; whatever is odd about it is ignored.
fn orientation(tiff: &[u8]) -> Option<u16> {
    let little_endian = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let u16_at = |offset: usize| {
        let bytes: [u8; 2] = tiff.get(offset..offset.checked_add(2)?)?.try_into().ok()?;
        Some(if little_endian { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let directory = (|| {
        let bytes: [u8; 4] = tiff.get(4..8)?.try_into().ok()?;
        Some(if little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize)
    })()?;
    let entries = u16_at(directory)?;
    (0..usize::from(entries)).find_map(|entry| {
        let entry = directory.checked_add(2 + 12 * entry)?;
        (u16_at(entry)? == ORIENTATION && u16_at(entry + 2)? == SHORT).then(|| u16_at(entry + 8))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(little_endian: bool, value: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |values: &[u16]| {
            for value in values {
                bytes.extend(if little_endian { value.to_le_bytes() } else { value.to_be_bytes() });
            }
        };
        let offset = if little_endian { [8, 0] } else { [0, 8] };
        let count = if little_endian { [1, 0] } else { [0, 1] };
        put(&[if little_endian { 0x4949 } else { 0x4d4d }, 42]);
        put(&offset);
        // One entry in front of the one we look for.
        put(&[2, 0x0100, SHORT]);
        put(&count);
        put(&[640, 0, ORIENTATION, SHORT]);
        put(&count);
        put(&[value, 0]);
        bytes
    }

    #[test]
    fn an_orientation_is_found_in_either_byte_order() {
        assert_eq!(orientation_warning(&exif(true, 6)), Some(Warning::Orientation(6)));
        assert_eq!(orientation_warning(&exif(false, 8)), Some(Warning::Orientation(8)));
        let introduced = [b"Exif\0\0".as_slice(), &exif(false, 3)].concat();
        assert_eq!(orientation_warning(&introduced), Some(Warning::Orientation(3)));
    }

    #[test]
    fn upright_and_broken_blocks_give_no_warning() {
        assert_eq!(orientation_warning(&exif(true, 1)), None);
        assert_eq!(orientation_warning(&exif(true, 9)), None);
        let whole = exif(true, 6);
        for length in 0..whole.len() - 4 {
            assert_eq!(orientation_warning(&whole[..length]), None, "{length}");
        }
        assert_eq!(orientation_warning(b"II*\0\xff\xff\xff\xff"), None);
    }
}
