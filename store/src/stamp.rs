//! Whether a file is still the one that was opened, with the content that it had.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What changes when a file is written to or replaced: compared before and after it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    bytes: u64,
    /// Seconds and nanoseconds of the last change of the content.
    modified: (i64, i64),
    /// Those of the last change of anything: whoever writes can set the one back, and not this one.
    changed: (i64, i64),
    inode: (u64, u64),
}

impl Stamp {
    /// The stamp of an open file.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from(&file.metadata()?))
    }

    /// The size, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is no longer as it was of the file that `path` named: the words behind `found`.
    fn difference(&self, path: &Path) -> Option<String> {
        let now = match fs::metadata(path) {
            Ok(metadata) => Self::from(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some("it removed".into()),
            Err(error) => return Some(error.to_string()),
        };
        if now.inode != self.inode {
            return Some("another file in its place".into());
        }
        if now.bytes != self.bytes {
            return Some(format!("{} bytes where {} were", now.bytes, self.bytes));
        }
        (now != *self).then(|| "that it was written to".into())
    }

    /// Refuses the file that `path` names if it is no longer as it was.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] with a message that says what was expected and found.
    pub fn check(&self, path: &Path) -> io::Result<()> {
        self.difference(path).map_or(Ok(()), |found| Err(changed(&found)))
    }
}

/// The error of a file that is no longer as it was.
pub(crate) fn changed(found: &str) -> io::Error {
    let message = format!("expected it unchanged while it is read, found {found}");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: (metadata.dev(), metadata.ino()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// What is found after `change` of a file with five bytes.
    fn found(change: impl FnOnce(&Path)) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"12345").unwrap();
        // Long ago: two changes may be too near for the clock of a file system.
        let before = SystemTime::now() - Duration::from_secs(100);
        File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        let file = File::open(&path).unwrap();
        let stamp = Stamp::of(&file).unwrap();
        assert_eq!((stamp.bytes(), stamp.difference(&path)), (5, None));
        change(&path);
        stamp.difference(&path)
    }

    #[test]
    fn every_way_to_change_a_file_is_seen() {
        assert_eq!(found(|path| drop(fs::read(path).unwrap())), None);
        let write = |path: &Path| File::options().write(true).open(path).unwrap();
        assert_eq!(found(|path| write(path).set_len(3).unwrap()).unwrap(), "3 bytes where 5 were");
        let append = |path: &Path| File::options().append(true).open(path).unwrap().write_all(b"6").unwrap();
        assert_eq!(found(append).unwrap(), "6 bytes where 5 were");
        assert_eq!(found(|path| write(path).write_all(b"x").unwrap()).unwrap(), "that it was written to");
        assert_eq!(found(|path| fs::remove_file(path).unwrap()).unwrap(), "it removed");
        let replace = |path: &Path| {
            fs::write(path.with_extension("new"), b"12345").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        };
        assert_eq!(found(replace).unwrap(), "another file in its place");
    }

    #[test]
    fn a_time_that_is_set_back_hides_nothing() {
        let hide = |path: &Path| {
            let before = fs::metadata(path).unwrap().modified().unwrap();
            std::thread::sleep(Duration::from_millis(20));
            let mut file = File::options().write(true).open(path).unwrap();
            file.write_all(b"x").unwrap();
            file.set_modified(before).unwrap();
        };
        assert_eq!(found(hide).unwrap(), "that it was written to");
    }
}
