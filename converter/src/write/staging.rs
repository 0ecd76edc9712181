//! A folder that appears under its final name when it is complete, and never before.

use std::fs;
use std::path::{Path, PathBuf};

use store::StagingError;

use super::replaceable;
use crate::Error;

/// What stands in the lock of the temporary folder: one without it is somebody else's, and stays as it is.
const MARK: &[u8] = b"nvl-convert\n";

/// A folder being written under a temporary name beside its final one. Dropped uncommitted, it leaves nothing behind; killed,
/// it leaves what the next one for the same output removes.
#[derive(Debug)]
pub struct Staging {
    staging: store::Staging,
    out: PathBuf,
    /// What the folder is made of.
    source: PathBuf,
    /// Whether it may take another one's place.
    force: bool,
}

/// Refuses an output path that would overwrite something, or that can't be an output at all.
///
/// # Errors
/// [`Error::OutputExists`] where something is there and `force` is not set; [`Error::OutputForeign`] where it holds what this
/// program did not write; [`Error::OutputPlace`] where it could not be replaced even so, or holds `source`;
/// [`Error::OutputParent`] where there is no folder for it to lie in.
pub fn check_place(out: &Path, source: &Path, force: bool) -> Result<(), Error> {
    let place = |expected: &'static str, found: &str| Error::OutputPlace {
        path: out.to_path_buf(),
        expected,
        found: found.to_string(),
    };
    if out.file_name().is_none() {
        return Err(place("with a name of its own", "a path that ends in none"));
    }
    let parent = store::parent_of(out);
    match fs::metadata(parent) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(Error::NotAFolder { path: parent.to_path_buf(), found: "a file" }),
        Err(_) => return Err(Error::OutputParent { path: parent.to_path_buf() }),
    }
    let Ok(metadata) = fs::symlink_metadata(out) else { return Ok(()) };
    let found = match metadata.file_type() {
        kind if kind.is_dir() => "a folder",
        kind if kind.is_symlink() => "a link",
        _ => "a file",
    };
    if !force {
        return Err(Error::OutputExists { path: out.to_path_buf(), found });
    }
    if found != "a folder" {
        return Err(place("that is a folder or nothing", found));
    }
    let real = fs::canonicalize(out).map_err(Error::io("read", out))?;
    if fs::canonicalize(source).is_ok_and(|source| source.starts_with(&real)) {
        return Err(place("apart from the source", "a folder that holds the source"));
    }
    if std::env::current_dir().and_then(fs::canonicalize).is_ok_and(|current| current.starts_with(&real)) {
        return Err(place("apart from the current folder", "a folder that holds it"));
    }
    replaceable::check(out, source)
}

impl Staging {
    /// Begins the folder that will be `out`, made of `source`.
    ///
    /// # Errors
    /// [`Error::OutputBusy`] where another process is writing it; [`Error::OutputExists`], [`Error::OutputPlace`],
    /// [`Error::Io`].
    pub fn begin(out: &Path, source: &Path, force: bool) -> Result<Self, Error> {
        let staging = store::Staging::exclusive(out, MARK)?;
        // Another process may have finished since this was asked for the first time.
        if !force && fs::symlink_metadata(out).is_ok() {
            return Err(Error::OutputExists { path: out.to_path_buf(), found: "a new one" });
        }
        Ok(Self { staging, out: out.to_path_buf(), source: source.to_path_buf(), force })
    }

    /// The folder to write to.
    pub fn dir(&self) -> PathBuf {
        self.staging.dir()
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.dir().join(name);
        store::write_new(&path, bytes).map_err(Error::io("write", &path))
    }

    /// Gives the folder its final name in one step; what was there before is gone after it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::OutputExists`], [`Error::OutputForeign`]; the final name is then as it was before.
    pub fn commit(self) -> Result<(), Error> {
        if !self.force {
            return Ok(self.staging.publish()?);
        }
        self.staging.publish_over(|replaced| {
            replaceable::check(replaced, &self.source).map_err(|error| match error {
                // It is not under its own name just now.
                Error::OutputForeign { found, .. } => Error::OutputForeign { path: self.out.clone(), found },
                other => other,
            })
        })
    }

    /// Marks the folder as one that holds the source of a normalized checkpoint again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn mark_exported(&self) -> Result<(), Error> {
        replaceable::mark_exported(&self.dir())
    }
}

impl From<StagingError> for Error {
    fn from(error: StagingError) -> Self {
        match error {
            StagingError::Io { action, path, source } => Self::Io { action, path, source },
            StagingError::Busy { path } => Self::OutputBusy { path },
            StagingError::Foreign { path, found } => {
                Self::OutputPlace { path, expected: "whose temporary folder is free", found }
            }
            StagingError::Appeared { path } => Self::OutputExists { path, found: "a new one" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_output_is_not_overwritten_by_one_that_began_before_it() {
        let parent = tempfile::TempDir::new().unwrap();
        let out = parent.path().join("out");
        let staging = Staging::begin(&out, parent.path(), false).unwrap();
        fs::create_dir(&out).unwrap();
        let error = staging.commit().unwrap_err();
        assert!(matches!(error, Error::OutputExists { .. }), "{error}");
        let error = Staging::begin(&out, parent.path(), false).unwrap_err();
        assert!(matches!(error, Error::OutputExists { .. }), "{error}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
