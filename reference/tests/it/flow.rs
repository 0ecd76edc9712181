//! What the entries of a dump were computed from.

use std::collections::BTreeMap;

use golden::{Dump, Entry, Flow, Role, RowAlignment};
use measure::model::{Running, named};

use super::bundled::golden;
use super::fixtures;
use super::replay::replay_to;
use super::steps::record;

const LAYER: &str = "language_model.model.layers";

fn flow(dump: &Dump, key: &str) -> Flow {
    dump.flow_of(dump.entry(key).unwrap()).unwrap_or_else(|| panic!("{key}: no flow"))
}

/// The inputs of an entry, by key.
fn inputs(dump: &Dump, key: &str) -> Vec<String> {
    flow(dump, key).inputs
}

fn operations(dump: &Dump, key: &str) -> BTreeMap<String, u64> {
    flow(dump, key).operations.into_iter().collect()
}

fn counted(operations: &[(&str, u64)]) -> BTreeMap<String, u64> {
    operations.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
}

/// The names of one layer's sites.
fn inside(layer: usize, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{LAYER}.{layer}.{name}")).collect()
}

/// The inputs as the family's file has them, for what the dump has: of one that is the same tensor as a later one, that one.
fn by_the_file(entry: &Entry, running: &mut Running<'_>) -> BTreeMap<String, RowAlignment> {
    let same = |name: String| match name.as_str() {
        "language_model.model.norm" => "language_model.model".to_owned(),
        "language_model.lm_head" => "language_model".to_owned(),
        _ => name,
    };
    let sources = running.run(&entry.name).unwrap_or_default();
    // The norm itself is the only input of the model's output, and the head of the whole.
    let is_itself = matches!(entry.name.as_str(), "language_model.model" | "language_model");
    sources.into_iter().map(|(name, rows)| (if is_itself { name } else { same(name) }, rows)).collect()
}

#[test]
fn every_entry_of_the_bundled_goldens_has_the_inputs_that_the_familys_file_says() {
    let dir = tempfile::tempdir().unwrap();
    for name in fixtures::goldens() {
        let (summary, dump, _) = replay_to(&golden(&name), &dir.path().join(&name), &[]);
        assert_eq!(summary["bit_equal"], summary["entries"], "{name}");
        assert_eq!(dump.manifest().version, 2);
        let mut running = Running::new(named("nemotron-vl").unwrap());
        for entry in dump.entries() {
            let expected = by_the_file(entry, &mut running);
            if entry.role == Role::Input {
                assert_eq!(entry.inputs, None, "{}", entry.name);
                continue;
            }
            if entry.name == "step_logits" {
                // The passes behind the prefill stand for what they were computed from: its keys, values and angles.
                let states = dump.entries().iter().map(|entry| entry.name.as_str()).filter(|name| {
                    [".k_proj", ".v_proj", ".rotary_emb.cos", ".rotary_emb.sin"]
                        .iter()
                        .any(|end| name.ends_with(end))
                });
                let mut expected: Vec<&str> = states.chain(["language_model"]).collect();
                expected.reverse();
                assert_eq!(inputs(&dump, "step_logits"), expected, "{name}");
                continue;
            }
            let flow = dump.flow_of(entry).unwrap();
            let rows = flow.input_rows.iter().copied().chain(std::iter::repeat(RowAlignment::Same));
            let mut found: BTreeMap<String, RowAlignment> = flow.inputs.iter().cloned().zip(rows).collect();
            if entry.name == "inputs_embeds" && expected.len() > 1 {
                assert_eq!(found.remove("input_ids"), Some(RowAlignment::Mixed));
            }
            assert_eq!(found, expected, "{name}: {}", entry.name);
            assert!(!flow.operations.is_empty() || expected.len() <= 1, "{name}: {}", entry.name);
        }
    }
}

#[test]
fn operators_are_those_of_the_public_code() {
    let dir = tempfile::tempdir().unwrap();
    let (_, eager, _) = replay_to(&golden("shapes-wide-bfloat16"), &dir.path().join("eager"), &[]);
    let (_, float32, _) =
        replay_to(&golden("shapes-text-float32"), &dir.path().join("sdpa"), &["--attention", "sdpa"]);
    let layer = |name: &str| format!("{LAYER}.1.{name}");
    let block = |name: &str| format!("vision_model.radio_model.model.blocks.1{name}");
    let rms_norm = [("aten.pow", 1), ("aten.mean", 1), ("aten.rsqrt", 1), ("aten.mul", 2)];
    for (dump, key, expected) in [
        (&eager, block(".norm1"), &[("aten.layer_norm", 1)][..]),
        (&eager, block(".norm2"), &[("aten.layer_norm", 1), ("aten.add", 1)]),
        (&eager, block(".attn.proj"), &[("aten.scaled_dot_product_attention", 1), ("aten.linear", 1)]),
        (&eager, block(".attn"), &[]),
        (&eager, block(""), &[("aten.add", 2)]),
        (
            &eager,
            "vision_model.radio_model.input_conditioner".to_owned(),
            &[("aten.sub", 1), ("aten.div", 1), ("aten._to_copy", 1)],
        ),
        (&eager, "vision_model".to_owned(), &[]),
        (&eager, "inputs_embeds".to_owned(), &[("aten.eq", 1), ("aten.index_put", 1)]),
        (
            &eager,
            layer("input_layernorm"),
            &[&rms_norm[..], &[("aten.add", 1), ("aten._to_copy", 2)]].concat(),
        ),
        (
            &eager,
            layer("post_attention_layernorm"),
            &[&rms_norm[..], &[("aten.add", 2), ("aten._to_copy", 2)]].concat(),
        ),
        (&float32, layer("input_layernorm"), &[&rms_norm[..], &[("aten.add", 1)]].concat()),
        (
            &eager,
            layer("self_attn.attn_weights"),
            &[
                ("aten.mul", 5),
                ("aten.neg", 2),
                ("aten.cat", 3),
                ("aten.add", 3),
                ("aten.matmul", 1),
                ("aten.softmax", 1),
                ("aten._to_copy", 2),
            ],
        ),
        (
            &eager,
            layer("self_attn.o_proj"),
            &[
                ("aten.mul", 5),
                ("aten.neg", 2),
                ("aten.cat", 4),
                ("aten.add", 3),
                ("aten.matmul", 2),
                ("aten.softmax", 1),
                ("aten._to_copy", 2),
                ("aten.linear", 1),
            ],
        ),
        (
            &float32,
            layer("self_attn.o_proj"),
            &[
                ("aten.mul", 4),
                ("aten.neg", 2),
                ("aten.cat", 4),
                ("aten.add", 2),
                ("aten.scaled_dot_product_attention", 1),
                ("aten.linear", 1),
            ],
        ),
        (&float32, layer("mlp.down_proj"), &[("aten.mul", 1), ("aten.linear", 1)]),
        (&float32, "inputs_embeds".to_owned(), &[]),
        (&float32, "language_model.model.rotary_emb.cos".to_owned(), &[]),
    ] {
        assert_eq!(operations(dump, &key), counted(expected), "{key}");
    }
}

#[test]
fn an_attention_that_decodes_is_computed_from_the_keys_of_all_steps() {
    let dir = tempfile::tempdir().unwrap();
    let dump = record(&dir.path().join("dump"), &["--steps", "0:3"]);
    let of_step = |step: u64| {
        inside(2, &["self_attn.k_proj", "self_attn.v_proj"])
            .into_iter()
            .chain(["cos", "sin"].map(|name| format!("language_model.model.rotary_emb.{name}")))
            .map(move |name| if step == 0 { name } else { format!("{name}@{step}") })
    };
    let mut expected: Vec<String> = (0..3).flat_map(of_step).collect();
    expected.push(format!("{LAYER}.2.self_attn.q_proj@2"));
    expected.sort_by_key(|key| std::cmp::Reverse(dump.entry(key).unwrap().order));
    assert_eq!(inputs(&dump, &format!("{LAYER}.2.self_attn.o_proj@2")), expected);
    // A token is chosen by the logits before it, unless an earlier one has ended the answer.
    let embed = |step: u64| format!("language_model.model.embed_tokens@{step}");
    assert_eq!(inputs(&dump, &embed(1)), ["language_model"]);
    let cast = [
        ("aten._to_copy", 1),
        ("aten.argmax", 1),
        ("aten.mul", 1),
        ("aten.add", 1),
        ("aten.cat", 1),
        ("aten.embedding", 1),
    ];
    assert_eq!(operations(&dump, &embed(1)), counted(&cast));
    assert_eq!(inputs(&dump, &embed(2)), ["language_model@1", "language_model"]);
    assert_eq!(
        inputs(&dump, &format!("{LAYER}.0.input_layernorm@1")),
        ["language_model.model.embed_tokens@1"]
    );
    let all = record(&dir.path().join("all"), &["--steps", "0:"]);
    assert_eq!(
        inputs(&all, "step_logits"),
        ["language_model@3", "language_model@2", "language_model@1", "language_model"]
    );
}

#[test]
fn with_the_cache_it_is_computed_from_that_of_the_step_before() {
    let dir = tempfile::tempdir().unwrap();
    let dump = record(&dir.path().join("dump"), &["--steps", "0:3", "--kv"]);
    let mut expected = inside(1, &["self_attn.q_proj@2", "self_attn.k_proj@2", "self_attn.v_proj@2"]);
    expected.extend(["cos", "sin"].map(|name| format!("language_model.model.rotary_emb.{name}@2")));
    expected.extend(["keys", "values"].map(|kind| format!("past_key_values.1.{kind}@1")));
    expected.sort_by_key(|key| std::cmp::Reverse(dump.entry(key).unwrap().order));
    assert_eq!(inputs(&dump, &format!("{LAYER}.1.self_attn.o_proj@2")), expected);
    let values = flow(&dump, "past_key_values.1.values@2");
    assert_eq!(
        values.inputs,
        [format!("{LAYER}.1.self_attn.v_proj@2"), "past_key_values.1.values@1".to_owned()]
    );
    assert_eq!(values.input_rows, [RowAlignment::Mixed; 2]);
    assert_eq!(operations(&dump, "past_key_values.1.values@2"), counted(&[("aten.cat", 1)]));
    let keys = [("aten.mul", 2), ("aten.neg", 1), ("aten.add", 1), ("aten.cat", 2)];
    assert_eq!(operations(&dump, "past_key_values.1.keys"), counted(&keys));
}

#[test]
fn the_way_goes_on_through_what_was_not_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let sites = [
        "--sites",
        "inputs_embeds",
        "--sites",
        "*.layers.0.self_attn",
        "--sites",
        "*.layers.0",
        "--dtype",
        "float32",
    ];
    let dump = record(&dir.path().join("dump"), &sites);
    let layer = format!("{LAYER}.0");
    assert_eq!(inputs(&dump, &layer), [format!("{layer}.self_attn"), "inputs_embeds".to_owned()]);
    // The sum behind the attention is on both ways, and counted once.
    let expected = [
        ("aten.add", 3),
        ("aten.pow", 1),
        ("aten.mean", 1),
        ("aten.rsqrt", 1),
        ("aten.mul", 3),
        ("aten.silu", 1),
        ("aten.linear", 3),
    ];
    assert_eq!(operations(&dump, &layer), counted(&expected));
    // Steps that are not recorded are on the way, too.
    let far = record(
        &dir.path().join("far"),
        &[
            "--steps",
            "0,2",
            "--sites",
            "*.layers.0.self_attn.v_proj",
            "--sites",
            "*.layers.0.self_attn.o_proj",
        ],
    );
    let (values, output) = (format!("{layer}.self_attn.v_proj"), format!("{layer}.self_attn.o_proj"));
    assert_eq!(inputs(&far, &format!("{output}@2")), [format!("{values}@2"), output.clone(), values.clone()]);
}

#[test]
fn without_flow_a_dump_has_version_1() {
    let dir = tempfile::tempdir().unwrap();
    let (_, dump, _) = replay_to(&golden("shapes-text-float32"), &dir.path().join("dump"), &["--no-flow"]);
    assert_eq!(dump.manifest().version, 1);
    assert!(dump.entries().iter().all(|entry| entry.inputs.is_none() && entry.operations.is_empty()));
}
