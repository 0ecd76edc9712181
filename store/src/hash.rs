//! SHA-256 as ledgers and dumps write it: 64 lower-case hexadecimal digits.

use std::fmt::Write as _;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// A running SHA-256.
#[derive(Debug, Clone, Default)]
pub struct Digest(Sha256);

impl Digest {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hexadecimal digits of everything taken in.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of all that `content` gives, which is never in memory whole.
///
/// # Errors
/// Those of reading it.
pub fn sha256_of(mut content: impl Read) -> io::Result<String> {
    let mut digest = Digest::default();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match content.read(&mut chunk)? {
            0 => return Ok(digest.finish()),
            bytes => digest.update(&chunk[..bytes]),
        }
    }
}

/// `bytes` in lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_example() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), expected);
        let mut digest = Digest::default();
        digest.update(b"a");
        digest.update(b"bc");
        assert_eq!(digest.finish(), expected);
        assert_eq!(sha256_of(&b"abc"[..]).unwrap(), expected);
    }
}
