//! Files in memory, without the signal that ends a program when one of them becomes shorter.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::Stamp;
use crate::bus::{self, Guard, OnLoss};
use crate::stamp::changed;

/// A regular file, mapped. Where the system has no bytes any more (somebody made the file shorter, or the disk failed), a read
/// through the map gives zeros instead of `SIGBUS`, and [`Map::check`] tells it.
#[derive(Debug)]
pub struct Map {
    path: PathBuf,
    stamp: Stamp,
    // Before the map: nothing may be put in place of addresses that are somebody else's already.
    guard: Guard,
    map: Mmap,
}

impl Map {
    /// Maps the file at `path`. Whoever computes with its bytes asks [`Map::check`] before the result is used.
    ///
    /// # Errors
    /// Those of [`crate::open`], and what the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(&crate::open(path)?, path, OnLoss::Tell)
    }

    /// Maps a file that is open, for bytes that are in use for as long as the program runs: where they are lost, it ends with
    /// a sentence that names `path`, and status 2.
    ///
    /// # Errors
    /// What the system says.
    pub fn or_end(file: &File, path: &Path) -> io::Result<Self> {
        Self::of(file, path, OnLoss::End)
    }

    fn of(file: &File, path: &Path, on_loss: OnLoss) -> io::Result<Self> {
        let stamp = Stamp::of(file)?;
        // SAFETY: the map is only read. Another process may write to the file: then bytes differ from one read to the next,
        // which `check` tells by the file's stamp, as with every program that maps its input; bytes that are gone read as
        // zeros, by the guard.
        let map = unsafe { Mmap::map(file)? };
        let guard = bus::guard(map.as_ptr() as usize, map.len(), path, on_loss)?;
        Ok(Self { path: path.to_path_buf(), stamp, guard, map })
    }

    /// The path, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether all that was read until now was the file's content when it was mapped.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] with a message that says what was found.
    pub fn check(&self) -> io::Result<()> {
        self.stamp.check(&self.path)?;
        if self.guard.is_lost() {
            return Err(changed("that it could not be read"));
        }
        Ok(())
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const BYTES: usize = 1 << 20;

    fn mapped(folder: &Path) -> Map {
        fs::write(folder.join("file"), vec![7; BYTES]).unwrap();
        Map::open(&folder.join("file")).unwrap()
    }

    fn shorten(map: &Map, bytes: u64) {
        File::options().write(true).open(map.path()).unwrap().set_len(bytes).unwrap();
    }

    #[test]
    fn a_file_that_becomes_shorter_is_told_and_kills_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let map = mapped(folder.path());
        map.check().unwrap();
        shorten(&map, 5000);
        // The rest of the page that the file ends in, and every page behind it.
        assert_eq!((map[4999], map[5000], map[BYTES - 1]), (7, 0, 0));
        assert_eq!(map.iter().filter(|&&byte| byte == 7).count(), 5000);
        let error = map.check().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("expected it unchanged while it is read, found 5000 bytes where {BYTES} were")
        );
    }

    #[test]
    fn bytes_that_were_lost_and_came_back_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let map = mapped(folder.path());
        shorten(&map, 0);
        assert_eq!(map[0], 0);
        // As it was, as far as anybody can tell by its size.
        fs::write(map.path(), vec![7; BYTES]).unwrap();
        assert!(map.check().is_err());
        assert!(map.guard.is_lost());
    }

    #[test]
    fn many_threads_lose_many_files_at_once() {
        let folders: Vec<_> = (0..8).map(|_| tempfile::tempdir().unwrap()).collect();
        let maps: Vec<Map> = folders.iter().map(|folder| mapped(folder.path())).collect();
        maps.iter().step_by(2).for_each(|map| shorten(map, 0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (i, map) in maps.iter().enumerate() {
                        let expected = if i % 2 == 0 { 0 } else { 7 * BYTES };
                        assert_eq!(map.iter().map(|&byte| usize::from(byte)).sum::<usize>(), expected);
                    }
                });
            }
        });
        for (i, map) in maps.iter().enumerate() {
            assert_eq!(map.check().is_err(), i % 2 == 0);
        }
    }

    #[test]
    fn an_empty_file_has_no_bytes() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("empty"), b"").unwrap();
        let map = Map::open(&folder.path().join("empty")).unwrap();
        assert_eq!(map.len(), 0);
        map.check().unwrap();
    }
}
