//! Why a folder could not be written.

use std::io;
use std::path::{Path, PathBuf};

/// What can be in the way of a folder that is being written.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// The system said no.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process is writing the same folder.
    #[error("`{}`: expected no other process to write it, found one at work", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody else's file or folder is where the temporary folder would be.
    #[error("`{}`: expected room for a temporary folder, found {found}", path.display())]
    Foreign {
        /// The temporary folder.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// Something has appeared under the folder's name meanwhile.
    #[error("`{}`: expected nothing, found a new file or folder", path.display())]
    Appeared {
        /// The folder.
        path: PathBuf,
    },
}

impl StagingError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn foreign(path: &Path, found: impl Into<String>) -> Self {
        Self::Foreign { path: path.to_path_buf(), found: found.into() }
    }
}
