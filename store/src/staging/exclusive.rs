//! The hidden folder of what one process at a time may write.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::Path;

use super::{ATTEMPTS, Kind, LOCK, NEW, OLD, Staging};
use crate::StagingError;
use crate::disk::is_there;
use crate::lock::{Attempt, lock_at};
use crate::replace::parent_of;

impl Staging {
    /// Begins a folder that will be called `target`, in `.NAME.partial` beside it, and clears that of what a dead process left.
    ///
    /// `mark` stands in the lock of every folder of this program: one without it is somebody else's, and stays as it is.
    ///
    /// # Errors
    /// [`StagingError::Busy`] where a living process has it; [`StagingError::Foreign`] where something else is in its place;
    /// [`StagingError::Io`].
    pub fn exclusive(target: &Path, mark: &[u8]) -> Result<Self, StagingError> {
        let parent = parent_of(target);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let folder = parent.join(format!(".{name}.partial"));
        for _ in 0..ATTEMPTS {
            // Closed to everybody else: what is in there is not finished.
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(StagingError::io("create a folder in", parent)(error));
                }
                _ => {}
            }
            if !is_staging(&folder)? {
                continue;
            }
            let path = folder.join(LOCK);
            match lock_at(&path) {
                Ok(Attempt::Held(lock)) => {
                    take(&folder, &lock, mark)?;
                    let target = target.to_path_buf();
                    let staging = Self { folder, target, kind: Kind::Exclusive, _lock: Some(lock) };
                    staging.recover()?;
                    // Inside, since the hidden folder itself is closed to everybody else and would stay so.
                    let dir = staging.dir();
                    fs::create_dir(&dir).map_err(StagingError::io("create", &dir))?;
                    return Ok(staging);
                }
                Ok(Attempt::Busy) => break,
                // The one that had it has just finished.
                Ok(Attempt::Gone) => {}
                Err(error) if error.kind() == ErrorKind::InvalidInput => {
                    return Err(StagingError::foreign(&folder, "a `lock` in it that is not a file"));
                }
                Err(error) => return Err(StagingError::io("lock", &path)(error)),
            }
        }
        Err(StagingError::Busy { path: target.to_path_buf() })
    }
}

/// Whether the folder is there; an error if it is another user's, or holds anything that no hidden folder has.
fn is_staging(folder: &Path) -> Result<bool, StagingError> {
    match fs::symlink_metadata(folder) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(StagingError::foreign(folder, "no folder in its place"));
        }
        Ok(metadata) if metadata.uid() != rustix::process::geteuid().as_raw() => {
            return Err(StagingError::foreign(folder, "another user's folder in its place"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StagingError::io("read", folder)(error)),
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StagingError::io("read", folder)(error)),
    };
    for entry in entries.flatten() {
        if ![LOCK, NEW, OLD].iter().any(|&known| entry.file_name() == known) {
            let name = entry.file_name().to_string_lossy().into_owned();
            return Err(StagingError::foreign(folder, format!("`{}` in it", name.escape_debug())));
        }
    }
    // The lock is made first and goes last: without it nothing of ours can be there.
    let has_lock = || is_there(&folder.join(LOCK));
    if !has_lock()
        && let Some(name) = [NEW, OLD].iter().find(|name| is_there(&folder.join(name)) && !has_lock())
    {
        return Err(StagingError::foreign(folder, format!("`{name}` in it and no `lock`")));
    }
    Ok(true)
}

/// Marks the folder as ours, by its lock, which this process has; an error if it is somebody else's.
fn take(folder: &Path, lock: &File, mark: &[u8]) -> Result<(), StagingError> {
    let mut found = vec![0; mark.len() + 1];
    let bytes = lock.read_at(&mut found, 0).map_err(StagingError::io("read", folder))?;
    match &found[..bytes] {
        found if found == mark => Ok(()),
        // Just made, by this process or by one that came no further.
        [] if !is_there(&folder.join(NEW)) && !is_there(&folder.join(OLD)) => {
            lock.write_all_at(mark, 0).map_err(StagingError::io("write", folder))
        }
        _ => Err(StagingError::foreign(folder, "a `lock` in it that is not this program's")),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::disk::names as entries;

    const MARK: &[u8] = b"nvl-convert\n";

    fn begin(parent: &TempDir, name: &str) -> Result<Staging, StagingError> {
        Staging::exclusive(&parent.path().join(name), MARK)
    }

    #[test]
    fn a_living_process_keeps_others_out_and_leaves_nothing() {
        let parent = TempDir::new().unwrap();
        let first = begin(&parent, "out").unwrap();
        let error = begin(&parent, "out").unwrap_err();
        assert!(matches!(&error, StagingError::Busy { path } if path.ends_with("out")), "{error}");
        assert!(first.dir().exists());
        let other = begin(&parent, "other").unwrap();
        drop((first, other));
        assert_eq!(entries(parent.path()), Vec::<String>::new());
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_it_moved_away_comes_back() {
        let parent = TempDir::new().unwrap();
        let left = parent.path().join(".out.partial");
        fs::create_dir_all(left.join("new/sub")).unwrap();
        fs::create_dir(left.join("old")).unwrap();
        fs::write(left.join("old/precious"), "1").unwrap();
        fs::write(left.join("lock"), MARK).unwrap();
        drop(begin(&parent, "out").unwrap());
        assert_eq!(entries(parent.path()), ["out"]);
        assert_eq!(entries(&parent.path().join("out")), ["precious"]);

        // With an output in place, what waits in `old` was replaced by it.
        fs::create_dir_all(left.join("old/replaced")).unwrap();
        fs::write(left.join("lock"), MARK).unwrap();
        drop(begin(&parent, "out").unwrap());
        assert_eq!(entries(parent.path()), ["out"]);
        assert_eq!(entries(&parent.path().join("out")), ["precious"]);
    }

    #[test]
    fn what_is_no_staging_stays_as_it_is() {
        let parent = TempDir::new().unwrap();
        let path = parent.path().join(".out.partial");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("letter"), "1").unwrap();
        let error = begin(&parent, "out").unwrap_err().to_string();
        assert!(error.ends_with("expected room for a temporary folder, found `letter` in it"), "{error}");
        assert_eq!(entries(&path), ["letter"]);

        fs::remove_dir_all(&path).unwrap();
        let elsewhere = TempDir::new().unwrap();
        fs::create_dir(elsewhere.path().join("new")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &path).unwrap();
        let error = begin(&parent, "out").unwrap_err().to_string();
        assert!(error.ends_with("found no folder in its place"), "{error}");
        assert_eq!(entries(elsewhere.path()), ["new"]);
    }

    #[test]
    fn what_nobody_marked_is_not_removed_and_nothing_waits_for_a_pipe() {
        let parent = TempDir::new().unwrap();
        let path = parent.path().join(".out.partial");
        let pipe = |path: &Path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        };
        type Foreign<'a> = &'a dyn Fn(&Path);
        let cases: [(Foreign<'_>, &str, &[&str]); 6] = [
            (&|path| fs::create_dir(path.join("new")).unwrap(), "found `new` in it and no `lock`", &["new"]),
            (&|path| fs::write(path.join("old"), "1").unwrap(), "found `old` in it and no `lock`", &["old"]),
            (
                &|path| {
                    fs::create_dir(path.join("new")).unwrap();
                    fs::write(path.join("lock"), "").unwrap();
                },
                "found a `lock` in it that is not this program's",
                &["lock", "new"],
            ),
            (
                &|path| fs::write(path.join("lock"), "123\n").unwrap(),
                "found a `lock` in it that is not this program's",
                &["lock"],
            ),
            (&|path| pipe(&path.join("lock")), "found a `lock` in it that is not a file", &["lock"]),
            (&|path| fs::create_dir(path.join("lock")).unwrap(), "Is a directory (os error 21)", &["lock"]),
        ];
        for (foreign, found, left) in cases {
            fs::create_dir(&path).unwrap();
            foreign(&path);
            let error = begin(&parent, "out").unwrap_err().to_string();
            assert!(error.ends_with(found), "{error}");
            assert_eq!(entries(&path), left);
            fs::remove_dir_all(&path).unwrap();
        }
        // One that came no further than its lock, or not even so far.
        for name in [None, Some("lock")] {
            fs::create_dir(&path).unwrap();
            if let Some(name) = name {
                fs::write(path.join(name), "").unwrap();
            }
            drop(begin(&parent, "out").unwrap());
            assert_eq!(entries(parent.path()), Vec::<String>::new());
        }
    }

    #[test]
    fn another_users_folder_is_left_alone() {
        let parent = TempDir::new().unwrap();
        let path = parent.path().join(".out.partial");
        fs::create_dir(&path).unwrap();
        // Only root can give a folder away.
        if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
            let error = begin(&parent, "out").unwrap_err().to_string();
            assert!(error.ends_with("found another user's folder in its place"), "{error}");
            assert!(path.exists());
        }
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let parent = TempDir::new().unwrap();
        let path = parent.path().join(".out.partial");
        fs::create_dir(&path).unwrap();
        std::os::unix::fs::symlink("../target", path.join("lock")).unwrap();
        assert!(matches!(begin(&parent, "out").unwrap_err(), StagingError::Io { action: "lock", .. }));
        assert_eq!(entries(parent.path()), [".out.partial"]);
    }

    #[test]
    fn many_at_once_never_hold_it_together() {
        let parent = TempDir::new().unwrap();
        let held = std::sync::atomic::AtomicUsize::new(0);
        let taken = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    use std::sync::atomic::Ordering::SeqCst;
                    for _ in 0..200 {
                        match begin(&parent, "out") {
                            Ok(staging) => {
                                assert_eq!(held.fetch_add(1, SeqCst), 0);
                                assert_eq!(entries(&staging.dir()), Vec::<String>::new());
                                taken.fetch_add(1, SeqCst);
                                held.fetch_sub(1, SeqCst);
                            }
                            Err(StagingError::Busy { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        });
        assert!(taken.into_inner() > 0);
        assert_eq!(entries(parent.path()), Vec::<String>::new());
    }
}
