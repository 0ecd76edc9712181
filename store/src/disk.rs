//! What a disk is asked: how much room it has, to keep it, and to keep what was written.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// The bytes that are free for this user on the disk of `path`; none where the system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let disk = statvfs(path).ok()?;
    Some(disk.f_bavail * disk.f_frsize)
}

/// Gives a file its size, and the blocks for it: a full disk is told at once, and not after minutes.
///
/// # Errors
/// What the system says.
pub fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // A file system without it.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the disk has a folder's list of names.
///
/// # Errors
/// What the system says.
pub fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether two names lead to one file.
pub fn is_same_file(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Whether something is at `path`, a link to nothing included.
pub(crate) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The names in a folder, sorted.
#[cfg(test)]
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let items = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_under_each_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "1").unwrap();
        fs::write(at("b"), "1").unwrap();
        fs::hard_link(at("a"), at("hard")).unwrap();
        std::os::unix::fs::symlink("a", at("soft")).unwrap();
        let of = |name: &str| fs::metadata(at(name)).unwrap();
        assert!(is_same_file(&of("a"), &of("hard")) && is_same_file(&of("a"), &of("soft")));
        assert!(!is_same_file(&of("a"), &of("b")));
    }

    #[test]
    fn a_disk_has_less_room_than_no_file_needs() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).is_some_and(|bytes| bytes > 0));
        assert_eq!(free_bytes(&folder.path().join("nothing")), None);
        let file = File::create(folder.path().join("file")).unwrap();
        reserve(&file, 5000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5000);
        assert!(reserve(&file, 1 << 62).is_err());
    }
}
