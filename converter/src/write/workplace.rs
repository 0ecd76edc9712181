//! The folder beside an output in which one process at a time prepares it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::Error;

const LOCK: &str = "lock";
/// What stands in the lock: a folder without it is somebody else's, and stays as it is.
const MARK: &[u8] = b"nvl-convert\n";
/// The folder that is being written, and after an exchange the one that was replaced.
const NEW: &str = "new";
/// The folder that is being replaced, where two folders can't be exchanged in one step.
const OLD: &str = "old";
/// How often the folder may vanish between two looks before this is no race any more.
const ATTEMPTS: usize = 100;

/// `.NAME.partial` beside the output `NAME`, locked. The lock ends with the process, however it ends: what a killed one left
/// behind is known for dead by its lock, and the next one for the same output removes it.
#[derive(Debug)]
pub(super) struct Workplace {
    path: PathBuf,
    /// Released when it is closed.
    _lock: File,
}

impl Workplace {
    /// Takes the workplace of the output `name` in `parent`, and clears it of what a dead process left.
    ///
    /// # Errors
    /// [`Error::OutputBusy`] where a living process has it; [`Error::OutputPlace`] where something else is in its place.
    pub(super) fn take(parent: &Path, name: &str) -> Result<Self, Error> {
        let path = parent.join(format!(".{name}.partial"));
        let out = parent.join(name);
        for _ in 0..ATTEMPTS {
            // Closed to everybody else: what is in there is not finished.
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Error::io("create a folder in", parent)(error));
                }
                _ => {}
            }
            if !is_workplace(&path)? {
                continue;
            }
            let lock_path = path.join(LOCK);
            let lock = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                // A pipe is opened at once, too, and found out below.
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
                .open(&lock_path);
            let lock = match lock {
                Ok(lock) => lock,
                // The one that had it has just finished.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("open", &lock_path)(error)),
            };
            if !lock.metadata().map_err(Error::io("read", &lock_path))?.is_file() {
                return Err(place(&path, "a `lock` in it that is not a file".into()));
            }
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::OutputBusy { path: out }),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &lock_path)(error)),
            }
            // The file may have been removed between the two steps; a lock on a removed file keeps nobody out.
            let ours = lock.metadata().map_err(Error::io("read", &lock_path))?.ino();
            if fs::metadata(&lock_path).is_ok_and(|there| there.ino() == ours) {
                mark(&path, &lock)?;
                let workplace = Self { path, _lock: lock };
                workplace.recover(&out)?;
                return Ok(workplace);
            }
        }
        Err(Error::OutputBusy { path: out })
    }

    /// Where the new folder is written.
    pub(super) fn new_dir(&self) -> PathBuf {
        self.path.join(NEW)
    }

    /// Where a replaced folder waits for its removal.
    pub(super) fn old_dir(&self) -> PathBuf {
        self.path.join(OLD)
    }

    /// Ends what a dead process began: an output that it had moved away goes back, everything else is removed.
    fn recover(&self, out: &Path) -> Result<(), Error> {
        let old = self.old_dir();
        if fs::symlink_metadata(&old).is_ok() && fs::symlink_metadata(out).is_err() {
            fs::rename(&old, out).map_err(Error::io("move back", out))?;
        }
        self.clear()
    }

    /// Removes everything but the lock.
    pub(super) fn clear(&self) -> Result<(), Error> {
        for dir in [self.new_dir(), self.old_dir()] {
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io("remove", &dir)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // Nothing to tell anybody: what stays behind is removed by the next process. The folder goes last, and only when it
        // is empty, since another process may take it as soon as the lock is gone.
        if self.clear().is_ok() {
            let _ = fs::remove_file(self.path.join(LOCK));
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn place(path: &Path, found: String) -> Error {
    Error::OutputPlace { path: path.to_path_buf(), expected: "whose temporary folder is free", found }
}

/// Whether the folder is there; an error if it is another user's, or holds anything that no workplace has.
fn is_workplace(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_dir() => return Err(place(path, "no folder in its place".into())),
        Ok(metadata) if metadata.uid() != rustix::process::geteuid().as_raw() => {
            return Err(place(path, "another user's folder in its place".into()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("read", path)(error)),
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    for entry in entries.flatten() {
        if ![LOCK, NEW, OLD].iter().any(|&known| entry.file_name() == known) {
            let name = entry.file_name().to_string_lossy().into_owned();
            return Err(place(path, format!("`{}` in it", name.escape_debug())));
        }
    }
    // The lock is made first and goes last: without it nothing of ours can be there.
    if !there(&path.join(LOCK))
        && let Some(name) = [NEW, OLD].iter().find(|name| there(&path.join(name)) && !there(&path.join(LOCK)))
    {
        return Err(place(path, format!("`{name}` in it and no `lock`")));
    }
    Ok(true)
}

fn there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Marks the folder as ours, by its lock, which this process has; an error if it is somebody else's.
fn mark(path: &Path, lock: &File) -> Result<(), Error> {
    let mut found = [0; MARK.len() + 1];
    let bytes = lock.read_at(&mut found, 0).map_err(Error::io("read", path))?;
    match &found[..bytes] {
        MARK => Ok(()),
        // Just made, by this process or by one that came no further.
        [] if !there(&path.join(NEW)) && !there(&path.join(OLD)) => {
            lock.write_all_at(MARK, 0).map_err(Error::io("write", path))
        }
        _ => Err(place(path, "a `lock` in it that is not this program's".into())),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_living_process_keeps_others_out_and_leaves_nothing() {
        let parent = TempDir::new().unwrap();
        let first = Workplace::take(parent.path(), "out").unwrap();
        fs::create_dir(first.new_dir()).unwrap();
        let error = Workplace::take(parent.path(), "out").unwrap_err();
        assert!(matches!(&error, Error::OutputBusy { path } if path.ends_with("out")), "{error}");
        assert!(error.hint().unwrap().contains("wait"), "{error}");
        assert!(first.new_dir().exists());
        let other = Workplace::take(parent.path(), "other").unwrap();
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
        drop(Workplace::take(parent.path(), "out").unwrap());
        assert_eq!(entries(parent.path()), ["out"]);
        assert_eq!(entries(&parent.path().join("out")), ["precious"]);

        // With an output in place, what waits in `old` was replaced by it.
        fs::create_dir_all(left.join("old/replaced")).unwrap();
        fs::write(left.join("lock"), MARK).unwrap();
        drop(Workplace::take(parent.path(), "out").unwrap());
        assert_eq!(entries(parent.path()), ["out"]);
        assert_eq!(entries(&parent.path().join("out")), ["precious"]);
    }

    #[test]
    fn what_is_no_workplace_stays_as_it_is() {
        let parent = TempDir::new().unwrap();
        let path = parent.path().join(".out.partial");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("letter"), "1").unwrap();
        let error = Workplace::take(parent.path(), "out").unwrap_err().to_string();
        assert!(
            error.ends_with("expected an output whose temporary folder is free, found `letter` in it"),
            "{error}"
        );
        assert_eq!(entries(&path), ["letter"]);

        fs::remove_dir_all(&path).unwrap();
        let elsewhere = TempDir::new().unwrap();
        fs::create_dir(elsewhere.path().join("new")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &path).unwrap();
        let error = Workplace::take(parent.path(), "out").unwrap_err().to_string();
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
            let error = Workplace::take(parent.path(), "out").unwrap_err().to_string();
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
            drop(Workplace::take(parent.path(), "out").unwrap());
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
            let error = Workplace::take(parent.path(), "out").unwrap_err().to_string();
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
        assert!(matches!(
            Workplace::take(parent.path(), "out").unwrap_err(),
            Error::Io { action: "open", .. }
        ));
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
                        match Workplace::take(parent.path(), "out") {
                            Ok(workplace) => {
                                assert_eq!(held.fetch_add(1, SeqCst), 0);
                                // Fails where another one made it meanwhile.
                                fs::create_dir(workplace.new_dir()).unwrap();
                                taken.fetch_add(1, SeqCst);
                                held.fetch_sub(1, SeqCst);
                            }
                            Err(Error::OutputBusy { .. }) => {}
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
