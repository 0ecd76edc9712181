//! The hidden folder beside a dump in which it is made, and what a process that died has left in one.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::TempDir;

/// How the name of a workplace ends, so that it is nobody else's.
const SUFFIX: &str = ".dump-part";
/// How much of the dump's name a workplace's own has: together they are to be no longer than a name can be.
const NAME_BYTES: usize = 200;

/// Locked as long as the process lives that has made the folder, however it ends.
const LOCK: &str = "lock";
/// The dump that is being written, and after an exchange the one that was replaced.
const NEW: &str = "new";
/// The dump that is being replaced, where two folders cannot be exchanged in one step; [`NAME`] says what it is called.
const OLD: &str = "old";
const NAME: &str = "name";

/// How often another process may take a folder away as soon as it was made, before this is no race any more.
const ATTEMPTS: usize = 100;

/// `.NAME.XXXXXX.dump-part` beside the dump `NAME`. It is removed when this is dropped; what a killed process has left is known
/// for dead by its lock, and [`Workplace::clear_dead`] removes it.
#[derive(Debug)]
pub(crate) struct Workplace {
    folder: TempDir,
    /// Released when it is closed, after the folder is gone; none where the file system has no locks.
    _lock: Option<File>,
}

impl Workplace {
    /// Makes the workplace of a dump that will be called `name`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn make(parent: &Path, name: &OsStr) -> io::Result<Self> {
        let name = name.to_string_lossy();
        let prefix = format!(".{}.", &name[..name.floor_char_boundary(NAME_BYTES)]);
        let mut builder = tempfile::Builder::new();
        // Closed to everybody else: what is in there is not finished.
        builder.prefix(&prefix).suffix(SUFFIX).permissions(fs::Permissions::from_mode(0o700));
        for _ in 0..ATTEMPTS {
            let folder = builder.tempdir_in(parent)?;
            let lock = match lock(folder.path()) {
                Ok(Some(lock)) => Some(lock),
                Ok(None) => continue,
                // Nobody can lock there, and so nobody will take this one for dead.
                Err(_) => None,
            };
            // As `mkdir` does it: readable to whom the umask allows.
            DirBuilder::new().mode(0o777).create(folder.path().join(NEW))?;
            return Ok(Workplace { folder, _lock: lock });
        }
        Err(io::Error::new(ErrorKind::ResourceBusy, "its temporary folder is taken away each time"))
    }

    /// Where the dump is written.
    pub(crate) fn new_dir(&self) -> PathBuf {
        self.folder.path().join(NEW)
    }

    /// Gives the dump its name where nothing is, or an empty folder.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn rename(&self, target: &Path) -> io::Result<()> {
        fs::rename(self.new_dir(), target)
    }

    /// Gives the dump the name of another one, which it takes the place of: at every moment one of the two has the name.
    ///
    /// # Errors
    ///
    /// What the system says; the other one still has its name then.
    pub(crate) fn replace(&self, target: &Path) -> io::Result<()> {
        match renameat_with(CWD, self.new_dir(), CWD, target, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.move_aside_and_rename(target),
            exchanged => Ok(exchanged?),
        }
    }

    /// For file systems that cannot exchange two folders. If the process dies between the two steps, the next one moves the
    /// other dump back.
    fn move_aside_and_rename(&self, target: &Path) -> io::Result<()> {
        let name = self.folder.path().join(NAME);
        fs::write(&name, target.file_name().unwrap_or_default().as_bytes())?;
        File::open(&name)?.sync_all()?;
        let old = self.folder.path().join(OLD);
        fs::rename(target, &old)?;
        fs::rename(self.new_dir(), target).inspect_err(|_| {
            // If that fails too, the first failure is still the one to tell.
            let _ = fs::rename(&old, target);
        })
    }

    /// Clears a folder of the workplaces that dead processes have left in it; a dump that one of them had moved aside gets its
    /// name back. What cannot be removed stays.
    pub(crate) fn clear_dead(&self) {
        let Some(parent) = self.folder.path().parent() else { return };
        let (Ok(ours), Ok(items)) = (fs::metadata(self.folder.path()), fs::read_dir(parent)) else { return };
        for path in items.flatten().map(|item| item.path()) {
            if is_workplace(&path, ours.uid()).unwrap_or(false) {
                let _ = clear(&path, parent);
            }
        }
    }
}

/// Whether a folder is a workplace of this user's; links are none, and neither is what holds anything else.
fn is_workplace(path: &Path, uid: u32) -> io::Result<bool> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    if !(name.starts_with(b".") && name.ends_with(SUFFIX.as_bytes())) {
        return Ok(false);
    }
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() || metadata.uid() != uid {
        return Ok(false);
    }
    for item in fs::read_dir(path)? {
        let item = item?;
        let (name, is_folder) = (item.file_name(), item.file_type()?.is_dir());
        let expected = if is_folder { [NEW, OLD] } else { [LOCK, NAME] };
        if !expected.iter().any(|&expected| name == expected) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Locks a workplace; `None` if another process has it, or has removed it.
fn lock(workplace: &Path) -> io::Result<Option<File>> {
    let path = workplace.join(LOCK);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    // Neither a link nor a pipe is followed or waited for.
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    let lock = match options.open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    // The file may have been removed between the two steps: a lock on a removed file keeps nobody out.
    let ours = lock.metadata()?.ino();
    Ok(fs::symlink_metadata(&path).is_ok_and(|there| there.ino() == ours).then_some(lock))
}

/// Removes a workplace if the process that has made it is dead.
fn clear(workplace: &Path, parent: &Path) -> io::Result<()> {
    if fs::read_dir(workplace)?.next().is_none() {
        // Perhaps just made, and not locked yet: its owner finds it gone and makes another. A lock in it would be taken for his.
        return fs::remove_dir(workplace);
    }
    let Some(_lock) = lock(workplace)? else { return Ok(()) };
    let old = workplace.join(OLD);
    if old.is_dir() {
        // Without its name it has no place to go back to, and is no less somebody's dump.
        let Some(target) = target_of(workplace, parent) else { return Ok(()) };
        if fs::symlink_metadata(&target).is_err() {
            fs::rename(&old, &target)?;
        }
    }
    fs::remove_dir_all(workplace)
}

/// The path of the dump that a workplace says it was made for.
fn target_of(workplace: &Path, parent: &Path) -> Option<PathBuf> {
    let name = std::ffi::OsString::from_vec(store::read(&workplace.join(NAME), 4096).ok()?);
    let mut parts = Path::new(&name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Some(parent.join(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(path: &Path, file: &str) {
        fs::create_dir(path).unwrap();
        fs::write(path.join(file), file).unwrap();
    }

    fn names(path: &Path) -> Vec<String> {
        let items = fs::read_dir(path).unwrap();
        let mut names: Vec<_> = items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A dump that is replaced where folders cannot be exchanged, by a process that dies behind some of the steps.
    fn replaced_without_exchange(parent: &Path, dies_between: bool) {
        let target = parent.join("dump");
        folder_with(&target, "before");
        let workplace = Workplace::make(parent, OsStr::new("dump")).unwrap();
        fs::write(workplace.new_dir().join("after"), "after").unwrap();
        if dies_between {
            // The second step fails as if it had never come: there is nothing to give the name to, nor to take it back from.
            fs::rename(workplace.new_dir(), parent.join("kept")).unwrap();
            assert!(workplace.move_aside_and_rename(&target).is_err());
            assert_eq!(names(&target), ["before"]);
            fs::rename(parent.join("kept"), workplace.new_dir()).unwrap();
            fs::rename(&target, workplace.folder.path().join(OLD)).unwrap();
        } else {
            workplace.move_aside_and_rename(&target).unwrap();
        }
        let Workplace { folder, _lock } = workplace;
        let _ = folder.keep();
    }

    #[test]
    fn a_dump_is_replaced_without_an_exchange_too() {
        let parent = tempfile::tempdir().unwrap();
        replaced_without_exchange(parent.path(), false);
        assert_eq!(names(&parent.path().join("dump")), ["after"]);
        Workplace::make(parent.path(), OsStr::new("other")).unwrap().clear_dead();
        assert_eq!(names(parent.path()), ["dump"]);
        assert_eq!(names(&parent.path().join("dump")), ["after"]);
    }

    #[test]
    fn a_dump_that_a_dead_process_has_moved_aside_gets_its_name_back() {
        let parent = tempfile::tempdir().unwrap();
        replaced_without_exchange(parent.path(), true);
        assert_eq!(names(parent.path()).len(), 1);
        Workplace::make(parent.path(), OsStr::new("other")).unwrap().clear_dead();
        assert_eq!(names(parent.path()), ["dump"]);
        assert_eq!(names(&parent.path().join("dump")), ["before"]);
    }

    #[test]
    fn a_dump_without_a_name_to_go_back_to_stays_where_it_is() {
        for name in ["", ".", "..", "../dump", "/tmp/dump", "a/b", "dump/"] {
            let parent = tempfile::tempdir().unwrap();
            replaced_without_exchange(parent.path(), true);
            let workplace = parent.path().join(&names(parent.path())[0]);
            fs::write(workplace.join(NAME), name).unwrap();
            Workplace::make(parent.path(), OsStr::new("other")).unwrap().clear_dead();
            assert_eq!(names(parent.path()).len(), 1, "{name}");
            assert_eq!(names(&workplace.join(OLD)), ["before"], "{name}");
        }
    }

    #[test]
    fn a_workplace_that_is_taken_away_before_it_is_locked_is_made_again() {
        // What another process does that takes an empty one for dead.
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join(".dump.abcdef.dump-part");
        fs::create_dir(&path).unwrap();
        clear(&path, parent.path()).unwrap();
        assert!(lock(&path).unwrap().is_none());
        let workplace = Workplace::make(parent.path(), OsStr::new("dump")).unwrap();
        clear(workplace.folder.path(), parent.path()).unwrap();
        assert!(workplace.new_dir().is_dir());
        drop(workplace);
        assert!(names(parent.path()).is_empty());
    }
}
