//! One file that takes the place of another: at every moment the old content or the new one has the name, whole.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::disk::{is_there, sync_folder};
use crate::lock::{Attempt, lock_at, try_lock};

/// How the name of a file ends that is not complete.
const SUFFIX: &str = ".part";
/// How many letters are in front of that, so that two processes never write the same one.
const LETTERS: usize = 6;
/// How often another process may take a file away as soon as it was made, before this is no race any more.
const ATTEMPTS: usize = 100;

/// Writes `bytes` to `path`, in the place of what is there. If the process is killed, `path` is as it was before, and the next
/// call for the same `path` removes what the killed one left.
///
/// # Errors
/// What the system says; `path` is then as it was.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(ErrorKind::InvalidFilename))?;
    let parent = parent_of(path);
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    remove_dead(parent, &prefix);
    let mut builder = tempfile::Builder::new();
    // As readable as any new file, unlike a temporary one.
    builder.prefix(&prefix).suffix(SUFFIX).rand_bytes(LETTERS).permissions(Permissions::from_mode(0o666));
    for _ in 0..ATTEMPTS {
        let mut file = builder.tempfile_in(parent)?;
        // Where there are no locks, nobody takes it for a dead one's.
        if !try_lock(file.as_file()).unwrap_or(true) || !is_there(file.path()) {
            continue;
        }
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|failed| failed.error)?;
        return sync_folder(parent);
    }
    Err(io::Error::new(ErrorKind::ResourceBusy, "its temporary file is taken away each time"))
}

/// The folder that contains `path`: `.` for a bare name.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Removes the unfinished files of dead processes of this user.
fn remove_dead(parent: &Path, prefix: &OsStr) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let between = name
            .as_bytes()
            .strip_prefix(prefix.as_bytes())
            .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
        if between.is_none_or(|letters| letters.len() != LETTERS) {
            continue;
        }
        let is_ours = entry.metadata().is_ok_and(|found| found.is_file() && found.uid() == user);
        // Whoever writes it holds its lock. What cannot be removed stays.
        if is_ours && let Ok(Attempt::Held(_lock)) = lock_at(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes the new file at `path`, where nothing may be, and waits until the disk has it.
///
/// # Errors
/// What the system says; what was written of it stays.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::disk::names;

    #[test]
    fn a_file_is_replaced_whole_and_as_readable_as_any() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.txt");
        fs::write(folder.path().join("plain"), "").unwrap();
        replace_file(&path, b"first, and longer").unwrap();
        replace_file(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["plain", "report.txt"]);
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().mode();
        assert_eq!(mode("report.txt"), mode("plain"));
        assert!(replace_file(&folder.path().join("none/report.txt"), b"").is_err());
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at(".report.txt.dead00.part"), "half").unwrap();
        // Another file's, one that is no name of ours, a link, and one that is being written.
        fs::write(at(".report.json.dead00.part"), "half").unwrap();
        fs::write(at(".report.txt.mine.part"), "mine").unwrap();
        symlink("mine", at(".report.txt.linked.part")).unwrap();
        let living = File::create(at(".report.txt.living.part")).unwrap();
        assert!(try_lock(&living).unwrap());
        replace_file(&at("report.txt"), b"new").unwrap();
        let expected = [
            ".report.json.dead00.part",
            ".report.txt.linked.part",
            ".report.txt.living.part",
            ".report.txt.mine.part",
            "report.txt",
        ];
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn many_at_once_leave_one_of_their_contents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::thread::scope(|scope| {
            for letter in b'a'..b'i' {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        replace_file(path, &[letter; 1000]).unwrap();
                    }
                });
            }
        });
        let found = fs::read(&path).unwrap();
        assert!(found.len() == 1000 && found.iter().all(|&byte| byte == found[0]));
        assert_eq!(names(folder.path()), ["file"]);
    }
}
