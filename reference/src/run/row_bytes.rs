//! How a row of the file of answers begins and ends, byte by byte.

use serde::de::IgnoredAny;

/// What every row begins with: a number follows, then [`BEFORE_ID`].
const BEFORE_LINE: &[u8] = br#"{"line":"#;
const BEFORE_ID: &[u8] = br#","id":""#;
/// What stands in front of the hash over the row, which ends it.
const BEFORE_HASH: &[u8] = br#","row_sha256":""#;
const BEHIND_HASH: &[u8] = br#""}"#;
const HASH_BYTES: usize = 64;

/// Adds the hash over a JSON object to it, as its last field.
pub(super) fn add_hash(object: &mut Vec<u8>) {
    let hash = golden::sha256_hex(object);
    object.pop();
    object.extend([BEFORE_HASH, hash.as_bytes(), BEHIND_HASH].concat());
}

/// Whether bytes begin as a row does, with its number and the start of its id: nobody else's lines do.
pub(super) fn begins_as_row(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(BEFORE_LINE) else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && rest[digits..].starts_with(BEFORE_ID)
}

/// Whether bytes are the beginning of a row, and no more than that.
pub(super) fn is_cut_off(bytes: &[u8]) -> bool {
    begins_as_row(bytes) && serde_json::from_slice::<IgnoredAny>(bytes).is_err()
}

/// All in front of the hash, and the hash.
pub(super) fn split_hash(row: &[u8]) -> Option<(&[u8], &[u8])> {
    let row = row.strip_suffix(BEHIND_HASH)?;
    let (row, hash) = row.split_at_checked(row.len().checked_sub(HASH_BYTES)?)?;
    Some((row.strip_suffix(BEFORE_HASH)?, hash))
}
