//! Files that somebody writes to while they are read: an error in words, no signal, and nothing left behind.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use converter::ledger::{Ledger, WrittenFile};
use converter::normalized::Checkpoint;
use converter::plan::PlanOptions;
use converter::resolve::Settings;
use converter::source::Location;
use converter::write::{Observer, Unwatched};
use converter::{Error, Export, verify, verify_source};
use tempfile::TempDir;

use crate::conversion::{convert, prepare, shapes};

const KEEP: PlanOptions = PlanOptions::KEEP;
const SHARD: &str = "model-00003-of-00003.safetensors";

/// Does something to a folder once so many bytes were read.
struct Meddler<'a> {
    dir: &'a Path,
    after: u64,
    read: AtomicU64,
    meddle: &'a (dyn Fn(&Path) + Sync),
}

impl Observer for Meddler<'_> {
    fn advance(&self, bytes: u64) {
        let before = self.read.fetch_add(bytes, Ordering::SeqCst);
        if (before..before + bytes).contains(&self.after) {
            (self.meddle)(self.dir);
        }
    }
}

fn meddler<'a>(dir: &'a Path, after: u64, meddle: &'a (dyn Fn(&Path) + Sync)) -> Meddler<'a> {
    Meddler { dir, after, read: AtomicU64::new(0), meddle }
}

fn open(path: &Path) -> File {
    // Two changes may be too near for the clock of a file system.
    std::thread::sleep(Duration::from_millis(20));
    File::options().write(true).open(path).unwrap()
}

/// Every way to change a file of a folder, and the end of what is told.
type Change = (&'static str, fn(&Path), &'static str);

const CHANGES: [Change; 8] = [
    ("shortened to nothing", |path| open(path).set_len(0).unwrap(), "found 0 bytes where"),
    ("shortened", |path| open(path).set_len(9_000).unwrap(), "found 9000 bytes where"),
    (
        "made longer",
        |path| File::options().append(true).open(path).unwrap().write_all(b"more").unwrap(),
        "bytes where",
    ),
    ("written to", |path| open(path).write_all(b"\x90").unwrap(), "found that it was written to"),
    (
        "rewritten with other numbers",
        |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes.iter_mut().rev().take(1000).for_each(|byte| *byte ^= 1);
            open(path).write_all(&bytes).unwrap();
        },
        "found that it was written to",
    ),
    (
        "rewritten, and its time set back",
        |path| {
            let before = fs::metadata(path).unwrap().modified().unwrap();
            let mut file = open(path);
            file.write_all(b"\x90").unwrap();
            file.set_modified(before).unwrap();
        },
        "found that it was written to",
    ),
    (
        "replaced",
        |path| {
            fs::copy(path, path.with_extension("new")).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        },
        "found another file in its place",
    ),
    ("removed", |path| fs::remove_file(path).unwrap(), "found it removed"),
];

/// A copy of the bundled checkpoint, or of anything.
fn copy_of(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn is_told(error: &Error, file: &Path, end: &str, what: &str) {
    assert!(matches!(error, Error::Changed { path, .. } if path == file), "{what}: {error}");
    let message = error.to_string();
    assert!(
        message.contains(&format!("`{}`: expected it unchanged while it is read, ", file.display())),
        "{what}: {message}"
    );
    assert!(message.contains(end), "{what}: {message}");
    assert!(error.hint().unwrap().contains("wait"), "{what}");
}

fn total(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    files
        .filter(|file| file.path().extension().is_some_and(|end| end == "safetensors"))
        .map(|file| file.metadata().unwrap().len())
        .sum()
}

#[test]
fn a_source_that_changes_while_it_is_converted_is_refused_and_leaves_nothing() {
    for (what, change, end) in CHANGES {
        for file in [SHARD, "model-00001-of-00003.safetensors", "tokenizer.json"] {
            // At the beginning, in the middle, and when almost everything is written.
            for part in [0, 2, 4] {
                let source = copy_of(&shapes());
                let after = (total(source.path()) * part / 4).saturating_sub(1);
                let conversion = prepare(source.path(), Settings::default(), KEEP);
                let parent = TempDir::new().unwrap();
                let meddle = |dir: &Path| change(&dir.join(file));
                let observer = meddler(source.path(), after, &meddle);
                let error = conversion.write(&parent.path().join("out"), false, &observer).unwrap_err();
                is_told(&error, &source.path().join(file), end, what);
                assert_eq!(
                    fs::read_dir(parent.path()).unwrap().count(),
                    0,
                    "{what}: something was left behind"
                );
            }
        }
    }
}

#[test]
fn a_source_that_changed_before_it_was_converted_is_refused() {
    for (what, change, end) in CHANGES {
        let source = copy_of(&shapes());
        let conversion = prepare(source.path(), Settings::default(), KEEP);
        change(&source.path().join(SHARD));
        let parent = TempDir::new().unwrap();
        let error = conversion.write(&parent.path().join("out"), false, &Unwatched).unwrap_err();
        is_told(&error, &source.path().join(SHARD), end, what);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "{what}");
    }
}

#[test]
fn a_failed_conversion_leaves_what_was_there() {
    let (parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
    let source = copy_of(&shapes());
    let conversion = prepare(source.path(), Settings::default(), KEEP);
    let meddle = |dir: &Path| open(&dir.join(SHARD)).set_len(9_000).unwrap();
    conversion.write(&out, true, &meddler(source.path(), 1_000_000, &meddle)).unwrap_err();
    assert!(verify(&out, &Unwatched).unwrap().1.is_clean());
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn a_checkpoint_that_changes_while_it_is_verified_or_exported_is_refused() {
    const FILE: &str = "model.safetensors";
    for (what, change, end) in CHANGES {
        let meddle = |dir: &Path| change(&dir.join(FILE));
        let (_parent, out, ledger) = convert(&shapes(), Settings::default(), KEEP);
        let error = verify(&out, &meddler(&out, 1_500_000, &meddle)).unwrap_err();
        is_told(&error, &out.join(FILE), end, what);

        let (_parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
        let parent = TempDir::new().unwrap();
        let export = Export::prepare(&out).unwrap();
        let error =
            export.write(&parent.path().join("back"), false, &meddler(&out, 1_500_000, &meddle)).unwrap_err();
        is_told(&error, &out.join(FILE), end, what);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "{what}");

        let source = copy_of(&shapes());
        let location = Location::parse(source.path().to_str().unwrap());
        let meddle = |dir: &Path| change(&dir.join(SHARD));
        let error =
            verify_source(&out, &ledger, location, &meddler(source.path(), 1_500_000, &meddle)).unwrap_err();
        is_told(&error, &source.path().join(SHARD), end, what);
    }
}

/// Gives the ledger of `out` another SHA-256 of a file of the source, and seals it again: as a program did whose source was
/// written to while it was converted.
fn lying(out: &Path, name: &str) -> (Ledger, String, String) {
    let path = out.join("conversion.json");
    let mut ledger: Ledger = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let file = ledger.source.files.iter_mut().find(|file| file.name == name).unwrap();
    let (right, wrong) = (file.sha256.clone(), "0".repeat(64));
    file.sha256.clone_from(&wrong);
    fs::write(path, ledger.seal().unwrap()).unwrap();
    (ledger, right, wrong)
}

#[test]
fn the_hash_of_a_whole_file_of_the_source_is_checked_by_all_three() {
    let (_parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
    let (ledger, right, wrong) = lying(&out, SHARD);
    let expected = format!("source file `{SHARD}`: expected SHA-256 {wrong}, found {right}");

    let told = |differences: &[converter::Difference]| {
        differences.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(&verify(&out, &Unwatched).unwrap().1.differences), [expected.as_str()]);
    let location = Location::parse(shapes().to_str().unwrap());
    assert_eq!(told(&verify_source(&out, &ledger, location, &Unwatched).unwrap().differences), [expected]);
    let parent = TempDir::new().unwrap();
    let error =
        Export::prepare(&out).unwrap().write(&parent.path().join("back"), false, &Unwatched).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(&format!("field `source.files, `{SHARD}``: expected SHA-256 {wrong}, found {right}")),
        "{error}"
    );
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn sizes_of_the_ledger_are_checked() {
    let changes: [fn(&mut WrittenFile); 2] = [|file| file.bytes += 1, |file| file.hashed_bytes -= 1];
    for change in changes {
        let (_parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
        let path = out.join("conversion.json");
        let mut ledger: Ledger = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(ledger.files.iter_mut().find(|file| file.name == "model.safetensors").unwrap());
        fs::write(path, ledger.seal().unwrap()).unwrap();
        let found = verify(&out, &Unwatched).unwrap().1.differences;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].place, "file `model.safetensors`");
    }
}

#[test]
fn a_source_that_lost_a_file_is_told() {
    let source = copy_of(&shapes());
    fs::write(source.path().join("modeling.py"), "x = 1\n").unwrap();
    let (_parent, out, ledger) = convert(source.path(), Settings::default(), KEEP);
    fs::remove_file(source.path().join("modeling.py")).unwrap();
    let location = Location::parse(source.path().to_str().unwrap());
    let found = verify_source(&out, &ledger, location, &Unwatched).unwrap().differences;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].to_string(), "source file `modeling.py`: expected it, found no such file");
}

/// Ends a test's own process in place of a signal: run again with the path of a checkpoint, it computes with its weights.
#[test]
fn weights_that_are_lost_while_they_are_in_use_end_the_program_with_a_sentence() {
    const VARIABLE: &str = "NVL_TEST_LOST_WEIGHTS";
    if let Some(path) = std::env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        let checkpoint = Checkpoint::open(&path).unwrap();
        open(&path.join("model.safetensors")).set_len(9_000).unwrap();
        let sum = |name: &str| {
            checkpoint.tensor(name).unwrap().data.iter().map(|&byte| u64::from(byte)).sum::<u64>()
        };
        println!("{}", checkpoint.names().map(sum).sum::<u64>());
        std::process::exit(0);
    }
    let (_parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
    let name = "changed::weights_that_are_lost_while_they_are_in_use_end_the_program_with_a_sentence";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(VARIABLE, &out)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{:?}: {stderr}", output.status);
    let expected = format!(
        "error: `{}`: expected it unchanged while it is in use, found that it was made shorter or could not be read\n",
        out.join("model.safetensors").display()
    );
    assert!(stderr.ends_with(&expected), "{stderr}");
}
