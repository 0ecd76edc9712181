//! What a file is that is not what its name says.
//!
//! Somebody's clone without Git LFS, a server's error page under the name of a file, an unfinished download: a parser's words
//! on these ("expected value at line 1, column 1") help nobody. Whoever cannot read a file asks here what it is.

use std::fmt;

use crate::safetensors_header::LENGTH_BYTES;

/// What the bytes of a file show it to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Nothing.
    Empty,
    /// Only zero bytes.
    Zeros,
    /// What Git LFS keeps in the place of a large file.
    GitLfsPointer {
        /// The size of the file that it stands for, where it says it.
        bytes: Option<u64>,
    },
    /// What git-annex keeps in the place of a large file.
    GitAnnexPointer,
    /// HTML.
    WebPage,
    /// XML, as the error answers of object stores are.
    Xml,
    /// A single line of plain words, as error answers are.
    Message(String),
    /// A compressed file, under the name of its program.
    Compressed(&'static str),
    /// A zip archive, as `torch.save` writes it.
    Zip,
    /// A pickle, as older releases of `torch.save` wrote it.
    Pickle,
    /// Weights of llama.cpp.
    Gguf,
    /// A safetensors file.
    Safetensors,
    /// A JSON object or list.
    Json,
}

/// Signatures at the beginning of a file.
const SIGNATURES: [(&[u8], Content); 13] = [
    (b"\x1f\x8b", Content::Compressed("gzip")),
    (b"\x28\xb5\x2f\xfd", Content::Compressed("zstd")),
    (b"\xfd7zXZ\0", Content::Compressed("xz")),
    (b"BZh", Content::Compressed("bzip2")),
    (b"7z\xbc\xaf\x27\x1c", Content::Compressed("7-Zip")),
    (b"\x04\x22\x4d\x18", Content::Compressed("lz4")),
    (b"PK\x03\x04", Content::Zip),
    (b"\x80\x02", Content::Pickle),
    (b"\x80\x03", Content::Pickle),
    (b"\x80\x04", Content::Pickle),
    (b"\x80\x05", Content::Pickle),
    (b"GGUF", Content::Gguf),
    (b"/annex/objects/", Content::GitAnnexPointer),
];
/// First lines of the pointers of Git LFS, of today and of its beginnings.
const LFS_VERSIONS: [&[u8]; 2] =
    [b"version https://git-lfs.github.com/spec/", b"version http://git-media.io/v/"];
/// Pointers are small by their specification.
const MAX_POINTER_BYTES: usize = 1024;
/// Longer lines are text of another kind than an error's.
const MAX_MESSAGE_BYTES: usize = 200;
/// How much of a file is looked at for zeros.
const MAX_ZEROS: usize = 1 << 16;

impl Content {
    /// What the content `bytes` of a file show it to be, if it is anything that is known here; of a large file the beginning
    /// is enough.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::Empty);
        }
        if bytes.len() <= MAX_POINTER_BYTES && LFS_VERSIONS.iter().any(|version| bytes.starts_with(version)) {
            return Some(Self::GitLfsPointer { bytes: pointed_bytes(bytes) });
        }
        if bytes[..bytes.len().min(MAX_ZEROS)].iter().all(|&byte| byte == 0) {
            return Some(Self::Zeros);
        }
        if let Some((_, content)) = SIGNATURES.iter().find(|(signature, _)| bytes.starts_with(signature)) {
            return Some(content.clone());
        }
        if is_safetensors(bytes) {
            return Some(Self::Safetensors);
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
        let begins =
            |with: &[u8]| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
        if [&b"<!doctype html"[..], b"<html", b"<head"].into_iter().any(begins) {
            return Some(Self::WebPage);
        }
        if begins(b"<?xml") || begins(b"<error") {
            return Some(Self::Xml);
        }
        if matches!(text.first(), Some(b'{' | b'[')) {
            return Some(Self::Json);
        }
        message(text).map(Self::Message)
    }

    /// What was put in the place of another file, which is still to be fetched: no file of any format is meant by it.
    pub fn stand_in(bytes: &[u8]) -> Option<Self> {
        Self::of(bytes).filter(|content| {
            matches!(content, Self::GitLfsPointer { .. } | Self::GitAnnexPointer | Self::WebPage)
        })
    }

    /// What to do, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Empty | Self::Zeros => "it may be an unfinished download: fetch the file again",
            Self::GitLfsPointer { .. } => {
                "`git lfs pull` in the repository's folder fetches the files themselves"
            }
            Self::GitAnnexPointer => {
                "`git annex get` in the repository's folder fetches the files themselves"
            }
            Self::WebPage | Self::Xml | Self::Message(_) => {
                "a server's answer was saved in the place of the file: fetch it again, with an account that may read it"
            }
            Self::Compressed(_) => "unpack it first",
            Self::Zip | Self::Pickle => {
                "if `torch.save` wrote it, load it with `torch.load` and save it with `safetensors.torch.save_file`"
            }
            Self::Gguf => "only Hugging Face checkpoints in safetensors files are read",
            Self::Safetensors | Self::Json => "two files may have been exchanged",
        })
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty file"),
            Self::Zeros => f.write_str("nothing but zero bytes"),
            Self::GitLfsPointer { bytes: Some(bytes) } => {
                write!(f, "a Git LFS pointer to a file of {bytes} bytes")
            }
            Self::GitLfsPointer { bytes: None } => f.write_str("a Git LFS pointer"),
            Self::GitAnnexPointer => f.write_str("a git-annex pointer"),
            Self::WebPage => f.write_str("a web page"),
            Self::Xml => f.write_str("an XML document"),
            Self::Message(text) => write!(f, "the text `{text}`"),
            Self::Compressed(program) => write!(f, "a file compressed with {program}"),
            Self::Zip => f.write_str("a zip archive"),
            Self::Pickle => f.write_str("a Python pickle"),
            Self::Gguf => f.write_str("a GGUF file"),
            Self::Safetensors => f.write_str("a safetensors file"),
            Self::Json => f.write_str("a JSON file"),
        }
    }
}

/// The size that a pointer of Git LFS names.
fn pointed_bytes(pointer: &[u8]) -> Option<u64> {
    let line = pointer.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"size "))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// Eight bytes of a length that the file has room for, and then a JSON object.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return false };
    rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= rest.len() as u64
}

/// A single line of words.
fn message(text: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(text).ok()?.trim_end();
    let is_message = line.len() <= MAX_MESSAGE_BYTES
        && line.starts_with(|c: char| c.is_ascii_alphabetic())
        && line.contains(' ')
        && line.chars().all(|c| c.is_ascii_graphic() || c == ' ')
        && !line.contains('`');
    is_message.then(|| line.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
        oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 4976698672\n";

    fn found(bytes: &[u8]) -> String {
        Content::of(bytes).map_or("nothing".to_string(), |content| content.to_string())
    }

    #[test]
    fn everyday_accidents_are_named() {
        for (bytes, name) in [
            (&b""[..], "an empty file"),
            (&[0; 100], "nothing but zero bytes"),
            (POINTER.as_bytes(), "a Git LFS pointer to a file of 4976698672 bytes"),
            (b"version http://git-media.io/v/2\noid 1\n", "a Git LFS pointer"),
            (b"/annex/objects/MD5E-s1--0", "a git-annex pointer"),
            (b"\n<!DOCTYPE html><html>", "a web page"),
            (b"\xef\xbb\xbf<HTML>", "a web page"),
            (b"<?xml version='1.0'?><Error>", "an XML document"),
            (b"Entry not found\n", "the text `Entry not found`"),
            (b"\x1f\x8b\x08\0\0\0\0\0", "a file compressed with gzip"),
            (b"PK\x03\x04\0\0\0\0", "a zip archive"),
            (b"\x80\x02}q\0.", "a Python pickle"),
            (b"GGUF\x03\0\0\0", "a GGUF file"),
            (b"\x02\0\0\0\0\0\0\0{}", "a safetensors file"),
            (b" {\"a\": 1}", "a JSON file"),
        ] {
            assert_eq!(found(bytes), name);
        }
        assert_eq!(
            Content::of(POINTER.as_bytes()).unwrap().hint(),
            Some("`git lfs pull` in the repository's folder fetches the files themselves")
        );
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for bytes in
            [&b"a"[..], b"\xff\xfe\xfd", b"two words\nand a second line", b"with `quotes` in it", b"1 2 3"]
        {
            assert_eq!(Content::of(bytes), None, "{bytes:?}");
        }
        // A pointer's first line in front of much else is a text about pointers.
        let long = [POINTER.as_bytes(), &[b'x'; MAX_POINTER_BYTES]].concat();
        assert_eq!(Content::of(&long), None);
    }
}
