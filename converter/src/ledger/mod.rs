//! `conversion.json`: what was done to every tensor, and how every behaviour is known.

mod rows;

pub use rows::{buffer_rows, tensor_rows};

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::architecture::Part;
use crate::plan::{Action, Transform};
use crate::resolve::{DefaultedField, IgnoredField, ReadCode};
use crate::source::Behaviour;
use crate::weights::Folder;
use crate::{Error, json};
use store::hash::sha256;

/// The ledger's name in the normalized folder.
pub const LEDGER_FILE: &str = "conversion.json";
/// The value of `format` in every ledger.
pub const LEDGER_FORMAT: &str = "nemotron-vl-conversion";
/// The version of the ledger that this program writes and reads.
pub const LEDGER_VERSION: u32 = 1;

/// The ledger of a conversion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Always [`LEDGER_FORMAT`].
    pub format: String,
    /// Always [`LEDGER_VERSION`].
    pub format_version: u32,
    /// The program that wrote it.
    pub tool: Tool,
    /// What the user asked for.
    pub options: LedgerOptions,
    /// What was converted.
    pub source: LedgerSource,
    /// The files of the folder, but for this one.
    pub files: Vec<WrittenFile>,
    /// A row for each tensor of the source, in the order of its files.
    pub tensors: Vec<LedgerRow>,
    /// Tensors of the folder that are made of the configuration and of no tensor of the source: the buffers of a vision
    /// part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buffers: Vec<LedgerTarget>,
    /// Every behaviour that came from Python code.
    pub behaviours: Vec<Behaviour>,
    /// Fields that the source does not write and a library's default gave.
    pub defaults: Vec<DefaultedField>,
    /// Fields of the source that were not used.
    pub ignored_fields: Vec<IgnoredField>,
    /// What the user was told.
    pub warnings: Vec<String>,
    /// The SHA-256 of this file as it is while the digits of this field, the last one, are zeros.
    pub ledger_sha256: String,
}

/// Digits of a SHA-256.
const DIGITS: usize = 64;

impl Ledger {
    /// Gives the ledger its own hash; the content of `conversion.json`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn seal(&mut self) -> serde_json::Result<Vec<u8>> {
        self.ledger_sha256 = "0".repeat(DIGITS);
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        self.ledger_sha256 = sha256(&bytes);
        if let Some(place) = own_hash(&bytes) {
            bytes[place].copy_from_slice(self.ledger_sha256.as_bytes());
        }
        Ok(bytes)
    }

    /// The hash that the file `bytes` should have in it.
    pub fn hash_of(bytes: &[u8]) -> String {
        let mut bytes = bytes.to_vec();
        if let Some(place) = own_hash(&bytes) {
            bytes[place].fill(b'0');
        }
        sha256(&bytes)
    }
}

/// Where the digits of the last field `ledger_sha256` are.
fn own_hash(bytes: &[u8]) -> Option<Range<usize>> {
    const FIELD: &[u8] = b"\"ledger_sha256\": \"";
    let start = bytes.windows(FIELD.len()).rposition(|window| window == FIELD)? + FIELD.len();
    (start + DIGITS <= bytes.len()).then(|| start..start + DIGITS)
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// `nvl-convert`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The commit that it was built from, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerOptions {
    /// `--part`.
    pub part: Part,
    /// `--dtype`: `keep`, `float32`, `bfloat16` or `float16`.
    pub dtype: String,
    /// `--max-shard-size`, in bytes.
    pub max_shard_bytes: u64,
}

/// What was converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSource {
    /// The folder's own name, or the repository's: no path of a machine.
    pub name: String,
    /// `owner/name` on the hub, where it is known.
    pub repository: Option<String>,
    /// The commit, where it is known.
    pub revision: Option<String>,
    /// Every file that was read.
    pub files: Vec<ReadFile>,
    /// Files of other repositories' code that were read, with the revisions that they are of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub code: Vec<ReadCode>,
}

/// A file of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// Its text, where the normalized folder has no copy of it: with it the source can be written back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The header of a safetensors file as it stands there, padding included; the length in front of it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// A file of the normalized folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of the whole file; of a safetensors file that of everything in front of its tensors, which have their
    /// own in `tensors`.
    pub sha256: String,
    /// How many of its bytes `sha256` covers.
    pub hashed_bytes: u64,
}

/// What became of one tensor of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerRow {
    /// Its name in the source.
    pub source: String,
    /// The file that has it.
    pub source_file: String,
    /// What was done with it.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// Its dtype before, under the name that safetensors has for it.
    pub dtype: String,
    /// Its shape before.
    pub shape: Vec<usize>,
    /// The SHA-256 of its bytes before.
    pub sha256: String,
    /// What it became; nothing where it was skipped.
    pub targets: Vec<LedgerTarget>,
    /// Its bytes in hexadecimal digits, where it was skipped and small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_hex: Option<String>,
    /// The tensor of the source that it equals byte by byte, where it was skipped for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<String>,
}

/// A tensor of the normalized folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerTarget {
    /// Its name.
    pub name: String,
    /// The file that has it.
    pub file: String,
    /// Its dtype.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The SHA-256 of its bytes.
    pub sha256: String,
    /// Finite elements that became infinite when the dtype changed.
    pub overflows: u64,
    /// How it is made of its `inputs`, where these are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
    /// Of a product, the sizes of the block that has one scale, along each dimension.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub block: Vec<usize>,
    /// What it is made of. Where nothing is given, the targets of the row, one after the other, are the row's tensor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<LedgerInput>,
}

/// A source tensor that a target is made of, or rows and columns of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerInput {
    /// The tensor.
    pub source: String,
    /// Its first row, and the one behind the last, where not all are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<[usize; 2]>,
    /// Its first column, and the one behind the last, where not all are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<[usize; 2]>,
}

/// Reads the ledger of the normalized folder `out`.
///
/// # Errors
/// Where there is none, or none of this version.
pub fn read_ledger(out: &Folder) -> Result<Ledger, Error> {
    parse_ledger(out, &out.read(LEDGER_FILE)?)
}

pub(crate) fn parse_ledger(out: &Folder, bytes: &[u8]) -> Result<Ledger, Error> {
    let path = out.file_path(LEDGER_FILE);
    let ledger: Ledger = json::parse(&path, bytes)?;
    if ledger.format != LEDGER_FORMAT {
        let found = format!("`{}`", ledger.format.escape_debug());
        return Err(Error::field(&path, "format", format!("`{LEDGER_FORMAT}`"), found));
    }
    if ledger.format_version != LEDGER_VERSION {
        let found = format!("`{}`", ledger.format_version);
        return Err(Error::field(&path, "format_version", format!("`{LEDGER_VERSION}`"), found));
    }
    Ok(ledger)
}
