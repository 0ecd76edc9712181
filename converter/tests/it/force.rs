//! What `--force` replaces, and what it never does: somebody's work.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::conversion::shapes;
use crate::hand_made_source::Source;

fn run(arguments: &[&str]) -> Output {
    Command::new(assert_cmd::cargo::cargo_bin("nvl-convert")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Everything below a folder: files by their content, links by where they lead.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            all.insert(format!("{name}/"), Vec::new());
            all.extend(tree(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else if metadata.is_symlink() {
            all.insert(name, fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
        } else if metadata.is_file() {
            all.insert(name, fs::read(&path).unwrap());
        } else {
            all.insert(name, b"special".to_vec());
        }
    }
    all
}

fn pipe(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// A converted checkpoint.
fn converted(out: &Path) {
    assert_eq!(run(&["convert", text(&shapes()), text(out)]).status.code(), Some(0));
}

/// One written back.
fn exported(out: &Path) {
    let parent = TempDir::new().unwrap();
    converted(&parent.path().join("normalized"));
    let output = run(&["export", text(&parent.path().join("normalized")), text(out)]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes what is in the output's place.
type Make = fn(&Path);
/// A kind of folder that is not replaced, and what is said of it.
type Foreign = (&'static str, Make, &'static str);

const FOREIGN: [Foreign; 16] = [
    (
        "somebody's work",
        |out| {
            fs::create_dir_all(out.join(".git/objects")).unwrap();
            fs::write(out.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
            fs::write(out.join("thesis.tex"), "all of it").unwrap();
        },
        "found `.git` in it, which this program did not write",
    ),
    (
        "a folder in it",
        |out| fs::create_dir_all(out.join("empty")).unwrap(),
        "found `empty` in it, which this program did not write",
    ),
    (
        "a downloaded checkpoint",
        |out| {
            fs::create_dir(out).unwrap();
            Source::sound().write_to(out);
        },
        "in it, which this program did not write",
    ),
    (
        "a converted checkpoint with notes",
        |out| {
            converted(out);
            fs::write(out.join("notes.txt"), "1").unwrap();
        },
        "found `notes.txt` in it, which no conversion wrote",
    ),
    (
        "a converted checkpoint that is a repository",
        |out| {
            converted(out);
            fs::create_dir(out.join(".git")).unwrap();
        },
        "found `.git` in it, which no conversion wrote",
    ),
    (
        "a converted checkpoint with a link in place of a file",
        |out| {
            converted(out);
            fs::remove_file(out.join("tokenizer.json")).unwrap();
            symlink("/etc/passwd", out.join("tokenizer.json")).unwrap();
        },
        "found `tokenizer.json` in it, which no conversion wrote",
    ),
    (
        "a converted checkpoint with a fine-tuned one beside it",
        |out| {
            converted(out);
            fs::copy(out.join("model.safetensors"), out.join("adapter.safetensors")).unwrap();
        },
        "found `adapter.safetensors` in it, which no conversion wrote",
    ),
    (
        "another program's `conversion.json`",
        |out| {
            fs::create_dir(out).unwrap();
            fs::write(out.join("conversion.json"), r#"{"format":"units","files":[]}"#).unwrap();
        },
        "found `conversion.json` in it, which this program did not write",
    ),
    (
        "a `conversion.json` that is no JSON",
        |out| {
            fs::create_dir(out).unwrap();
            fs::write(out.join("conversion.json"), "nemotron-vl-conversion").unwrap();
        },
        "found `conversion.json` in it, which this program did not write",
    ),
    (
        "a ledger that is a pipe",
        |out| {
            fs::create_dir(out).unwrap();
            pipe(&out.join("conversion.json"));
        },
        "found `conversion.json` in it, which this program did not write",
    ),
    (
        "a ledger that lists no files",
        |out| {
            fs::create_dir(out).unwrap();
            fs::write(out.join("conversion.json"), r#"{"format":"nemotron-vl-conversion"}"#).unwrap();
        },
        "found `conversion.json` in it, which this program did not write",
    ),
    (
        "an export with notes",
        |out| {
            exported(out);
            fs::write(out.join("notes.txt"), "1").unwrap();
        },
        "found ",
    ),
    (
        "an export with a changed file",
        |out| {
            exported(out);
            fs::write(out.join("config.json"), "{}").unwrap();
        },
        "found ",
    ),
    (
        "an export with other weights",
        |out| {
            exported(out);
            let path = out.join("model-00001-of-00003.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        },
        "found ",
    ),
    ("a file", |out| fs::write(out, "1").unwrap(), "found a file"),
    ("a pipe", pipe, "found a file"),
];

#[test]
fn nothing_of_somebody_elses_is_replaced_even_with_force() {
    let normalized = TempDir::new().unwrap();
    let normalized = normalized.path().join("normalized");
    converted(&normalized);
    for (what, make, found) in FOREIGN {
        for arguments in [["convert", text(&shapes())], ["export", text(&normalized)]] {
            let parent = TempDir::new().unwrap();
            let out = parent.path().join("out");
            make(&out);
            let before = tree(parent.path());
            let output = run(&[arguments[0], arguments[1], text(&out), "--force"]);
            let message = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{what}: {message}");
            assert!(message.contains(found), "{what}: {message}");
            let is_folder = fs::symlink_metadata(&out).unwrap().is_dir();
            assert!(
                message.contains("hint: `--force` does not replace anything else") || !is_folder,
                "{what}: {message}"
            );
            assert_eq!(tree(parent.path()), before, "{what}");
        }
    }
}

/// A kind of folder that is replaced.
type Own = (&'static str, Make);

const OWN: [Own; 6] = [
    ("nothing", |_| {}),
    ("an empty folder", |out| fs::create_dir(out).unwrap()),
    ("a converted checkpoint", converted),
    ("a part of one", |out| {
        let output =
            run(&["convert", text(&shapes()), text(out), "--part", "vision", "--align-corners", "true"]);
        assert_eq!(output.status.code(), Some(0));
    }),
    ("a converted checkpoint that has lost files, of a later version", |out| {
        converted(out);
        fs::remove_file(out.join("model.safetensors")).unwrap();
        let path = out.join("conversion.json");
        let mut ledger: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        ledger["format_version"] = 99.into();
        fs::write(&path, ledger.to_string()).unwrap();
    }),
    ("an export", exported),
];

#[test]
fn what_this_program_wrote_is_replaced_by_force() {
    let parent = TempDir::new().unwrap();
    let normalized = parent.path().join("normalized");
    converted(&normalized);
    let is_marked = {
        // Where a file system keeps no attributes, an export is replaced by the same one only.
        let out = parent.path().join("export");
        exported(&out);
        rustix::fs::getxattr(&out, "user.nvl-convert.exported", &mut [0; 64]).is_ok()
    };
    for (what, make) in OWN {
        for (arguments, expected) in [
            (["convert", text(&shapes())], tree(&normalized)),
            (["export", text(&normalized)], tree(&shapes())),
        ] {
            if what == "an export" && arguments[0] == "convert" && !is_marked {
                continue;
            }
            let parent = TempDir::new().unwrap();
            let out = parent.path().join("out");
            make(&out);
            let output = run(&[arguments[0], arguments[1], text(&out), "--force"]);
            assert_eq!(output.status.code(), Some(0), "{what}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(tree(&out), expected, "{what}");
            assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "{what}");
        }
    }
}

#[test]
fn an_export_that_lost_its_mark_is_replaced_by_itself_alone() {
    let parent = TempDir::new().unwrap();
    let (normalized, out) = (parent.path().join("normalized"), parent.path().join("out"));
    converted(&normalized);
    // As a copy has it, or a file system without attributes.
    fs::create_dir(&out).unwrap();
    for entry in fs::read_dir(shapes()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, out.join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(run(&["export", text(&normalized), text(&out), "--force"]).status.code(), Some(0));
    assert_eq!(tree(&out), tree(&shapes()));
    let other = TempDir::new().unwrap();
    Source::sound().write_to(other.path());
    let before = tree(other.path());
    let output = run(&["export", text(&normalized), text(other.path()), "--force"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(tree(other.path()), before);
}

#[test]
fn a_temporary_folder_that_is_somebody_elses_stays_as_it_is() {
    let cases: [(Make, &str); 5] = [
        (|path| fs::write(path, "1").unwrap(), "found no folder in its place"),
        (|path| fs::create_dir_all(path.join("new/work")).unwrap(), "found `new` in it and no `lock`"),
        (
            |path| {
                fs::create_dir_all(path.join("old/work")).unwrap();
                fs::write(path.join("lock"), "4711").unwrap();
            },
            "found a `lock` in it that is not this program's",
        ),
        (
            |path| {
                fs::create_dir(path).unwrap();
                pipe(&path.join("lock"));
            },
            "found a `lock` in it that is not a file",
        ),
        (
            |path| {
                fs::create_dir(path).unwrap();
                fs::write(path.join("letter"), "1").unwrap();
            },
            "found `letter` in it",
        ),
    ];
    for (make, found) in cases {
        let parent = TempDir::new().unwrap();
        make(&parent.path().join(".out.partial"));
        let before = tree(parent.path());
        let output = run(&["convert", text(&shapes()), text(&parent.path().join("out"))]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(found), "{message}");
        assert_eq!(tree(parent.path()), before);
    }
}

#[test]
fn what_the_system_says_is_said_once() {
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    converted(&out);
    fs::remove_file(out.join("conversion.json")).unwrap();
    pipe(&out.join("conversion.json"));
    let output = run(&["verify", text(&out)]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("found a pipe").count(), 1, "{said}");
}
