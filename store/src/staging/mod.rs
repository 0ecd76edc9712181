//! A folder that appears under its name when it is complete, and never before.
//!
//! It is written to `new` inside a hidden folder beside its final place, which a file `lock` in it keeps for this process. Where
//! it replaces another folder, the two are exchanged in one step; where the file system cannot do that, the other one waits as
//! `old`. A process that is killed at any moment leaves the old folder or the new one, whole, under the name, or the old one as
//! `old`, from where the next process moves it back. What else dead processes left, the next one removes.

mod exclusive;
mod shared;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::StagingError;
use crate::disk::{is_there, sync_folder};
use crate::replace::{parent_of, write_new};

/// Locked as long as the process lives that writes the folder, however it ends.
const LOCK: &str = "lock";
/// The folder that is being written, and after an exchange the one that was replaced.
const NEW: &str = "new";
/// The folder that is being replaced, where two folders cannot be exchanged in one step.
const OLD: &str = "old";
/// The name that `old` had, where the hidden folder's own name does not say it.
const NAME: &str = "name";
/// How often the hidden folder may vanish between two looks before this is no race any more.
const ATTEMPTS: usize = 100;

/// A folder in the making. Dropped before it is published, it leaves nothing behind.
#[derive(Debug)]
pub struct Staging {
    /// The hidden folder.
    folder: PathBuf,
    /// What the new folder will be called.
    target: PathBuf,
    kind: Kind,
    /// Released when it is closed; none where the file system has no locks.
    _lock: Option<File>,
}

/// How many processes may write the same folder at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One: the hidden folder is `.NAME.partial`.
    Exclusive,
    /// Any number, and the last one stays: `.NAME.XXXXXX` and a suffix.
    Shared,
}

impl Staging {
    /// Where the new folder is written.
    pub fn dir(&self) -> PathBuf {
        self.folder.join(NEW)
    }

    /// Gives the new folder its name, where nothing may be.
    ///
    /// # Errors
    /// [`StagingError::Appeared`] where something is there; [`StagingError::Io`].
    pub fn publish(&self) -> Result<(), StagingError> {
        let (new, target) = (self.dir(), &self.target);
        sync_folder(&new).map_err(StagingError::io("write", &new))?;
        match renameat_with(CWD, &new, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(StagingError::Appeared { path: target.clone() }),
            // A file system without the flag.
            Err(error) if has_no_flags(error) => {
                fs::rename(&new, target).map_err(StagingError::io("rename to", target))?;
            }
            Err(error) => return Err(StagingError::io("rename to", target)(error.into())),
        }
        self.end()
    }

    /// Gives the new folder its name, in the place of what is there.
    ///
    /// `check` refuses what may not be replaced. It is asked of the folder after that has lost its name, so that nobody can put
    /// anything into it any more; where it refuses, the folder gets its name back.
    ///
    /// # Errors
    /// Those of `check`; [`StagingError::Io`].
    pub fn publish_over<E: From<StagingError>>(
        &self,
        check: impl Fn(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        if !is_there(&self.target) {
            return Ok(self.publish()?);
        }
        let (new, target) = (self.dir(), &self.target);
        sync_folder(&new).map_err(StagingError::io("write", &new))?;
        let exchange = || renameat_with(CWD, &new, CWD, target, RenameFlags::EXCHANGE);
        match exchange() {
            Ok(()) => check(&new).inspect_err(|_| {
                let _ = exchange();
            })?,
            Err(error) if has_no_flags(error) => self.move_aside_and_rename(check)?,
            Err(error) => return Err(StagingError::io("rename to", target)(error.into()).into()),
        }
        Ok(self.end()?)
    }

    /// For file systems that cannot exchange two folders.
    fn move_aside_and_rename<E: From<StagingError>>(
        &self,
        check: impl Fn(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.kind == Kind::Shared {
            let name = self.folder.join(NAME);
            let bytes = self.target.file_name().unwrap_or_default().as_bytes();
            write_new(&name, bytes).map_err(StagingError::io("write", &name))?;
        }
        let (old, target) = (self.folder.join(OLD), &self.target);
        fs::rename(target, &old).map_err(StagingError::io("move away", target))?;
        let renamed = check(&old).and_then(|()| {
            Ok(fs::rename(self.dir(), target).map_err(StagingError::io("rename to", target))?)
        });
        renamed.inspect_err(|_| {
            // If this fails too, the first failure is still the one to tell.
            let _ = fs::rename(&old, target);
            let _ = fs::remove_file(self.folder.join(NAME));
        })
    }

    /// The new folder has its name: what it replaced goes.
    fn end(&self) -> Result<(), StagingError> {
        let parent = parent_of(&self.target);
        sync_folder(parent).map_err(StagingError::io("write", parent))?;
        self.clear()
    }

    /// Ends what a dead process began: a folder that it had moved away goes back, everything else is removed.
    fn recover(&self) -> Result<(), StagingError> {
        let old = self.folder.join(OLD);
        if is_there(&old) && !is_there(&self.target) {
            fs::rename(&old, &self.target).map_err(StagingError::io("move back", &self.target))?;
        }
        self.clear()
    }

    /// Removes everything but the lock.
    fn clear(&self) -> Result<(), StagingError> {
        for name in [NEW, OLD] {
            remove(&self.folder.join(name), |path| fs::remove_dir_all(path))?;
        }
        // Last: it says whose `old` was.
        remove(&self.folder.join(NAME), |path| fs::remove_file(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Nothing to tell anybody: what stays behind is for the next process. The folder goes last, and only when it is empty,
        // since another process may take it as soon as the lock is gone.
        if self.recover().is_ok() {
            let _ = fs::remove_file(self.folder.join(LOCK));
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Whether a file system does not know the flags of a renaming.
fn has_no_flags(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::NOTSUP)
}

fn remove(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<(), StagingError> {
    match remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StagingError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::names;

    const MARK: &[u8] = b"test\n";

    /// What may be replaced: a folder without a letter in it.
    fn check(path: &Path) -> Result<(), StagingError> {
        if path.join("letter").exists() { Err(StagingError::foreign(path, "a letter")) } else { Ok(()) }
    }

    fn both(target: &Path) -> [Staging; 2] {
        let made =
            [Staging::exclusive(target, MARK).unwrap(), Staging::shared(target, ".test-part").unwrap()];
        for staging in &made {
            fs::write(staging.dir().join("after"), "after").unwrap();
        }
        made
    }

    #[test]
    fn a_folder_takes_the_place_of_another_whole() {
        type Publish = fn(&Staging) -> Result<(), StagingError>;
        let without_exchange: Publish = |staging| staging.move_aside_and_rename(check);
        let with_exchange: Publish = |staging| staging.publish_over(check);
        for publish in [with_exchange, without_exchange] {
            for which in 0..2 {
                let parent = tempfile::tempdir().unwrap();
                let target = parent.path().join("out");
                fs::create_dir(&target).unwrap();
                fs::write(target.join("before"), "before").unwrap();
                fs::write(target.join("letter"), "mine").unwrap();
                let staging = &both(&target)[which];
                assert!(matches!(publish(staging).unwrap_err(), StagingError::Foreign { .. }));
                assert_eq!(names(&target), ["before", "letter"]);
                assert_eq!(names(&staging.dir()), ["after"]);
                fs::remove_file(target.join("letter")).unwrap();
                publish(staging).unwrap();
                assert_eq!(names(&target), ["after"]);
            }
        }
    }

    #[test]
    fn nothing_stays_beside_the_new_folder() {
        for which in 0..2 {
            let parent = tempfile::tempdir().unwrap();
            let target = parent.path().join("out");
            let made = both(&target);
            made[which].publish().unwrap();
            assert_eq!(names(&target), ["after"]);
            drop(made);
            assert_eq!(names(parent.path()), ["out"]);
            for staging in both(&target) {
                assert!(matches!(staging.publish().unwrap_err(), StagingError::Appeared { .. }));
                staging.publish_over(check).unwrap();
            }
            assert_eq!(names(parent.path()), ["out"]);
        }
    }

    #[test]
    fn a_folder_that_could_not_be_replaced_is_not_lost() {
        for which in 0..2 {
            let parent = tempfile::tempdir().unwrap();
            let target = parent.path().join("out");
            fs::create_dir(&target).unwrap();
            fs::write(target.join("before"), "before").unwrap();
            let made = both(&target);
            // As if both steps behind the first one had failed.
            fs::rename(&target, made[which].folder.join(OLD)).unwrap();
            drop(made);
            assert_eq!(names(parent.path()), ["out"]);
            assert_eq!(names(&target), ["before"]);
        }
    }
}
