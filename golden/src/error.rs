//! What can be wrong with a dump.

use std::io;
use std::path::PathBuf;

use crate::{Dtype, format};

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a dump could not be read, written or trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file or folder could not be written.
    #[error("`{}` cannot be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file was written to, replaced or made shorter while it was read.
    #[error("`{}`: {source}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        source: io::Error,
    },

    /// `manifest.json` is no manifest.
    #[error("`{}`: field `{field}`: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The path of the field inside the JSON document (`.`: the document).
        field: String,
        /// What was expected and found there.
        source: Box<store::json::Fault>,
    },

    /// A file is of another kind than its name says: a pointer of Git LFS, a web page, an unfinished download.
    #[error("`{}`: expected {expected}, found {content}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        content: store::Content,
    },

    /// `format` names another format.
    #[error("`{}`: field `format`: expected `{}`, found `{found}`", path.display(), format::FORMAT)]
    Format {
        /// The manifest.
        path: PathBuf,
        /// The format found.
        found: String,
    },

    /// `version` is not a version that this library reads.
    #[error("`{}`: field `version`: expected one of {:?}, found {found}", path.display(), format::VERSIONS)]
    Version {
        /// The manifest.
        path: PathBuf,
        /// The version found.
        found: u64,
    },

    /// Two entries have the same name.
    #[error("entry `{name}`: expected a unique name, found the name a second time")]
    DuplicateName {
        /// The name.
        name: String,
    },

    /// `order` does not increase.
    #[error("`{}`: entry `{name}`: expected an `order` above {previous}, found {found}", path.display())]
    Order {
        /// The manifest.
        path: PathBuf,
        /// The entry.
        name: String,
        /// The order of the entry before it.
        previous: u64,
        /// The entry's order.
        found: u64,
    },

    /// What an entry says of its inputs cannot be.
    #[error("`{}`: entry `{name}`: {message}", path.display())]
    Flow {
        /// The manifest.
        path: PathBuf,
        /// The entry.
        name: String,
        /// What was expected and found.
        message: String,
    },

    /// An entry is said to be computed from one that the dump does not have.
    #[error("entry `{name}`: expected an earlier entry as an input, found `{found}`")]
    NoInput {
        /// The entry.
        name: String,
        /// The input.
        found: String,
    },

    /// An entry's `file` points out of the dump's folder.
    #[error("`{}`: entry `{name}`: expected a plain file name in `file`, found `{found}`", path.display())]
    FileName {
        /// The manifest.
        path: PathBuf,
        /// The entry.
        name: String,
        /// The file it names.
        found: String,
    },

    /// A dump has no tensors file, or some of a set are missing.
    #[error("`{}`: expected {expected}, found {found}", path.display())]
    MissingFile {
        /// The dump.
        path: PathBuf,
        /// The file or set of files.
        expected: String,
        /// What is there.
        found: String,
    },

    /// A file is no safetensors file, or is cut short.
    #[error("`{}`: expected a complete safetensors file, found {found_bytes} bytes: {source}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The file's length.
        found_bytes: u64,
        /// What is wrong with it.
        source: safetensors::SafeTensorError,
    },

    /// A tensor has an element type that a dump cannot hold.
    #[error("`{}`: tensor `{name}`: {source}", path.display())]
    UnsupportedDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The element type.
        source: crate::UnknownDtype,
    },

    /// A tensor is in two files.
    #[error("tensor `{name}`: expected in one file, found in `{}` and in `{}`", first.display(), second.display())]
    DuplicateTensor {
        /// The tensor.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },

    /// An entry has no tensor.
    #[error("`{}`: entry `{name}`: expected its tensor, found none", path.display())]
    MissingTensor {
        /// The file that was to have it, or the dump.
        path: PathBuf,
        /// The entry.
        name: String,
    },

    /// A sketch contradicts its entry, or is of a kind that this library does not know.
    #[error("`{}`: entry `{name}`: sketch: {message}", path.display())]
    Sketch {
        /// The manifest.
        path: PathBuf,
        /// The entry.
        name: String,
        /// The field, what was expected there and what was found.
        message: String,
    },

    /// An entry has a sketch, and its tensor is in the dump nevertheless.
    #[error("`{}`: entry `{name}`: expected a sketch or a tensor, found both", path.display())]
    SketchAndTensor {
        /// The file that has the tensor.
        path: PathBuf,
        /// The entry.
        name: String,
    },

    /// A tensor was asked for of which the dump has a sketch only.
    #[error("`{}`: entry `{name}`: expected its tensor, found only a sketch of it", path.display())]
    SketchOnly {
        /// The dump.
        path: PathBuf,
        /// The entry.
        name: String,
    },

    /// A seed is too large for every JSON reader to keep.
    #[error("expected a seed below 2^53, found {found}")]
    Seed {
        /// The seed.
        found: u64,
    },

    /// A tensor has no entry.
    #[error("`{}`: tensor `{name}`: expected an entry in the manifest, found none", path.display())]
    UnlistedTensor {
        /// The file that has it.
        path: PathBuf,
        /// The tensor.
        name: String,
    },

    /// The dtype of the tensor is not that of its entry.
    #[error("`{}`: tensor `{name}`: expected dtype `{expected}` (from the manifest), found `{found}`", path.display())]
    DtypeMismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The entry's.
        expected: Dtype,
        /// The tensor's.
        found: Dtype,
    },

    /// The shape of the tensor is not that of its entry.
    #[error("`{}`: tensor `{name}`: expected shape {expected:?} (from the manifest), found {found:?}", path.display())]
    ShapeMismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The entry's.
        expected: Vec<usize>,
        /// The tensor's.
        found: Vec<usize>,
    },

    /// The bytes are not those that were recorded.
    #[error("`{}`: tensor `{name}`: expected SHA-256 `{expected}` (from the manifest), found `{found}`", path.display())]
    HashMismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The entry's.
        expected: String,
        /// The hash of the bytes.
        found: String,
    },

    /// A dump was asked for an entry that it does not have.
    #[error("`{}`: expected an entry `{name}`, found none of that name among {entries}", path.display())]
    NoEntry {
        /// The dump.
        path: PathBuf,
        /// The entry.
        name: String,
        /// How many entries there are.
        entries: usize,
    },

    /// A tensor was read as another element type than its own.
    #[error("expected elements of dtype `{expected}`, found a tensor of dtype `{found}`")]
    WrongElement {
        /// What the caller asked for.
        expected: Dtype,
        /// The tensor's.
        found: Dtype,
    },

    /// The target of a new dump exists already.
    #[error("`{}`: expected no file and no folder with content, found one", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },

    /// The target to be replaced is not a dump.
    #[error("`{}`: expected a dump to replace, found no `manifest.json` of one in it", path.display())]
    NotADump {
        /// The target.
        path: PathBuf,
    },

    /// The target to be replaced is a dump with something else in its folder.
    #[error("`{}`: expected a dump and nothing else to replace, found `{}` in it", path.display(), found.escape_debug())]
    NotOnlyADump {
        /// The target.
        path: PathBuf,
        /// The first thing that is no part of the dump.
        found: String,
    },

    /// A target has no final component to name a folder.
    #[error("`{}`: expected the path of a folder to make, found a path without a name", path.display())]
    NoFolderName {
        /// The target.
        path: PathBuf,
    },

    /// A name cannot be a tensor's.
    #[error("expected a tensor's name, found `{name}`, which is empty or reserved by safetensors")]
    InvalidName {
        /// The name.
        name: String,
    },

    /// The bytes of a view are too many or too few for the shape.
    #[error("expected {expected} bytes for `{dtype}` {shape:?}, found {found}")]
    ViewBytes {
        /// The dtype given.
        dtype: Dtype,
        /// The shape given.
        shape: Vec<usize>,
        /// What they need.
        expected: u128,
        /// What was given.
        found: usize,
    },

    /// The bytes are too many or too few for the shape.
    #[error("tensor `{name}`: expected {expected} bytes for `{dtype}` {shape:?}, found {found}")]
    ByteCount {
        /// The tensor.
        name: String,
        /// The dtype given.
        dtype: Dtype,
        /// The shape given.
        shape: Vec<usize>,
        /// What they need.
        expected: u128,
        /// What was given.
        found: usize,
    },

    /// A text names no steps.
    #[error("steps: expected `START:STOP`, `every:N` or a list of numbers from 0 on, found `{}`", found.escape_debug())]
    Steps {
        /// The text.
        found: String,
    },

    /// The system gave no thread to write with.
    #[error("expected a thread to write the dump with, found none: {source}")]
    Thread {
        /// What the system said.
        source: io::Error,
    },

    /// A writer was used that has ended.
    #[error(
        "expected a dump that is still being written, found one that is finished, abandoned or has failed"
    )]
    WriterStopped,

    /// A writer was used in another process than its own.
    #[error("expected the process that started the dump, found one that was forked from it")]
    Forked,
}

impl Error {
    /// What to try, where we know it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Read { path, source } if source.kind() == io::ErrorKind::NotFound => (path.file_name()
                == Some(format::FILE_NAME.as_ref()))
            .then_some("a dump is a folder with a `manifest.json` and its safetensors files"),
            Error::Content { content, .. } => content.hint(),
            Error::Changed { .. } => Some("wait until the other program has finished writing, and try again"),
            Error::Version { .. } => Some("a newer release may read it"),
            Error::DuplicateName { .. } => {
                Some("a module that runs more than once is recorded as `name`, `name#1`, `name#2`, …")
            }
            Error::MissingFile { .. } | Error::Safetensors { .. } => {
                Some("the dump was copied incompletely: copy it again, or record it again")
            }
            Error::HashMismatch { .. } => {
                Some("the dump was changed after it was recorded: copy it again, or record it again")
            }
            Error::Sketch { .. } => {
                Some("another release may have written it: `docs/activation-dump.md` describes what is read")
            }
            Error::SketchOnly { .. } => {
                Some("a dump in full has it: a sketch does not lead back to its tensor")
            }
            Error::Exists { .. } => Some("choose another folder, or ask for it to be replaced"),
            Error::NotADump { .. } => {
                Some("only a folder that is a dump is ever replaced: remove it yourself")
            }
            Error::NotOnlyADump { .. } => {
                Some("only a dump is ever replaced: move the other files away, or choose another folder")
            }
            _ => None,
        }
    }
}
