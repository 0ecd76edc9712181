//! Entries of several steps, and what each was computed from.

use std::path::Path;

use golden::{Dtype, Dump, DumpWriter, Error, Flow, NewEntry, Role, RowAlignment};
use serde_json::json;

use crate::folders::{edit_manifest, head, small};

fn entry(name: &str, step: u64, inputs: &[&str]) -> NewEntry {
    let operations = [("aten.linear".to_owned(), 1)].into_iter().collect();
    let inputs: Vec<String> = inputs.iter().map(|&input| input.to_owned()).collect();
    let flow = Flow { input_rows: vec![RowAlignment::Mixed; inputs.len()], inputs, operations };
    NewEntry { step, flow: Some(flow), ..NewEntry::new(name, Role::Activation, "Linear") }
}

fn push(writer: &mut DumpWriter, entry: NewEntry) -> golden::Result<()> {
    let byte = [entry.step as u8];
    writer.push_entry(entry, Dtype::UInt8, &[1], &byte, None)
}

/// A dump of two steps; the second step computes from the first.
fn two_steps(to: &Path) {
    let mut writer = DumpWriter::create(to).unwrap();
    push(&mut writer, entry("keys", 0, &[])).unwrap();
    push(&mut writer, entry("out", 0, &["keys"])).unwrap();
    push(&mut writer, entry("keys", 1, &["out"])).unwrap();
    push(&mut writer, entry("out", 1, &["keys@1", "keys"])).unwrap();
    writer.finish(head()).unwrap();
}

#[test]
fn a_step_and_the_inputs_of_an_entry_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    two_steps(&target);
    let dump = Dump::open(&target).unwrap();
    dump.verify().unwrap();
    assert_eq!(dump.manifest().version, 2);
    let keys: Vec<_> = dump.entries().iter().map(|entry| entry.key().into_owned()).collect();
    assert_eq!(keys, ["keys", "out", "keys@1", "out@1"]);
    let last = dump.entry("out@1").unwrap();
    assert_eq!((last.name.as_str(), last.step, last.order), ("out", 1, 3));
    let inputs: Vec<_> = last.flow().unwrap().collect();
    assert_eq!(inputs, [(2, RowAlignment::Mixed), (0, RowAlignment::Mixed)]);
    assert_eq!(last.operations["aten.linear"], 1);
    assert_eq!(dump.get("out@1").unwrap().data(), [1]);
    assert_eq!(dump.flow_of(last), entry("out", 1, &["keys@1", "keys"]).flow);
    // No input is something else than nobody having recorded any.
    assert_eq!(dump.entry("keys").unwrap().inputs, Some(Vec::new()));
}

#[test]
fn a_copy_has_the_same_steps_and_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
    two_steps(&from);
    let dump = Dump::open(&from).unwrap();
    let mut writer = DumpWriter::create(&to).unwrap();
    for entry in dump.entries() {
        writer.push_of(&dump, &entry.key(), None).unwrap();
    }
    writer.finish(dump.manifest().head()).unwrap();
    assert_eq!(Dump::open(&to).unwrap().manifest(), dump.manifest());
}

#[test]
fn a_dump_without_steps_and_inputs_has_version_1() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    small(&target);
    let manifest = std::fs::read_to_string(target.join("manifest.json")).unwrap();
    assert!(manifest.contains("\"version\": 1"), "{manifest}");
    for field in ["step", "inputs", "input_rows", "operations"] {
        assert!(!manifest.contains(&format!("\"{field}\"")), "{manifest}");
    }
}

#[test]
fn a_name_is_unique_in_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = DumpWriter::create(folder.path().join("dump")).unwrap();
    push(&mut writer, entry("a", 1, &[])).unwrap();
    let error = push(&mut writer, entry("a", 1, &[])).unwrap_err();
    assert!(matches!(&error, Error::DuplicateName { name } if name == "a@1"), "{error}");
    push(&mut writer, entry("a", 2, &[])).unwrap();
}

#[test]
fn an_input_that_is_not_there_is_refused_and_leaves_the_dump_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let mut writer = DumpWriter::create(&target).unwrap();
    push(&mut writer, entry("a", 0, &[])).unwrap();
    let error = push(&mut writer, entry("b", 0, &["a@1"])).unwrap_err();
    assert_eq!(error.to_string(), "entry `b`: expected an earlier entry as an input, found `a@1`");
    writer.finish(head()).unwrap();
    assert_eq!(Dump::open(&target).unwrap().entries().len(), 1);
}

#[test]
fn inputs_that_cannot_be_are_named() {
    let wrong = |field: &str, value: serde_json::Value| {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("dump");
        two_steps(&target);
        edit_manifest(&target, |manifest| manifest["entries"][3][field] = value);
        Dump::open(&target).unwrap_err().to_string()
    };
    for (field, value, expected) in [
        (
            "inputs",
            json!([3, 0]),
            "entry `out@1`: field `inputs`: expected the `order` of an earlier entry, found 3",
        ),
        ("inputs", json!([7, 0]), "field `inputs`: expected the `order` of an earlier entry, found 7"),
        ("inputs", json!([0, 2]), "field `inputs`: expected the nearest first, found 0 before 2"),
        ("inputs", json!([2, 2]), "field `inputs`: expected the nearest first, found 2 before 2"),
        ("inputs", json!(["keys"]), "field `entries[3].inputs[0]`: invalid type: string \"keys\""),
        ("input_rows", json!(["mixed"]), "field `input_rows`: expected one for each of 2 inputs, found 1"),
        ("input_rows", json!(["some", "same"]), "unknown variant `some`"),
        ("operations", json!({"aten.linear": -1}), "field `entries[3].operations.aten.linear`"),
        ("step", json!("1"), "field `entries[3].step`"),
    ] {
        let found = wrong(field, value.clone());
        assert!(found.contains(expected), "{field} {value}: {found}");
    }
}
