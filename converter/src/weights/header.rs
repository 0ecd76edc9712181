//! The header of a safetensors file, checked in full.
//!
//! Why the crate `safetensors` does not do this: messages here name the file, tensor and field, a key given twice is refused,
//! and the front of a file is enough, so that a hub's file is read by a range.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use store::Content;
use store::safetensors_header::{LENGTH_BYTES, MAX_HEADER_BYTES};

use crate::error::visible;
use crate::{Error, json};

const METADATA_KEY: &str = "__metadata__";

/// What a safetensors file says it holds, proved to be true of the file's size.
#[derive(Debug, Clone)]
pub struct Header {
    /// `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// The tensors, in the order of their data.
    pub tensors: Vec<HeaderEntry>,
    /// Where the data begins in the file, in bytes.
    pub data_start: usize,
}

/// One tensor of a [`Header`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderEntry {
    /// The tensor.
    pub name: String,
    /// Its dtype.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where its data begins, in bytes from [`Header::data_start`].
    pub start: usize,
    /// Where its data ends.
    pub end: usize,
}

impl Header {
    /// The most that a header and its length may have, in bytes.
    pub(crate) const MAX_BYTES: u64 = MAX_HEADER_BYTES + LENGTH_BYTES as u64;

    /// Reads the header of `file`, the whole content of the safetensors file at `path`.
    ///
    /// # Errors
    /// [`Error::Content`] for a file of another kind; [`Error::Header`] unless the header is well formed and its tensors
    /// cover the rest of the file exactly once.
    pub fn parse(path: &Path, file: &[u8]) -> Result<Self, Error> {
        Self::of_front(path, file, file.len() as u64)
    }

    /// Reads the header of a safetensors file of `file_bytes` bytes that begins with `front`, which has the whole header
    /// unless the length in it can't be true.
    ///
    /// # Errors
    /// As [`Header::parse`].
    pub(crate) fn of_front(path: &Path, front: &[u8], file_bytes: u64) -> Result<Self, Error> {
        Self::prove(path, front, file_bytes).map_err(|error| match Content::of(front) {
            None | Some(Content::Safetensors) => error,
            Some(content) => {
                Error::Content { path: path.to_path_buf(), expected: "a safetensors file", content }
            }
        })
    }

    fn prove(path: &Path, front: &[u8], file_bytes: u64) -> Result<Self, Error> {
        let lie = |expected: String, found: String| Error::Header {
            path: path.to_path_buf(),
            place: "header".into(),
            expected,
            found,
        };
        let Some((length, rest)) = front.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(lie("at least 8 bytes".into(), format!("{file_bytes} bytes: the file is cut off")));
        };
        let header_bytes = u64::from_le_bytes(*length);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(lie(
                format!("a length of at most {MAX_HEADER_BYTES} bytes"),
                format!("{header_bytes} bytes"),
            ));
        }
        let text =
            usize::try_from(header_bytes).ok().and_then(|length| rest.get(..length)).ok_or_else(|| {
                lie(
                    format!("{header_bytes} bytes of header"),
                    format!("{} bytes: the file is cut off", file_bytes - LENGTH_BYTES as u64),
                )
            })?;
        Self::of_text(path, text, file_bytes as usize - LENGTH_BYTES - text.len())
    }

    /// Reads a header that stands apart from its file, which has `data_bytes` bytes behind it.
    ///
    /// # Errors
    /// As [`Header::parse`].
    pub(crate) fn of_text(path: &Path, text: &[u8], data_bytes: usize) -> Result<Self, Error> {
        let entries: Entries = json::parse(path, text).map_err(|error| match error {
            Error::Json { line, column, message, .. } => Error::Header {
                path: path.to_path_buf(),
                place: "header".into(),
                expected: "a JSON object of tensors".into(),
                found: format!("line {line}, column {column} of the header: {message}"),
            },
            Error::Content { content, .. } => Error::Header {
                path: path.to_path_buf(),
                place: "header".into(),
                expected: "a JSON object of tensors".into(),
                found: content.to_string(),
            },
            other => other,
        })?;
        Self::validate(path, entries, LENGTH_BYTES + text.len(), data_bytes)
    }

    fn validate(path: &Path, entries: Entries, data_start: usize, data_bytes: usize) -> Result<Self, Error> {
        let lie = |name: &str, expected: String, found: String| Error::Header {
            path: path.to_path_buf(),
            place: format!("tensor `{}`", visible(name)),
            expected,
            found,
        };
        let mut tensors = Vec::with_capacity(entries.tensors.len());
        for (name, info) in entries.tensors {
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(lie(&name, "a name without control characters".into(), "one with".into()));
            }
            let (start, end) = info.data_offsets;
            let bits = info
                .shape
                .iter()
                .try_fold(1usize, |elems, &side| elems.checked_mul(side))
                .and_then(|elems| elems.checked_mul(info.dtype.bitsize()));
            let Some(bytes) = bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8) else {
                return Err(lie(
                    &name,
                    "a shape of a whole number of bytes, within the limits of the machine".into(),
                    format!("{:?} of `{}`", info.shape, info.dtype),
                ));
            };
            if end.checked_sub(start) != Some(bytes) {
                return Err(lie(
                    &name,
                    format!("{bytes} bytes, by shape {:?} of `{}`", info.shape, info.dtype),
                    format!("data_offsets [{start}, {end}]"),
                ));
            }
            tensors.push(HeaderEntry { name, dtype: info.dtype, shape: info.shape, start, end });
        }
        // An empty tensor goes in front of the one that begins where it does.
        tensors.sort_by_key(|tensor| (tensor.start, tensor.end));
        let mut covered = 0;
        for tensor in &tensors {
            if tensor.start != covered {
                let what = if tensor.start < covered { "overlaps the tensor before" } else { "leaves a gap" };
                return Err(lie(
                    &tensor.name,
                    format!("data from byte {covered}"),
                    format!("data from byte {}, which {what}", tensor.start),
                ));
            }
            covered = tensor.end;
        }
        if covered != data_bytes {
            let cut = if covered > data_bytes { ": the file is cut off" } else { "" };
            return Err(Error::Header {
                path: path.to_path_buf(),
                place: "header".into(),
                expected: format!("{covered} bytes of data"),
                found: format!("{data_bytes} bytes{cut}"),
            });
        }
        Ok(Self { metadata: entries.metadata, tensors, data_start })
    }
}

/// The header's JSON object, in the order of the file.
struct Entries {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Entries { metadata: BTreeMap::new(), tensors: Vec::new() };
                while let Some(key) = map.next_key::<String>()? {
                    if key == METADATA_KEY {
                        // safetensors' own reader takes a `null` for none.
                        entries.metadata = map.next_value::<Option<_>>()?.unwrap_or_default();
                    } else {
                        entries.tensors.push((key, map.next_value()?));
                    }
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}
