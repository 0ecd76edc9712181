//! The passes behind the prefill, and the key-value cache.

use std::collections::BTreeSet;
use std::path::Path;

use golden::{Dump, Entry, Role};
use serde_json::Value;

use super::bundled::{checkpoint, golden, nvl_reference};
use super::replay::replay_to;

const QUESTION: &[&str] = &["--prompt", "Describe this image.", "--threads", "1", "--max-new-tokens", "5"];

/// Records an answer, of four tokens, with more arguments.
pub fn record(out: &Path, more: &[&str]) -> Dump {
    let picture = super::bundled::picture("purple-square.png");
    let mut command = nvl_reference();
    command.args(["generate", "--model"]).arg(checkpoint()).args(QUESTION).arg("--image").arg(picture);
    command.arg("--record").arg(out).args(more).assert().success();
    let dump = Dump::open(out).unwrap();
    dump.verify().unwrap();
    dump
}

/// The names of the entries of a step that are of the language model or the cache.
fn names(dump: &Dump, step: u64) -> BTreeSet<&str> {
    let entries = dump.entries().iter().filter(|entry| entry.step == step && entry.role == Role::Activation);
    let names = entries.map(|entry| entry.name.as_str());
    names.filter(|name| name.starts_with("language_model") || name.starts_with("past_key_values")).collect()
}

fn steps(dump: &Dump) -> Vec<u64> {
    let steps: BTreeSet<u64> = dump.entries().iter().map(|entry| entry.step).collect();
    steps.into_iter().collect()
}

/// The numbers of a float32 tensor.
fn numbers(dump: &Dump, key: &str) -> Vec<f32> {
    let tensor = dump.require(key).unwrap();
    tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

#[test]
fn a_step_has_the_names_of_the_prefill_and_one_row() {
    let dir = tempfile::tempdir().unwrap();
    let dump = record(&dir.path().join("dump"), &["--steps", "0:3", "--dtype", "float32"]);
    assert_eq!(dump.manifest().version, 2);
    assert_eq!(steps(&dump), [0, 1, 2]);
    assert!(names(&dump, 0).len() > 40);
    for step in [1, 2] {
        assert_eq!(names(&dump, step), names(&dump, 0), "{step}");
        let of_step = || dump.entries().iter().filter(|entry| entry.step == step);
        assert_eq!(of_step().count(), names(&dump, step).len(), "no vision and no inputs at {step}");
        assert!(of_step().all(|entry| entry.shape[..2] == [1, 1]), "{step}");
    }
    // The logits of step n choose token n.
    let rows = numbers(&dump, "step_logits");
    let width = rows.len() / dump.manifest().generated_ids.as_ref().unwrap().len();
    for (step, row) in rows.chunks(width).enumerate().take(3) {
        let key = if step == 0 { "language_model".to_owned() } else { format!("language_model@{step}") };
        assert_eq!(numbers(&dump, &key), row, "{key}");
    }
}

#[test]
fn without_steps_it_is_the_prefill_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dump = record(&dir.path().join("dump"), &["--no-flow"]);
    assert_eq!((dump.manifest().version, steps(&dump)), (1, vec![0]));
    assert!(!dump.entries().iter().any(|entry| entry.name.starts_with("past_key_values")));
}

#[test]
fn steps_are_chosen_like_sites() {
    let dir = tempfile::tempdir().unwrap();
    let dump =
        record(&dir.path().join("dump"), &["--steps", "every:2", "--sites", "*.lm_head", "--sites", "mlp1"]);
    let keys: Vec<_> = dump.entries().iter().map(|entry| entry.key().into_owned()).collect();
    assert_eq!(keys, ["mlp1", "language_model.lm_head", "language_model.lm_head@2"]);
    let one = record(&dir.path().join("one"), &["--steps", "1:", "--sites", "*.lm_head@3"]);
    assert_eq!(one.entries()[0].key(), "language_model.lm_head@3");
    assert_eq!(one.entries().len(), 1);
}

#[test]
fn the_cache_grows_by_one_position_a_step() {
    let dir = tempfile::tempdir().unwrap();
    let dump = record(&dir.path().join("dump"), &["--steps", "0:3", "--kv", "--dtype", "float32"]);
    let prompt = dump.entry("input_ids").unwrap().shape[1];
    for layer in 0..4 {
        for kind in ["keys", "values"] {
            let name = format!("past_key_values.{layer}.{kind}");
            let mut before: Vec<Vec<f32>> = Vec::new();
            for step in 0..3 {
                let key = if step == 0 { name.clone() } else { format!("{name}@{step}") };
                let entry = dump.entry(&key).unwrap();
                assert_eq!(entry.shape, [1, 2, prompt + step, 32], "{key}");
                assert_eq!((entry.role, entry.module.as_str()), (Role::Activation, ""));
                let numbers = numbers(&dump, &key);
                let heads: Vec<Vec<f32>> = numbers.chunks(numbers.len() / 2).map(<[f32]>::to_vec).collect();
                for (head, before) in heads.iter().zip(&before) {
                    assert_eq!(head[..before.len()], before[..], "{key}");
                }
                before = heads;
            }
            // Values are cached as they were projected, head after head.
            if kind == "values" {
                let projected =
                    numbers(&dump, &format!("language_model.model.layers.{layer}.self_attn.v_proj@2"));
                let last: Vec<f32> =
                    before.iter().flat_map(|head| head[head.len() - 32..].to_vec()).collect();
                assert_eq!(last, projected, "{layer}");
            }
        }
    }
}

#[test]
fn a_replay_has_the_steps_and_the_cache_of_its_golden() {
    let dir = tempfile::tempdir().unwrap();
    let recorded = dir.path().join("recorded");
    let expected = record(&recorded, &["--steps", "0,2:4", "--kv", "--attention", "sdpa"]);
    assert_eq!(steps(&expected), [0, 2, 3]);
    let (summary, actual, _) = replay_to(&recorded, &dir.path().join("replay"), &[]);
    let summarised = |name: &str| summary[name].as_u64().unwrap() as usize;
    assert_eq!(summarised("bit_equal"), expected.entries().len());
    assert_eq!(summary["first_difference"], Value::Null);
    let described = |dump: &Dump| -> Vec<Entry> { dump.entries().to_vec() };
    assert_eq!(described(&actual), described(&expected));
    // A golden of the prefill alone is replayed with more where the user asks for it.
    let more = ["--steps", ":2", "--kv"];
    let (_, actual, _) = replay_to(&golden("shapes-text-float32"), &dir.path().join("more"), &more);
    assert_eq!(steps(&actual), [0, 1]);
    assert!(actual.entry("past_key_values.3.values@1").is_some());
}

#[test]
fn what_names_no_steps_is_refused() {
    let mut command = nvl_reference();
    command.args(["generate", "--model"]).arg(checkpoint()).args(QUESTION);
    let assert = command.args(["--record", "out", "--steps", "4:2"]).assert().code(2).stdout("");
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    let expected = "steps: expected `START:STOP`, `every:N` or a list of numbers from 0 on, found `4:2`";
    assert!(said.contains(expected), "{said}");
    let mut command = nvl_reference();
    command.args(["generate", "--model"]).arg(checkpoint()).args(QUESTION);
    command.arg("--kv").assert().code(2).stdout("");
}
