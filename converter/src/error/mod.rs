//! What can go wrong, each in one sentence that names the file, the field or tensor, and what was found.

mod tensor;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::plan::human_bytes;

pub use tensor::TensorProblem;
use tensor::list;

/// Why a checkpoint could not be read, converted or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system said no.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// What was tried: `read`, `map`, `write`, ….
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A path that should be a folder is none.
    #[error("`{path}`: expected a folder, found {found}")]
    NotAFolder {
        /// The path.
        path: PathBuf,
        /// `nothing` or `a file`.
        found: &'static str,
    },
    /// The output would lie in a folder that isn't there.
    #[error("`{path}`: expected a folder for the output, found nothing")]
    OutputParent {
        /// The folder.
        path: PathBuf,
    },
    /// A file that must be in the folder isn't.
    #[error("`{dir}`: expected a file {expected}, found none")]
    MissingFile {
        /// The folder.
        dir: PathBuf,
        /// The name or names, in backticks.
        expected: String,
    },
    /// A file that cannot be taken as what its name says: a folder, a pipe, a link that leads elsewhere.
    #[error("`{path}`: expected {expected}, found {found}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A link that leads out of a checkpoint's folder.
    #[error("`{path}`: expected a file inside the folder, found {found}")]
    OutsideFile {
        /// The file.
        path: PathBuf,
        /// Where it leads.
        found: String,
    },
    /// A link whose file is gone, as where the hub's cache was cleared behind a folder of links to it.
    #[error("`{path}`: expected a file, found a link to `{target}`, which does not exist")]
    DanglingLink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: String,
    },
    /// A folder, a pipe, a device or a socket where a regular file should be.
    #[error("`{path}`: {source}")]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        source: std::io::Error,
    },
    /// A file of another kind than its name says: a pointer of Git LFS, a web page, an unfinished download.
    #[error("`{path}`: expected {expected}, found {content}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        content: store::Content,
    },
    /// A file that somebody wrote to, replaced or removed while it was read.
    #[error("`{path}`: {source}")]
    Changed {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        source: std::io::Error,
    },
    /// Text that is not JSON, or JSON of another structure.
    #[error("`{path}`: line {line}, column {column}{}: {message}", field_suffix(.field))]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Dotted path of the value; empty at the top.
        field: String,
        /// What is wrong there.
        message: String,
    },
    /// A value of a JSON file that contradicts the format or another value.
    #[error("`{path}`: field `{field}`: expected {expected}, found {found}")]
    Field {
        /// The file.
        path: PathBuf,
        /// Dotted path of the value.
        field: String,
        /// What the format or the other value asks for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A safetensors file whose header lies.
    #[error("`{path}`: {place}: expected {expected}, found {found}")]
    Header {
        /// The file.
        path: PathBuf,
        /// `header`, or the tensor.
        place: String,
        /// What the format asks for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A value that would change the computation, and that this program doesn't support.
    #[error("`{path}`: field `{field}`: expected {expected}, found {found}: {reason}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Dotted path of the value.
        field: String,
        /// What is supported.
        expected: String,
        /// What is there.
        found: String,
        /// What it would change.
        reason: String,
    },
    /// `--strict`, and a behaviour that nothing but this program's knowledge of the architecture says.
    #[error("`--strict` refuses an assumption: {}", assumptions(.behaviours))]
    Assumed {
        /// Each behaviour with its value and what would settle it.
        behaviours: Vec<(String, String, String)>,
    },
    /// A quantized sister of the model.
    #[error(
        "`{path}`: expected weights in `F32`, `BF16` or `F16`, found a checkpoint quantized with `{scheme}`, whose first \
         quantized tensor is {tensor}"
    )]
    Quantized {
        /// The folder.
        path: PathBuf,
        /// AWQ, FP8, NVFP4, ….
        scheme: String,
        /// The first tensor with its dtype, or `none of them`.
        tensor: String,
    },
    /// Code that does something else than the user, or the model that this program knows, says.
    #[error("`{path}`: behaviour `{behaviour}`: expected {expected}, found {found}")]
    Contradicted {
        /// The file of code.
        path: PathBuf,
        /// The behaviour.
        behaviour: &'static str,
        /// What the user or the released model says.
        expected: String,
        /// What the code does, and where.
        found: String,
    },
    /// A repository of the hub, or a file of it, that could not be fetched.
    #[error("`{repository}`{}: expected {expected}, found {found}", file_suffix(.file))]
    Hub {
        /// `owner/name`.
        repository: String,
        /// The file, where it is one.
        file: Option<String>,
        /// What it takes.
        expected: String,
        /// What there is.
        found: String,
        /// What to do.
        hint: String,
    },
    /// The output would overwrite something.
    #[error("`{path}`: expected nothing at the output's path, found {found}")]
    OutputExists {
        /// The output.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The output can't be where it was asked for, `--force` or not.
    #[error("`{path}`: expected an output {expected}, found {found}")]
    OutputPlace {
        /// The output.
        path: PathBuf,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The output would take the place of somebody's work.
    #[error("`{path}`: expected an empty folder to replace, or one that this program wrote, found {found}")]
    OutputForeign {
        /// The output.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Another process is writing the same output.
    #[error("`{path}`: expected no other conversion to this output, found one at work")]
    OutputBusy {
        /// The output.
        path: PathBuf,
    },
    /// The output is larger than what the disk has left.
    #[error("`{path}`: expected {} of free space, found {}", human_bytes(*.expected), human_bytes(*.found))]
    NoSpace {
        /// The folder that the output goes to.
        path: PathBuf,
        /// Bytes of the output.
        expected: u64,
        /// Bytes that are free.
        found: u64,
    },
    /// A normalized folder that has not everything that its source had.
    #[error("`{path}`: expected {expected}, found {found}")]
    NotRestorable {
        /// The folder.
        path: PathBuf,
        /// What it takes to write the source back.
        expected: &'static str,
        /// What is there.
        found: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// The user stopped the program.
    #[error("interrupted; nothing was written under the output's name")]
    Interrupted,
    /// The tensors are not the ones that the configuration implies.
    #[error("`{path}`: {}", list(.problems))]
    Tensors {
        /// The folder or file.
        path: PathBuf,
        /// Every problem that was seen.
        problems: Vec<TensorProblem>,
    },
}

impl Error {
    /// What to try, where we know it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Content { content, .. } => content.hint().map(Into::into),
            Self::Header { found, .. } if found.contains("cut off") => {
                Some("the file may be an unfinished download: compare its size and SHA-256".into())
            }
            Self::Hub { hint, .. } => Some(hint.clone()),
            Self::OutputExists { .. } => Some(
                "`--force` replaces it once the conversion is complete, if it is empty or nothing but an earlier one".into(),
            ),
            Self::OutputForeign { .. } => {
                Some("`--force` does not replace anything else: move it away, remove it, or give another output".into())
            }
            Self::OutputParent { path } => Some(format!("`mkdir -p {}` makes it", path.display())),
            Self::OutputBusy { .. } => Some("wait until it has finished, or give another output".into()),
            Self::NoSpace { .. } => {
                Some("the output needs its whole size; `--force` frees the old one only afterwards".into())
            }
            Self::Io { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    Some("free some space, or give an output on another disk".into())
                }
                ErrorKind::FileTooLarge => Some("a smaller `--max-shard-size` may fit".into()),
                _ => None,
            },
            Self::OutsideFile { path, .. } => {
                let folder = path.parent().unwrap_or(path).display();
                Some(format!(
                    "`cp -rL {folder} COPY` makes a folder of files; of a download, give the folder `snapshots/COMMIT` in the hub's cache"
                ))
            }
            Self::DanglingLink { .. } => {
                Some("the hub's cache may have been cleared: download it again, and not as links".into())
            }
            Self::Changed { .. } => Some("wait until the other program has finished writing, and run it again".into()),
            Self::Quantized { .. } => Some("convert the release that it was quantized from".into()),
            Self::Contradicted { expected, .. } if expected.contains("--") => Some(
                "leave the flag out, or give the checkpoint together with the code that it was made for"
                    .into(),
            ),
            Self::NotRestorable { hint, .. } => Some((*hint).into()),
            Self::Assumed { .. } => Some("without `--strict` the ledger marks each as assumed".into()),
            _ => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn changed(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Changed { path, source }
    }

    pub(crate) fn unsupported(
        path: &Path,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            path: path.to_path_buf(),
            field: field.into(),
            expected: expected.into(),
            found: found.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn field(
        path: &Path,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Field {
            path: path.to_path_buf(),
            field: field.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// Makes text from a file safe for one line of a message.
pub(crate) use cli::escape::terminal as visible;

fn file_suffix(file: &Option<String>) -> String {
    file.as_ref().map_or(String::new(), |file| format!(": `{file}`"))
}

fn field_suffix(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!(", field `{}`", visible(field)) }
}

fn assumptions(behaviours: &[(String, String, String)]) -> String {
    behaviours
        .iter()
        .map(|(name, value, settled_by)| {
            format!(
                "behaviour `{name}`: expected evidence, found `{value}` assumed, which {settled_by} settles"
            )
        })
        .collect::<Vec<_>>()
        .join("; ")
}
