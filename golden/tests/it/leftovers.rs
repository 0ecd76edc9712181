//! What a process that was killed has left beside a dump, and what only looks like it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use golden::{Dump, DumpWriter, Error};

use crate::folders::{head, push_small, small};

/// What is in a folder, at any depth: paths, and the contents of files.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        found.push((path.clone(), if kind.is_file() { fs::read(&path).unwrap() } else { Vec::new() }));
        if kind.is_dir() {
            found.extend(tree(&path));
        }
    }
    found.sort();
    found
}

/// A workplace as a killed process leaves it.
fn dead(parent: &Path, name: &str) -> PathBuf {
    let path = parent.join(format!(".{name}.abc123.dump-part"));
    fs::create_dir_all(path.join("new")).unwrap();
    fs::write(path.join("lock"), "").unwrap();
    fs::write(path.join("new/0.part"), [7; 1000]).unwrap();
    path
}

fn write(target: &Path) {
    let mut writer = DumpWriter::create_replacing(target).unwrap();
    push_small(&mut writer);
    writer.finish(head()).unwrap();
}

#[test]
fn what_a_dead_process_has_left_is_cleared_by_the_next_dump_of_whatever_name() {
    let parent = tempfile::tempdir().unwrap();
    dead(parent.path(), "dump");
    dead(parent.path(), "another");
    // Killed as soon as it was made, and while it was being removed.
    fs::create_dir(parent.path().join(".dump.made00.dump-part")).unwrap();
    fs::create_dir_all(parent.path().join(".dump.gone00.dump-part/new")).unwrap();
    write(&parent.path().join("third"));
    let left: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left, ["third"]);
}

#[test]
fn what_is_being_written_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let mut living = DumpWriter::create(parent.path().join("dump")).unwrap();
    push_small(&mut living);
    for _ in 0..3 {
        // Even one of the same name.
        write(&parent.path().join("another"));
        drop(DumpWriter::create(parent.path().join("dump")).unwrap());
    }
    living.finish(head()).unwrap();
    Dump::open(parent.path().join("dump")).unwrap().verify().unwrap();
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
}

#[test]
fn what_is_somebody_elses_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    // Folders of other names, and the ones of earlier releases, which have no lock.
    fs::create_dir_all(at(".dump.abc123.part/new")).unwrap();
    fs::create_dir_all(at("dump.abc123.dump-part/new")).unwrap();
    // What holds anything that no workplace has: a repository, a file in a folder's place, a folder in a file's.
    fs::create_dir_all(at(".a.abc123.dump-part/.git")).unwrap();
    fs::create_dir(dead(parent.path(), "b").join("work")).unwrap();
    fs::write(dead(parent.path(), "c").join("notes.txt"), "mine").unwrap();
    fs::create_dir_all(at(".d.abc123.dump-part/lock")).unwrap();
    fs::create_dir(at(".e.abc123.dump-part")).unwrap();
    fs::write(at(".e.abc123.dump-part/new"), "mine").unwrap();
    // What is no folder, and what leads to one; a lock that leads elsewhere, and one on which opening waits.
    fs::write(at(".f.abc123.dump-part"), "mine").unwrap();
    fs::create_dir(at("elsewhere")).unwrap();
    fs::write(at("elsewhere/lock"), "mine").unwrap();
    symlink(at("elsewhere"), at(".g.abc123.dump-part")).unwrap();
    let linked = dead(parent.path(), "h");
    fs::remove_file(linked.join("lock")).unwrap();
    symlink(at("elsewhere/lock"), linked.join("lock")).unwrap();
    let piped = dead(parent.path(), "i");
    fs::remove_file(piped.join("lock")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        piped.join("lock"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let before = tree(parent.path());
    small(&at("dump"));
    fs::remove_dir_all(at("dump")).unwrap();
    assert_eq!(tree(parent.path()), before);
}

#[test]
fn a_dump_that_was_moved_aside_is_there_again_before_another_takes_its_name() {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("dump");
    small(&target);
    let workplace = dead(parent.path(), "dump");
    fs::write(workplace.join("name"), "dump").unwrap();
    fs::rename(&target, workplace.join("old")).unwrap();
    let error = DumpWriter::create(&target).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    Dump::open(&target).unwrap().verify().unwrap();
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn names_of_any_bytes_and_of_any_length_can_be_written_and_replaced() {
    let parent = tempfile::tempdir().unwrap();
    for name in
        [OsStr::from_bytes(b"\xff\xfe.dump"), OsStr::new(&"é".repeat(127)), OsStr::new(&"x".repeat(255))]
    {
        let target = parent.path().join(name);
        write(&target);
        write(&target);
        Dump::open(&target).unwrap().verify().unwrap();
    }
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 3);
}
