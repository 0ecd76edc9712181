//! Files that one process at a time holds. The system ends a lock with the process, however that ends: what lies beside a lock
//! that nobody holds was left by a dead one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::disk::is_same_file;

/// Locks a file that is open; whether that could be had, or another process holds it.
///
/// # Errors
/// What the system says, as where a file system has no locks.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What came of an attempt to lock a file by its name.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// This process holds it until the file is closed.
    Held(File),
    /// Another process holds it.
    Busy,
    /// The process that held it, or its folder, has just gone.
    Gone,
}

/// Locks the file at `path`, which is made where there is none.
///
/// # Errors
/// What the system says; [`ErrorKind::InvalidInput`] where something else than a file is there.
pub(crate) fn lock_at(path: &Path) -> io::Result<Attempt> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // No link is followed, and no pipe waited for.
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    let lock = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Attempt::Gone),
        opened => opened?,
    };
    let ours = lock.metadata()?;
    if !ours.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "expected a regular file to lock, found none"));
    }
    if !try_lock(&lock)? {
        return Ok(Attempt::Busy);
    }
    // The file may have been removed between the two steps: a lock on a removed file keeps nobody out.
    let is_there = fs::symlink_metadata(path).is_ok_and(|there| is_same_file(&there, &ours));
    Ok(if is_there { Attempt::Held(lock) } else { Attempt::Gone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_keeps_out_who_comes_later_until_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let Attempt::Held(first) = lock_at(&path).unwrap() else { panic!("nobody has it") };
        assert!(matches!(lock_at(&path).unwrap(), Attempt::Busy));
        drop(first);
        assert!(matches!(lock_at(&path).unwrap(), Attempt::Held(_)));
        assert!(matches!(lock_at(&folder.path().join("gone/lock")).unwrap(), Attempt::Gone));
    }

    #[test]
    fn only_a_regular_file_is_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::os::unix::fs::symlink("target", &path).unwrap();
        assert!(lock_at(&path).is_err());
        fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(lock_at(&path).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
