//! Each error, provoked.

use std::fs;
use std::path::Path;

use golden::{Dtype, Dump, DumpWriter, Error, Role};
use safetensors::Dtype as Stored;

use crate::folders::{edit_manifest, head, push_small, small, write_tensors};

/// Spoils a copy of the small dump and returns why it no longer opens.
fn refusal(spoil: impl FnOnce(&Path)) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    small(&target);
    spoil(&target);
    let error = Dump::open(&target).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("expected") && message.contains("found")
            || matches!(error, Error::Read { .. } | Error::Manifest { .. }),
        "{message}"
    );
    assert!(!message.ends_with('.'), "{message}");
    error
}

macro_rules! assert_refusal {
    ($error:expr, $pattern:pat $(if $guard:expr)?) => {
        let error = $error;
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
    };
}

const FLOATS: [u8; 24] = [0; 24];

#[test]
fn a_folder_without_a_manifest() {
    let error = refusal(|dump| fs::remove_file(dump.join("manifest.json")).unwrap());
    assert!(error.hint().unwrap().contains("manifest.json"));
    assert_refusal!(error, Error::Read { path, .. } if path.ends_with("manifest.json"));
}

#[test]
fn a_manifest_with_a_field_of_another_type() {
    let error = refusal(|dump| edit_manifest(dump, |m| m["entries"][1]["shape"] = "3".into()));
    assert!(error.to_string().contains("field `entries[1].shape`: invalid type: string \"3\""), "{error}");
    assert_refusal!(error, Error::Manifest { .. });
}

#[test]
fn a_manifest_that_is_cut_short_or_goes_on() {
    let cut = |edit: fn(&mut String)| {
        refusal(|dump| {
            let path = dump.join("manifest.json");
            let mut text = fs::read_to_string(&path).unwrap();
            edit(&mut text);
            fs::write(path, text).unwrap();
        })
    };
    assert_refusal!(cut(|text| text.truncate(text.len() / 2)), Error::Manifest { .. });
    assert_refusal!(cut(|text| text.push('{')), Error::Manifest { .. });
}

#[test]
fn an_entry_of_unknown_dtype_or_role() {
    for (field, value) in [("dtype", "complex64"), ("role", "weight")] {
        let error = refusal(|dump| edit_manifest(dump, |m| m["entries"][0][field] = value.into()));
        assert!(error.to_string().contains(&format!("entries[0].{field}")), "{error}");
    }
}

#[test]
fn another_format() {
    let error = refusal(|dump| edit_manifest(dump, |m| m["format"] = "call-tree".into()));
    assert_refusal!(error, Error::Format { found, .. } if found == "call-tree");
}

#[test]
fn another_version_whatever_else_it_has() {
    let error = refusal(|dump| {
        fs::write(dump.join("manifest.json"), r#"{"format":"activation-dump","version":3}"#).unwrap()
    });
    assert_refusal!(error, Error::Version { found: 3, .. });
}

#[test]
fn a_name_twice() {
    let error = refusal(|dump| edit_manifest(dump, |m| m["entries"][1]["name"] = "a".into()));
    assert!(error.hint().unwrap().contains("name#1"));
    assert_refusal!(error, Error::DuplicateName { name } if name == "a");
}

#[test]
fn an_order_that_stands_still() {
    let error = refusal(|dump| edit_manifest(dump, |m| m["entries"][1]["order"] = 0.into()));
    assert_refusal!(error, Error::Order { name, previous: 0, found: 0, .. } if name == "b");
}

#[test]
fn a_file_outside_the_dump() {
    for file in ["../tensors.safetensors", "/etc/passwd", "", "..", "a/b"] {
        let error = refusal(|dump| edit_manifest(dump, |m| m["entries"][0]["file"] = file.into()));
        assert_refusal!(error, Error::FileName { found, .. } if found == file);
    }
}

#[test]
fn no_tensors_file() {
    let error = refusal(|dump| fs::remove_file(dump.join("tensors.safetensors")).unwrap());
    assert_refusal!(error, Error::MissingFile { .. });
}

#[test]
fn an_incomplete_set_of_files() {
    let error = refusal(|dump| {
        fs::rename(dump.join("tensors.safetensors"), dump.join("tensors-00002-of-00003.safetensors"))
            .unwrap();
    });
    assert!(error.to_string().contains("`tensors-00001-of-00003.safetensors`"), "{error}");
    assert!(error.to_string().ends_with("found 1 of them"), "{error}");
    assert_refusal!(error, Error::MissingFile { .. });
}

#[test]
fn a_file_that_an_entry_names_and_that_is_not_there() {
    let error = refusal(|dump| edit_manifest(dump, |m| m["entries"][0]["file"] = "other.safetensors".into()));
    assert_refusal!(error, Error::Read { path, .. } if path.ends_with("other.safetensors"));
}

#[test]
fn a_truncated_file() {
    let error = refusal(|dump| {
        let path = dump.join("tensors.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    });
    assert!(error.hint().unwrap().contains("copied incompletely"));
    assert_refusal!(error, Error::Safetensors { .. });
}

#[test]
fn a_file_that_stands_in_the_place_of_another() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4096\n";
    for (file, expected) in
        [("manifest.json", "a manifest in JSON"), ("tensors.safetensors", "a safetensors file")]
    {
        for (content, found, hint) in [
            (pointer, "a Git LFS pointer to a file of 4096 bytes", "`git lfs pull`"),
            ("<html>", "a web page", "fetch it again"),
            ("", "an empty file", "unfinished download"),
        ] {
            let error = refusal(|dump| fs::write(dump.join(file), content).unwrap());
            assert!(
                error.to_string().ends_with(&format!("{file}`: expected {expected}, found {found}")),
                "{error}"
            );
            assert!(error.hint().unwrap().contains(hint), "{error}");
            assert_refusal!(error, Error::Content { path, .. } if path.ends_with(file));
        }
    }
}

#[test]
fn a_manifest_with_a_byte_order_mark() {
    let error = refusal(|dump| {
        let path = dump.join("manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("\u{feff}{text}")).unwrap();
    });
    assert!(
        error.to_string().contains("expected JSON without a byte order mark (BOM), found one"),
        "{error}"
    );
    assert_refusal!(error, Error::Manifest { .. });
}

/// Puts a number of Python's into the small dump's manifest.
fn with_literal(dump: &Path, place: &str, literal: &str) {
    edit_manifest(dump, |manifest| {
        let (parent, name) = place.rsplit_once('/').unwrap();
        manifest.pointer_mut(parent).unwrap()[name] = "@".into();
    });
    let path = dump.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"@\"", literal);
    fs::write(path, text).unwrap();
}

#[test]
fn a_nan_where_a_number_counts_is_named() {
    for (place, field, expected) in [
        ("/entries/1/order", "entries[1].order", "u64"),
        ("/entries/0/name", "entries[0].name", "a string"),
        ("/producer/threads", "producer.threads", "u64"),
        ("/producer/dtype", "producer.dtype", "a string"),
    ] {
        let error = refusal(|dump| with_literal(dump, place, "NaN"));
        let message = error.to_string();
        assert!(message.contains(&format!("field `{field}`: expected {expected}, found `NaN`")), "{message}");
        assert_refusal!(error, Error::Manifest { .. });
    }
}

#[test]
fn a_nan_that_nobody_reads_spoils_nothing() {
    for literal in ["NaN", "Infinity", "-Infinity"] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("dump");
        small(&target);
        for place in ["/loss", "/producer/loss", "/entries/0/loss"] {
            with_literal(&target, place, literal);
            // One literal at a time stays; the next edit reads the file with its own reader.
            let dump = Dump::open(&target).unwrap();
            let manifest = dump.manifest();
            let kept = [&manifest.extra, &manifest.producer.extra, &manifest.entries[0].extra];
            assert!(kept.iter().any(|extra| extra.get("loss") == Some(&literal.into())), "{place}");
            // It is written back as its name, which every reader of JSON takes.
            fs::write(target.join("manifest.json"), manifest.to_json().unwrap()).unwrap();
            Dump::open(&target).unwrap();
        }
    }
}

#[test]
fn a_dtype_that_no_dump_holds() {
    let error = refusal(|dump| {
        write_tensors(
            &dump.join("tensors.safetensors"),
            &[("a", Stored::C64, &[3], &FLOATS), ("b", Stored::U8, &[3], &[0; 3])],
        );
    });
    assert_refusal!(error, Error::UnsupportedDtype { name, .. } if name == "a");
}

#[test]
fn a_tensor_in_two_files() {
    let error = refusal(|dump| {
        write_tensors(&dump.join("more.safetensors"), &[("a", Stored::F32, &[2, 3], &FLOATS)]);
        edit_manifest(dump, |m| m["entries"][0]["file"] = "more.safetensors".into());
    });
    assert_refusal!(error, Error::DuplicateTensor { name, .. } if name == "a");
}

#[test]
fn an_entry_without_its_tensor() {
    let error = refusal(|dump| {
        write_tensors(&dump.join("tensors.safetensors"), &[("a", Stored::F32, &[2, 3], &FLOATS)]);
    });
    assert_refusal!(error, Error::MissingTensor { name, .. } if name == "b");
}

#[test]
fn an_entry_whose_tensor_is_in_another_file_than_it_says() {
    let error = refusal(|dump| {
        write_tensors(&dump.join("more.safetensors"), &[("c", Stored::F32, &[2, 3], &FLOATS)]);
        edit_manifest(dump, |m| m["entries"][0]["file"] = "more.safetensors".into());
    });
    assert_refusal!(error, Error::MissingTensor { name, path } if name == "a" && path.ends_with("more.safetensors"));
}

#[test]
fn a_tensor_without_an_entry() {
    let error = refusal(|dump| edit_manifest(dump, |m| drop(m["entries"].as_array_mut().unwrap().pop())));
    assert_refusal!(error, Error::UnlistedTensor { name, .. } if name == "b");
}

#[test]
fn a_tensor_of_another_dtype_than_its_entry() {
    let error = refusal(|dump| edit_manifest(dump, |m| m["entries"][0]["dtype"] = "int32".into()));
    assert_refusal!(error, Error::DtypeMismatch { expected: Dtype::Int32, found: Dtype::Float32, .. });
}

#[test]
fn a_tensor_of_another_shape_than_its_entry() {
    let error = refusal(|dump| edit_manifest(dump, |m| m["entries"][0]["shape"] = serde_json::json!([3, 2])));
    assert!(
        error.to_string().ends_with("expected shape [3, 2] (from the manifest), found [2, 3]"),
        "{error}"
    );
    assert_refusal!(error, Error::ShapeMismatch { .. });
}

#[test]
fn an_entry_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    small(&folder.path().join("dump"));
    let dump = Dump::open(folder.path().join("dump")).unwrap();
    assert_refusal!(dump.require("pixel_values").unwrap_err(), Error::NoEntry { name, entries: 2, .. } if name == "pixel_values");
    assert_refusal!(dump.verify_entry("c").unwrap_err(), Error::NoEntry { .. });
}

#[test]
fn a_target_that_is_occupied() {
    let folder = tempfile::tempdir().unwrap();
    small(&folder.path().join("dump"));
    fs::write(folder.path().join("file"), "").unwrap();
    for name in ["dump", "file"] {
        let error = DumpWriter::create(folder.path().join(name)).unwrap_err();
        assert!(error.hint().is_some());
        assert_refusal!(error, Error::Exists { .. });
    }
}

#[test]
fn a_target_that_became_occupied_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let mut writer = DumpWriter::create(&target).unwrap();
    push_small(&mut writer);
    small(&target);
    assert_refusal!(writer.finish(head()).unwrap_err(), Error::Exists { .. });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_target_to_replace_that_is_no_dump() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    assert_refusal!(DumpWriter::create_replacing(folder.path()).unwrap_err(), Error::NotADump { .. });
    fs::write(folder.path().join("manifest.json"), r#"{"format":"web-app"}"#).unwrap();
    assert_refusal!(DumpWriter::create_replacing(folder.path()).unwrap_err(), Error::NotADump { .. });
    assert!(folder.path().join("thesis.tex").exists());
}

#[test]
fn a_dump_to_replace_with_something_else_in_its_folder() {
    for (name, make) in [
        ("notes.txt", (|path| fs::write(path, "1").unwrap()) as fn(&Path)),
        (".git", |path| fs::create_dir(path).unwrap()),
        ("tensors-2.safetensors", |path| fs::write(path, "1").unwrap()),
        ("tensors-00001-of-00001.safetensors", |path| std::os::unix::fs::symlink("notes.txt", path).unwrap()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("dump");
        small(&target);
        make(&target.join(name));
        let error = DumpWriter::create_replacing(&target).unwrap_err();
        assert!(error.hint().unwrap().contains("move"));
        assert_refusal!(error, Error::NotOnlyADump { found, .. } if found == name);
        // What comes later is found as well.
        fs::rename(target.join(name), folder.path().join("aside")).unwrap();
        let mut writer = DumpWriter::create_replacing(&target).unwrap();
        push_small(&mut writer);
        fs::rename(folder.path().join("aside"), target.join(name)).unwrap();
        assert_refusal!(writer.finish(head()).unwrap_err(), Error::NotOnlyADump { .. });
        assert!(fs::symlink_metadata(target.join(name)).is_ok() && target.join("manifest.json").exists());
    }
}

#[test]
fn a_target_without_a_name() {
    assert_refusal!(DumpWriter::create("/").unwrap_err(), Error::NoFolderName { .. });
}

#[test]
fn a_target_under_a_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = DumpWriter::create(folder.path().join("file/dump")).unwrap_err();
    assert_refusal!(error, Error::Write { .. } | Error::Read { .. });
}

#[test]
fn tensors_that_a_writer_refuses_leave_it_usable() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let mut writer = DumpWriter::create(&target).unwrap();
    push_small(&mut writer);
    let mut push = |name, shape: &[usize]| {
        writer.push(name, Role::Activation, "", Dtype::Float32, shape, &FLOATS).unwrap_err()
    };
    assert_refusal!(push("a", &[6]), Error::DuplicateName { name } if name == "a");
    assert_refusal!(push("", &[6]), Error::InvalidName { .. });
    assert_refusal!(push("__metadata__", &[6]), Error::InvalidName { .. });
    assert_refusal!(push("c", &[5]), Error::ByteCount { expected: 20, found: 24, .. });
    assert_refusal!(push("c", &[usize::MAX, usize::MAX, usize::MAX]), Error::ByteCount { .. });
    writer.finish(head()).unwrap();
    Dump::open(&target).unwrap().verify().unwrap();
    assert_eq!(Dump::open(&target).unwrap().entries().len(), 2);
}
