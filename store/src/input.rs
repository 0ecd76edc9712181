//! Input files.
//!
//! A path that a user or another file names may lead to a pipe, on which opening waits for a writer, or to a device that
//! never ends. Whoever reads a file by name reads it through here.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a regular file for reading; links are followed.
///
/// # Errors
/// What the system says; [`io::ErrorKind::InvalidInput`] for anything but a regular file, with a message that says what it
/// is.
pub fn open(path: &Path) -> io::Result<File> {
    // First by name: opening some devices does something.
    check(&fs::metadata(path)?)?;
    // What the name leads to may change in between; without waiting, a pipe opens at once and is found out.
    let file =
        OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file whole.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::FileTooLarge`] where it has more than `max_bytes`.
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // It may grow while it is read.
    open(path)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let message = format!("expected at most {max_bytes} bytes, found more");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Reads a regular file of UTF-8 text whole.
///
/// # Errors
/// As [`read`]; [`io::ErrorKind::InvalidData`] where it is not UTF-8.
pub fn read_to_string(path: &Path, max_bytes: u64) -> io::Result<String> {
    String::from_utf8(read(path, max_bytes)?).map_err(|error| {
        let found =
            format!("expected UTF-8, found something else at byte {}", error.utf8_error().valid_up_to());
        io::Error::new(io::ErrorKind::InvalidData, found)
    })
}

fn check(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let found = format!("expected a regular file, found {}", kind_of(metadata.file_type()));
    Err(io::Error::new(io::ErrorKind::InvalidInput, found))
}

/// What a file is that is not a regular one, with its article.
fn kind_of(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: io::Result<impl std::fmt::Debug>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_regular_file_is_named_and_nothing_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(message(open(&pipe)), "expected a regular file, found a pipe");
        assert_eq!(message(open(folder.path())), "expected a regular file, found a folder");
        assert_eq!(message(read(Path::new("/dev/zero"), 10)), "expected a regular file, found a device");
        let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert_eq!(message(open(&folder.path().join("socket"))), "expected a regular file, found a socket");
    }

    #[test]
    fn no_more_is_read_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"12345").unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert_eq!(message(read(&file, 4)), "expected at most 4 bytes, found more");
        fs::write(&file, b"ab\xe9").unwrap();
        assert_eq!(message(read_to_string(&file, 10)), "expected UTF-8, found something else at byte 2");
    }
}
