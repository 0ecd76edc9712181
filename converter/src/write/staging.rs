//! A folder that appears under its final name when it is complete, and never before.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::replaceable;
use super::workplace::Workplace;
use crate::Error;

/// A folder being written under a temporary name beside its final one. Dropped uncommitted, it leaves nothing behind; killed,
/// it leaves what the next one for the same output removes.
#[derive(Debug)]
pub struct Staging {
    workplace: Workplace,
    dir: PathBuf,
    parent: PathBuf,
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
    let parent = parent_of(out);
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

fn parent_of(out: &Path) -> &Path {
    match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Staging {
    /// Begins the folder that will be `out`, made of `source`.
    ///
    /// # Errors
    /// [`Error::OutputBusy`] where another process is writing it; [`Error::OutputExists`], [`Error::OutputPlace`],
    /// [`Error::Io`].
    pub fn begin(out: &Path, source: &Path, force: bool) -> Result<Self, Error> {
        let parent = parent_of(out).to_path_buf();
        let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let workplace = Workplace::take(&parent, &name)?;
        // Another process may have finished since this was asked for the first time.
        if !force && fs::symlink_metadata(out).is_ok() {
            return Err(Error::OutputExists { path: out.to_path_buf(), found: "a new one" });
        }
        // Inside, since the temporary folder itself is closed to everybody else and would stay so.
        let dir = workplace.new_dir();
        fs::create_dir(&dir).map_err(Error::io("create", &dir))?;
        let (out, source) = (out.to_path_buf(), source.to_path_buf());
        Ok(Self { workplace, dir, parent, out, source, force })
    }

    /// The folder to write to.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        use std::io::Write;
        let path = self.dir.join(name);
        let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))
    }

    /// Gives the folder its final name in one step; what was there before is gone after it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::OutputExists`], [`Error::OutputForeign`]; the final name is then as it was before.
    pub fn commit(self) -> Result<(), Error> {
        sync_folder(&self.dir)?;
        if self.force && fs::symlink_metadata(&self.out).is_ok() {
            self.exchange()?;
        } else {
            self.rename_to_nothing()?;
        }
        sync_folder(&self.parent)?;
        // What was replaced is in there; the output is complete whether it can be removed or not.
        self.workplace.clear()
    }

    fn rename_to_nothing(&self) -> Result<(), Error> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, &self.dir, CWD, &self.out, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(Error::OutputExists { path: self.out.clone(), found: "a new one" }),
            // A file system without the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                fs::rename(&self.dir, &self.out).map_err(Error::io("rename to", &self.out))
            }
            Err(error) => Err(Error::io("rename to", &self.out)(error.into())),
        }
    }

    /// Marks the folder as one that holds the source of a normalized checkpoint again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn mark_exported(&self) -> Result<(), Error> {
        replaceable::mark_exported(&self.dir)
    }

    fn exchange(&self) -> Result<(), Error> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        let exchange = || renameat_with(CWD, &self.dir, CWD, &self.out, RenameFlags::EXCHANGE);
        match exchange() {
            // Where nobody finds it by its name any more, so that nothing can be added.
            Ok(()) => replaceable::check(&self.dir, &self.source).map_err(|error| {
                let _ = exchange();
                self.named(error)
            }),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.move_away_and_rename(),
            Err(error) => Err(Error::io("rename to", &self.out)(error.into())),
        }
    }

    /// For file systems that can't exchange two folders. A process that dies between the two steps has left the output in a
    /// place from where the next one moves it back.
    fn move_away_and_rename(&self) -> Result<(), Error> {
        let old = self.workplace.old_dir();
        fs::rename(&self.out, &old).map_err(Error::io("move away", &self.out))?;
        let checked = replaceable::check(&old, &self.source).map_err(|error| self.named(error));
        let renamed = checked
            .and_then(|()| fs::rename(&self.dir, &self.out).map_err(Error::io("rename to", &self.out)));
        renamed.inspect_err(|_| {
            // Back to where it was; if that fails too, the first failure is still the one to tell.
            let _ = fs::rename(&old, &self.out);
        })
    }

    /// An error of a folder that is not under its own name just now.
    fn named(&self, error: Error) -> Error {
        match error {
            Error::OutputForeign { found, .. } => Error::OutputForeign { path: self.out.clone(), found },
            other => other,
        }
    }
}

/// Waits until the disk knows the folder's entries.
fn sync_folder(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(Error::io("write", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_replaced_without_an_exchange_too() {
        let parent = tempfile::TempDir::new().unwrap();
        let out = parent.path().join("out");
        fs::create_dir(&out).unwrap();
        let ledger = r#"{"format":"nemotron-vl-conversion","files":[{"name":"before"}]}"#;
        fs::write(out.join("conversion.json"), ledger).unwrap();
        fs::write(out.join("before"), "1").unwrap();
        let staging = Staging::begin(&out, parent.path(), true).unwrap();
        staging.write("after", b"2").unwrap();
        fs::write(out.join("letter"), "3").unwrap();
        let error = staging.move_away_and_rename().unwrap_err();
        assert!(matches!(error, Error::OutputForeign { path, .. } if path == out));
        assert_eq!(fs::read_dir(&out).unwrap().count(), 3);
        fs::remove_file(out.join("letter")).unwrap();
        staging.move_away_and_rename().unwrap();
        assert_eq!(fs::read(out.join("after")).unwrap(), b"2");
        assert!(!out.join("before").exists());
        drop(staging);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

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
