//! Why a page or a completion was not written.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a page or a completion was not written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder for the pages, or a page in it.
    #[error("cannot write the manual pages to `{}`: {source}", folder.display())]
    Folder {
        /// The folder that `--out` names.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output.
    #[error("cannot write to stdout: {0}")]
    Stdout(#[source] io::Error),
}
