//! Replays of the bundled goldens, which the public `modeling.py` made.

use std::path::Path;

use golden::Dump;
use serde_json::Value;

use super::bundled::{checkpoint, golden, nvl_reference};

/// Replays a golden to a folder, and gives the summary, the dump and what stderr says.
pub fn replay_to(golden: &Path, record: &Path, more: &[&str]) -> (Value, Dump, String) {
    let assert = nvl_reference()
        .args(["replay", "--json", "--model"])
        .arg(checkpoint())
        .arg(golden)
        .arg("--record")
        .arg(record)
        .args(more)
        .assert()
        .success();
    let output = assert.get_output();
    let summary = serde_json::from_slice(&output.stdout).unwrap();
    let dump = Dump::open(record).unwrap();
    dump.verify().unwrap();
    (summary, dump, String::from_utf8(output.stderr.clone()).unwrap())
}

/// Replays a bundled golden and gives the summary and the dump.
fn replay(name: &str, more: &[&str]) -> (Value, Dump) {
    let out = tempfile::tempdir().unwrap();
    let (summary, dump, _) = replay_to(&golden(name), &out.path().join("replay"), more);
    (summary, dump)
}

/// Every entry under its name, in the same order, equal to the last bit; and what is generated from them.
fn assert_equal_to_the_last_bit(name: &str) {
    let (summary, actual) = replay(name, &[]);
    let expected = Dump::open(golden(name)).unwrap();
    let describe = |dump: &Dump| -> Vec<_> {
        dump.entries()
            .iter()
            .map(|entry| {
                (
                    entry.order,
                    entry.name.clone(),
                    entry.role,
                    entry.module.clone(),
                    entry.dtype,
                    entry.shape.clone(),
                    entry.sha256.clone(),
                )
            })
            .collect()
    };
    for (actual, expected) in describe(&actual).into_iter().zip(describe(&expected)) {
        assert_eq!(actual, expected);
    }
    assert_eq!(actual.entries().len(), expected.entries().len());
    assert_eq!(summary["bit_equal"], expected.entries().len());
    assert_eq!(summary["first_difference"], Value::Null);
    assert_eq!(actual.manifest().generated_ids, expected.manifest().generated_ids);
    assert_eq!(actual.manifest().text, expected.manifest().text);
    assert_eq!(actual.manifest().prompt, expected.manifest().prompt);
    assert_eq!(actual.manifest().request, expected.manifest().request);
}

#[test]
fn one_picture_in_float32() {
    assert_equal_to_the_last_bit("shapes-describe-float32");
}

#[test]
fn one_picture_in_bfloat16() {
    assert_equal_to_the_last_bit("shapes-describe-bfloat16");
}

#[test]
fn text_only_in_float32() {
    assert_equal_to_the_last_bit("shapes-text-float32");
}

#[test]
fn two_pictures_a_system_prompt_and_a_history_in_bfloat16() {
    assert_equal_to_the_last_bit("shapes-history-bfloat16");
}

#[test]
fn three_tiles_in_bfloat16() {
    assert_equal_to_the_last_bit("shapes-wide-bfloat16");
}

#[test]
fn fast_math_gives_the_same_answer_from_other_bits() {
    let (summary, dump) = replay("shapes-wide-bfloat16", &["--math", "fast"]);
    assert_eq!(summary["generated_ids_equal"], true);
    assert_ne!(summary["bit_equal"], summary["entries"]);
    assert_eq!(dump.manifest().producer.attention.as_ref().unwrap().text.as_deref(), Some("sdpa"));
}

#[test]
fn a_target_that_exists_is_replaced_only_when_told_to() {
    let out = tempfile::tempdir().unwrap();
    std::fs::write(out.path().join("precious"), "kept").unwrap();
    let mut command = nvl_reference();
    command.args(["replay", "--model"]).arg(checkpoint()).arg(golden("shapes-text-float32"));
    command.arg("--record").arg(out.path()).assert().code(2);
    assert_eq!(std::fs::read_to_string(out.path().join("precious")).unwrap(), "kept");
}
