//! Dumps that somebody writes to while they are read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use golden::{Dtype, Dump, DumpWriter, Error, Role};
use tempfile::TempDir;

use crate::folders::head;

/// A dump of one tensor of a megabyte.
fn large() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    let mut writer = DumpWriter::create(&path).unwrap();
    writer.push("a", Role::Output, "", Dtype::UInt8, &[1 << 20], &vec![7; 1 << 20]).unwrap();
    writer.finish(head()).unwrap();
    (folder, path)
}

fn tensors(dump: &Path) -> PathBuf {
    dump.join("tensors.safetensors")
}

fn shorten(dump: &Path, bytes: u64) {
    File::options().write(true).open(tensors(dump)).unwrap().set_len(bytes).unwrap();
}

fn message(error: &Error, dump: &Path) -> String {
    assert!(error.hint().unwrap().contains("wait"), "{error}");
    error.to_string().replace(&dump.display().to_string(), "DUMP")
}

#[test]
fn a_file_that_becomes_shorter_is_an_error_and_no_signal() {
    let (_folder, path) = large();
    let dump = Dump::open(&path).unwrap();
    dump.check().unwrap();
    let before = fs::metadata(tensors(&path)).unwrap().len();
    shorten(&path, 4096);
    assert_eq!(dump.get("a").unwrap().data()[(1 << 20) - 1], 0);
    for error in [dump.check().unwrap_err(), dump.verify().unwrap_err()] {
        assert!(matches!(error, Error::Changed { .. }), "{error:?}");
        let expected = format!(
            "`DUMP/tensors.safetensors`: expected it unchanged while it is read, found 4096 bytes where {before} were"
        );
        assert_eq!(message(&error, &path), expected);
    }
}

#[test]
fn a_file_that_becomes_shorter_is_not_sketched() {
    let (folder, path) = large();
    let dump = Dump::open(&path).unwrap();
    shorten(&path, 4096);
    let mut writer = DumpWriter::create(folder.path().join("sketch")).unwrap();
    let error = writer.push_of(&dump, "a", Some(1)).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error:?}");
}

#[test]
fn a_file_that_is_replaced_or_written_to_is_told() {
    let (_folder, path) = large();
    let dump = Dump::open(&path).unwrap();
    let bytes = fs::read(tensors(&path)).unwrap();
    fs::remove_file(tensors(&path)).unwrap();
    assert!(message(&dump.check().unwrap_err(), &path).ends_with("found it removed"));
    fs::write(tensors(&path), &bytes).unwrap();
    assert!(message(&dump.check().unwrap_err(), &path).ends_with("found another file in its place"));
    let dump = Dump::open(&path).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(tensors(&path), &bytes).unwrap();
    assert!(message(&dump.check().unwrap_err(), &path).ends_with("found that it was written to"));
}
