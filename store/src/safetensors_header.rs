//! The sizes of a safetensors file's header. The file begins with the header's length, a little-endian number.

/// Size of the length before the header, in bytes.
pub const LENGTH_BYTES: usize = 8;

/// The longest header that the format allows, in bytes.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;
