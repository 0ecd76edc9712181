//! The way back: the source's own bytes, or a clear refusal.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use converter::architecture::Part;
use converter::normalized::TorchDtype;
use converter::plan::PlanOptions;
use converter::resolve::Settings;
use converter::write::{Observer, Unwatched};
use converter::{Error, Export};
use proptest::prelude::*;
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::conversion::{convert, shapes};
use crate::hand_made::{Made, raw_file, write_json};
use crate::hand_made_source::{Source, summary_idxs};

const KEEP: PlanOptions = PlanOptions::KEEP;

/// Every file of a folder.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn export(out: &Path) -> Result<BTreeMap<String, Vec<u8>>, Box<Error>> {
    let parent = TempDir::new().unwrap();
    let back = parent.path().join("back");
    let written = Export::prepare(out)
        .map_err(Box::new)
        .and_then(|export| export.write(&back, false, &Unwatched).map_err(Box::new));
    if written.is_err() {
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "something was left behind");
    }
    written.map(|exported| {
        let files = files(&back);
        assert_eq!(exported.files, files.len());
        files
    })
}

fn refusal(out: &Path) -> (String, Option<String>) {
    let error = export(out).expect_err("refused");
    (error.to_string().replace(&out.display().to_string(), "OUT"), error.hint())
}

/// The names of the files that differ.
fn differing(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

#[test]
fn the_bundled_checkpoint_comes_back_file_by_file() {
    let (_parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
    let back = export(&out).unwrap();
    assert_eq!(differing(&files(&shapes()), &back), Vec::<String>::new());
}

#[test]
fn headers_of_any_order_spacing_and_metadata_come_back() {
    let source = Source::sound();
    let dir = source.write();
    // The tensors in reverse order of the data, an entry split over lines, metadata of their own, padding behind.
    let mut data = Vec::new();
    let mut entries = Vec::new();
    for tensor in &source.tensors {
        let (start, end) = (data.len(), data.len() + tensor.data.len());
        data.extend(&tensor.data);
        entries.push(format!(
            "\"{}\" : {{\"shape\":{:?},\n\"data_offsets\":[{start},{end}],\"dtype\":\"BF16\"}}",
            tensor.name, tensor.shape
        ));
    }
    entries.reverse();
    let header = format!("{{{},\"__metadata__\":{{\"z\":\"é\",\"a\":\"\\u0001\"}}}}     ", entries.join(","));
    fs::write(dir.path().join("model.safetensors"), raw_file(&header, &data)).unwrap();
    let before = files(dir.path());
    let (_parent, out, _) = convert(dir.path(), Settings::default(), KEEP);
    assert_eq!(differing(&before, &export(&out).unwrap()), Vec::<String>::new());
}

#[test]
fn python_and_buffers_and_a_tied_head_come_back() {
    let mut source = Source::sound().with("/llm_config/tie_word_embeddings", json!(true));
    let embedding = source.tensor("language_model.model.embed_tokens.weight").data.clone();
    let head =
        source.tensors.iter_mut().find(|tensor| tensor.name == "language_model.lm_head.weight").unwrap();
    head.data = embedding;
    source.tensors.push(summary_idxs(&[0, 1]));
    source.tensors.push(Made::new("language_model.model.rotary_emb.inv_freq", Dtype::F32, &[5]));
    source.files.push(("modeling.py".into(), "# -*- coding: utf-8 -*-\nprint(\"ü\")\r\n".into()));
    source.shards = 3;
    let dir = source.write();
    let (_parent, out, ledger) = convert(dir.path(), Settings::default(), KEEP);
    let row = ledger.tensors.iter().find(|row| row.source == "language_model.lm_head.weight").unwrap();
    assert_eq!(row.same_as.as_deref(), Some("language_model.model.embed_tokens.weight"));
    assert_eq!(differing(&files(dir.path()), &export(&out).unwrap()), Vec::<String>::new());
}

#[test]
fn a_conversion_to_float32_comes_back_and_one_that_rounds_is_refused() {
    let dir = Source::sound().write();
    let to = |dtype| PlanOptions { dtype: Some(dtype), ..KEEP };
    let (_parent, out, _) = convert(dir.path(), Settings::default(), to(TorchDtype::Float32));
    assert_eq!(differing(&files(dir.path()), &export(&out).unwrap()), Vec::<String>::new());
    let (_parent, out, _) = convert(dir.path(), Settings::default(), to(TorchDtype::Float16));
    let (message, hint) = refusal(&out);
    assert_eq!(
        message,
        "`OUT`: expected the numbers of the source, found `language_model.lm_head.weight` \
         rounded from `BF16` to `F16`"
    );
    assert!(hint.unwrap().contains("--dtype keep"));
}

#[test]
fn a_part_is_refused() {
    for part in [Part::Text, Part::Vision] {
        let (_parent, out, _) = convert(&shapes(), Settings::default(), PlanOptions { part, ..KEEP });
        let (message, hint) = refusal(&out);
        assert_eq!(message, "`OUT`: expected the whole model, found a part of it");
        assert_eq!(hint.as_deref(), Some("convert the source with `--part all`"));
    }
}

#[test]
fn a_changed_tensor_is_named_and_nothing_is_left() {
    let (_parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
    let path = out.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let (message, _) = refusal(&out);
    assert!(
        message.starts_with("`OUT`: tensor `language_model.lm_head.weight`: expected bytes of"),
        "{message}"
    );
}

/// What export says of a ledger that was changed by hand.
fn refusal_of_ledger(change: impl FnOnce(&mut Value)) -> String {
    let (_parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
    let path = out.join("conversion.json");
    let mut ledger: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut ledger);
    write_json(&path, &ledger);
    refusal(&out).0
}

/// The place of a file in the ledger's list.
fn listed<'a>(ledger: &'a mut Value, name: &str) -> &'a mut Value {
    let files = ledger["source"]["files"].as_array_mut().unwrap();
    files.iter_mut().find(|file| file["name"] == name).unwrap()
}

fn row<'a>(ledger: &'a mut Value, name: &str) -> &'a mut Value {
    let rows = ledger["tensors"].as_array_mut().unwrap();
    rows.iter_mut().find(|row| row["source"] == name).unwrap()
}

#[test]
fn a_lying_ledger_is_refused_by_name() {
    const NORM: &str = "language_model.model.norm.weight";
    const MEAN: &str = "vision_model.radio_model.input_conditioner.norm_mean";
    const SHARD: &str = "model-00001-of-00003.safetensors";
    type Change = Box<dyn FnOnce(&mut Value)>;
    let cases: Vec<(Change, &str)> = vec![
        (Box::new(|l| listed(l, "config.json")["name"] = json!("../config.json")), "found `../config.json`"),
        (Box::new(|l| listed(l, SHARD)["name"] = json!("/tmp/x")), "found `/tmp/x`"),
        (Box::new(|l| listed(l, "config.json")["text"] = json!("{}")), "source.files, `config.json`"),
        (Box::new(|l| listed(l, "tokenizer.json")["sha256"] = json!("0")), "source.files, `tokenizer.json`"),
        (Box::new(|l| listed(l, SHARD)["bytes"] = json!(9)), "expected a size above the header's"),
        (Box::new(|l| listed(l, SHARD)["bytes"] = json!(1u64 << 40)), "bytes of data, found"),
        (Box::new(|l| listed(l, SHARD)["header"] = json!("{}")), "expected 0 bytes of data"),
        (Box::new(|l| drop(l["tensors"].as_array_mut().unwrap().pop())), "expected a row, found none"),
        (
            Box::new(|l| {
                let twice = l["tensors"][0].clone();
                l["tensors"].as_array_mut().unwrap().push(twice);
            }),
            "found 88 rows",
        ),
        (Box::new(|l| row(l, NORM)["dtype"] = json!("F32")), "as the source's header has it"),
        (Box::new(|l| row(l, NORM)["targets"][0]["name"] = json!("x")), "tensor `x`"),
        (
            Box::new(|l| row(l, NORM)["targets"][0]["name"] = json!("language_model.lm_head.weight")),
            "expected 256 bytes for `language_model.model.norm.weight`",
        ),
        (Box::new(|l| row(l, MEAN)["bytes_hex"] = json!("0g")), "in `bytes_hex`"),
        (Box::new(|l| drop(row(l, MEAN).as_object_mut().unwrap().remove("bytes_hex"))), "which was skipped"),
    ];
    for (change, part) in cases {
        let message = refusal_of_ledger(change);
        assert!(message.contains(part), "expected {part}: {message}");
        assert!(message.contains("expected") && message.contains("found"), "{message}");
    }
}

#[test]
fn an_interrupted_export_leaves_nothing() {
    struct Stopped;
    impl Observer for Stopped {
        fn advance(&self, _: u64) {}
        fn is_stopped(&self) -> bool {
            true
        }
    }
    let (_parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
    let parent = TempDir::new().unwrap();
    let result = Export::prepare(&out).unwrap().write(&parent.path().join("back"), false, &Stopped);
    assert!(matches!(result, Err(Error::Interrupted)));
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn an_existing_folder_is_replaced_only_by_force() {
    let (_parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
    let parent = TempDir::new().unwrap();
    let write =
        |force| Export::prepare(&out).unwrap().write(parent.path(), force, &Unwatched).map_err(Box::new);
    assert!(matches!(*write(false).unwrap_err(), Error::OutputExists { .. }));
    fs::write(parent.path().join("keep"), "x").unwrap();
    assert!(matches!(*write(true).unwrap_err(), Error::OutputForeign { .. }));
    assert_eq!(files(parent.path()).keys().collect::<Vec<_>>(), ["keep"]);
    fs::remove_file(parent.path().join("keep")).unwrap();
    write(true).unwrap();
    assert_eq!(differing(&files(&shapes()), &files(parent.path())), Vec::<String>::new());
}

/// A sound source with a random choice of everything that adds, takes away or moves a tensor.
fn any_source() -> impl Strategy<Value = Source> {
    let flags = prop::collection::vec(any::<bool>(), 9);
    (flags, 1usize..6, any::<u64>()).prop_map(|(flags, shards, seed)| {
        let mut source = Source::sound();
        source.shards = shards;
        let add = |source: &mut Source, name: String, shape: &[usize]| {
            source.tensors.push(Made::new(&name, Dtype::BF16, shape));
        };
        if flags[0] {
            source = source.with("/llm_config/tie_word_embeddings", json!(true));
            source = source.without_tensor("language_model.lm_head.weight");
        }
        if flags[1] {
            source = source.with("/llm_config/attention_bias", json!(true));
            for layer in 0..2 {
                for (name, rows) in [("q", 60), ("k", 20), ("v", 20), ("o", 24)] {
                    let name = format!("language_model.model.layers.{layer}.self_attn.{name}_proj.bias");
                    add(&mut source, name, &[rows]);
                }
            }
        }
        if flags[2] {
            source = source.with("/llm_config/mlp_bias", json!(true));
            for layer in 0..2 {
                for (name, rows) in [("gate", 28), ("up", 28), ("down", 24)] {
                    add(
                        &mut source,
                        format!("language_model.model.layers.{layer}.mlp.{name}_proj.bias"),
                        &[rows],
                    );
                }
            }
        }
        if flags[3] {
            source = source.with("/vision_config/args/model_kwargs/init_values", json!(1e-5));
            let scale = if flags[4] { "gamma" } else { "grandma" };
            for block in 0..3 {
                for place in 1..3 {
                    let name = format!("vision_model.radio_model.model.blocks.{block}.ls{place}.{scale}");
                    add(&mut source, name, &[12]);
                }
            }
        }
        if flags[5] {
            source = source.with("/vision_config/args/model_norm", json!(true));
            for leaf in ["weight", "bias"] {
                add(&mut source, format!("vision_model.radio_model.model.norm.{leaf}"), &[12]);
            }
        }
        if flags[6] {
            source.tensors.push(summary_idxs(&[0, 1]));
        }
        if flags[7] {
            source = source.without_tensor("vision_model.radio_model.input_conditioner.norm_std");
        }
        if flags[8] {
            let name = "language_model.model.layers.1.self_attn.rotary_emb.inv_freq";
            source.tensors.push(Made::new(name, Dtype::F32, &[5]));
        }
        // Bits of every kind, NaN included, and tensors in any order.
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for tensor in source.tensors.iter_mut().filter(|tensor| tensor.name.ends_with("weight")) {
            tensor.data.iter_mut().for_each(|byte| *byte = next() as u8);
        }
        for i in (1..source.tensors.len()).rev() {
            source.tensors.swap(i, next() as usize % (i + 1));
        }
        source
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn converting_and_exporting_restores_every_file(source in any_source(), shard_bytes in 2_000u64..200_000) {
        let dir = source.write();
        let max_shard_size = shard_bytes.to_string().parse().unwrap();
        let options = PlanOptions { max_shard_size, ..PlanOptions::KEEP };
        let (_parent, out, _) = convert(dir.path(), Settings::default(), options);
        prop_assert_eq!(differing(&files(dir.path()), &export(&out).unwrap()), Vec::<String>::new());
        // Of bfloat16 even the NaN come back from float32.
        let options = PlanOptions { dtype: Some(TorchDtype::Float32), max_shard_size, ..PlanOptions::KEEP };
        let (_parent, out, _) = convert(dir.path(), Settings::default(), options);
        prop_assert_eq!(differing(&files(dir.path()), &export(&out).unwrap()), Vec::<String>::new());
    }
}
