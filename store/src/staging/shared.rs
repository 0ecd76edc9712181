//! The hidden folder of what several processes may write at once, each in a folder of its own.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::{ATTEMPTS, Kind, LOCK, NAME, NEW, OLD, Staging};
use crate::StagingError;
use crate::disk::is_there;
use crate::lock::{Attempt, lock_at};
use crate::replace::parent_of;

/// How much of the target's name a hidden folder's own has: together they are to be no longer than a name can be.
const NAME_BYTES: usize = 200;

impl Staging {
    /// Begins a folder that will be called `target`, in `.NAME.XXXXXX` and `suffix` beside it, and clears the folder around it of
    /// what dead processes left under such names.
    ///
    /// # Errors
    /// [`StagingError::Io`].
    pub fn shared(target: &Path, suffix: &str) -> Result<Self, StagingError> {
        let parent = parent_of(target);
        let failed = |error| StagingError::io("create a folder in", parent)(error);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{}.", &name[..name.floor_char_boundary(NAME_BYTES)]);
        let mut builder = tempfile::Builder::new();
        // Closed to everybody else: what is in there is not finished.
        builder.prefix(&prefix).suffix(suffix).permissions(Permissions::from_mode(0o700));
        for _ in 0..ATTEMPTS {
            let folder = builder.tempdir_in(parent).map_err(failed)?.keep();
            let lock = match lock_at(&folder.join(LOCK)) {
                Ok(Attempt::Held(lock)) => Some(lock),
                // Taken for a dead one's before it was locked.
                Ok(Attempt::Busy | Attempt::Gone) => continue,
                // Nobody can lock there, and so nobody will take this one for dead.
                Err(_) => None,
            };
            let staging = Self { folder, target: target.to_path_buf(), kind: Kind::Shared, _lock: lock };
            // As `mkdir` does it: readable to whom the umask allows.
            DirBuilder::new().mode(0o777).create(staging.dir()).map_err(failed)?;
            clear_dead(parent, suffix);
            return Ok(staging);
        }
        Err(failed(io::Error::new(ErrorKind::ResourceBusy, "its temporary folder is taken away each time")))
    }
}

/// Clears a folder of what dead processes have left in it; a folder that one of them had moved aside gets its name back. What
/// cannot be removed stays.
fn clear_dead(parent: &Path, suffix: &str) {
    let user = rustix::process::geteuid().as_raw();
    for path in fs::read_dir(parent).into_iter().flatten().flatten().map(|item| item.path()) {
        if is_staging(&path, suffix, user).unwrap_or(false) {
            let _ = clear(&path, parent);
        }
    }
}

/// Whether a folder is such a hidden one, of this user; links are none, and neither is what holds anything else.
fn is_staging(path: &Path, suffix: &str, user: u32) -> io::Result<bool> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    if !(name.starts_with(b".") && name.ends_with(suffix.as_bytes())) {
        return Ok(false);
    }
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() || metadata.uid() != user {
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

/// Removes a hidden folder if the process that has made it is dead.
fn clear(folder: &Path, parent: &Path) -> io::Result<()> {
    if fs::read_dir(folder)?.next().is_none() {
        // Perhaps just made, and not locked yet: its owner finds it gone and makes another. A lock in it would be taken for his.
        return fs::remove_dir(folder);
    }
    let Attempt::Held(_lock) = lock_at(&folder.join(LOCK))? else { return Ok(()) };
    let old = folder.join(OLD);
    if is_there(&old) {
        // Without its name it has no place to go back to, and is no less somebody's work.
        let Some(target) = target_of(folder, parent) else { return Ok(()) };
        if !is_there(&target) {
            fs::rename(&old, &target)?;
        }
    }
    fs::remove_dir_all(folder)
}

/// The path of the folder that a hidden one says it was made for.
fn target_of(folder: &Path, parent: &Path) -> Option<PathBuf> {
    let name = OsString::from_vec(crate::read(&folder.join(NAME), 4096).ok()?);
    let mut parts = Path::new(&name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Some(parent.join(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::names;

    const SUFFIX: &str = ".dump-part";

    /// What a process leaves that dies in the middle of a replacement where folders cannot be exchanged.
    fn died_between_the_steps(parent: &Path, name: &str) -> PathBuf {
        let left = parent.join(".dump.dead00.dump-part");
        fs::create_dir_all(left.join(NEW)).unwrap();
        fs::create_dir(left.join(OLD)).unwrap();
        fs::write(left.join(OLD).join("before"), "before").unwrap();
        fs::write(left.join(NAME), name).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        left
    }

    #[test]
    fn a_folder_that_a_dead_process_has_moved_aside_gets_its_name_back() {
        let parent = tempfile::tempdir().unwrap();
        died_between_the_steps(parent.path(), "dump");
        drop(Staging::shared(&parent.path().join("other"), SUFFIX).unwrap());
        assert_eq!(names(parent.path()), ["dump"]);
        assert_eq!(names(&parent.path().join("dump")), ["before"]);
        // With a folder in place, what waits in `old` was replaced by it.
        fs::write(parent.path().join("dump/after"), "after").unwrap();
        died_between_the_steps(parent.path(), "dump");
        drop(Staging::shared(&parent.path().join("other"), SUFFIX).unwrap());
        assert_eq!(names(parent.path()), ["dump"]);
        assert_eq!(names(&parent.path().join("dump")), ["after", "before"]);
    }

    #[test]
    fn a_folder_without_a_name_to_go_back_to_stays_where_it_is() {
        for name in ["", ".", "..", "../dump", "/tmp/dump", "a/b", "dump/"] {
            let parent = tempfile::tempdir().unwrap();
            let left = died_between_the_steps(parent.path(), name);
            drop(Staging::shared(&parent.path().join("other"), SUFFIX).unwrap());
            assert_eq!(names(parent.path()).len(), 1, "{name}");
            assert_eq!(names(&left.join(OLD)), ["before"], "{name}");
        }
    }

    #[test]
    fn a_hidden_folder_that_is_taken_away_before_it_is_locked_is_made_again() {
        // What another process does that takes an empty one for dead.
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join(".dump.abcdef.dump-part");
        fs::create_dir(&path).unwrap();
        clear(&path, parent.path()).unwrap();
        assert!(matches!(lock_at(&path.join(LOCK)).unwrap(), Attempt::Gone));
        let staging = Staging::shared(&parent.path().join("dump"), SUFFIX).unwrap();
        clear(&staging.folder, parent.path()).unwrap();
        assert!(staging.dir().is_dir());
        drop(staging);
        assert!(names(parent.path()).is_empty());
    }
}
