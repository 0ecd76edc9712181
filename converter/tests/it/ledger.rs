//! The ledger of a conversion: every tensor and file of both folders, where they came from, and what was left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use converter::ledger::Ledger;
use converter::plan::Action;
use converter::resolve::Settings;
use store::hash::sha256;
use tempfile::TempDir;

use crate::conversion::{KEEP, convert, entries, prepare, shapes, tensors};
use crate::hand_made_source::Source;

#[test]
fn the_ledger_has_every_source_tensor_once_with_true_hashes() {
    let (_parent, out, ledger) = convert(&shapes(), Settings::default(), KEEP);
    let (before, after) = (tensors(&shapes()), tensors(&out));
    let written: Ledger = serde_json::from_slice(&fs::read(out.join("conversion.json")).unwrap()).unwrap();
    assert_eq!(written, ledger);

    let names: BTreeSet<&str> = ledger.tensors.iter().map(|row| row.source.as_str()).collect();
    assert_eq!(ledger.tensors.len(), names.len());
    assert_eq!(names, before.keys().map(String::as_str).collect());
    let mut targets = BTreeSet::new();
    for row in &ledger.tensors {
        let (dtype, shape, data) = &before[&row.source];
        assert_eq!((&row.dtype, &row.shape, &row.sha256), (&dtype.to_string(), shape, &sha256(data)));
        for target in &row.targets {
            let (dtype, shape, data) = &after[&target.name];
            assert_eq!(
                (&target.dtype, &target.shape, &target.sha256),
                (&dtype.to_string(), shape, &sha256(data))
            );
            assert!(targets.insert(target.name.clone()));
        }
    }
    assert_eq!(targets, after.keys().cloned().collect());

    let row = |name: &str| ledger.tensors.iter().find(|row| row.source == name).unwrap();
    let mean = row("vision_model.radio_model.input_conditioner.norm_mean");
    assert_eq!((mean.action, mean.targets.len()), (Action::Skipped, 0));
    assert!(mean.reason.contains("`vision_config.norm_mean`"));
    let stored = store::hash::hex(&before[&mean.source].2);
    assert_eq!(mean.bytes_hex.as_deref(), Some(stored.as_str()));
    assert_eq!(row("language_model.lm_head.weight").action, Action::Kept);
    assert_eq!(row("mlp1.1.weight").action, Action::Renamed);
    assert_eq!(row("vision_model.radio_model.model.blocks.2.attn.qkv.bias").action, Action::Split);
    assert_eq!(row("mlp1.1.weight").source_file, "model-00003-of-00003.safetensors");
}

#[test]
fn the_ledger_hashes_every_file_of_both_folders() {
    let (_parent, out, ledger) = convert(&shapes(), Settings::default(), KEEP);
    let read: BTreeSet<String> = ledger.source.files.iter().map(|file| file.name.clone()).collect();
    assert_eq!(read, entries(&shapes()).into_iter().collect());
    for file in &ledger.source.files {
        let bytes = fs::read(shapes().join(&file.name)).unwrap();
        assert_eq!((file.bytes, &file.sha256), (bytes.len() as u64, &sha256(&bytes)), "{}", file.name);
    }
    let mut written: Vec<String> = ledger.files.iter().map(|file| file.name.clone()).collect();
    written.push("conversion.json".into());
    written.sort();
    assert_eq!(written, entries(&out));
    for file in &ledger.files {
        let bytes = fs::read(out.join(&file.name)).unwrap();
        assert_eq!(file.bytes, bytes.len() as u64, "{}", file.name);
        assert_eq!(file.sha256, sha256(&bytes[..file.hashed_bytes as usize]), "{}", file.name);
    }
    let config = ledger.source.files.iter().find(|file| file.name == "config.json").unwrap();
    assert_eq!(config.text, Some(fs::read_to_string(shapes().join("config.json")).unwrap()));
    assert_eq!(ledger.source.name, "shapes");
    let text = fs::read_to_string(out.join("conversion.json")).unwrap();
    assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "the ledger names a path of this machine");
}

#[test]
fn a_snapshot_of_the_hubs_cache_tells_its_repository_and_revision() {
    let cache = TempDir::new().unwrap();
    let snapshot = cache.path().join("models--nvidia--Tiny-VL/snapshots/0123456789abcdef");
    fs::create_dir_all(&snapshot).unwrap();
    Source::sound().write_to(&snapshot);
    let (_parent, _, ledger) = convert(&snapshot, Settings::default(), KEEP);
    assert_eq!(ledger.source.name, "Tiny-VL");
    assert_eq!(ledger.source.repository.as_deref(), Some("nvidia/Tiny-VL"));
    assert_eq!(ledger.source.revision.as_deref(), Some("0123456789abcdef"));
}

#[test]
fn weights_beside_the_checkpoint_are_not_read_and_told() {
    let dir = Source::sound().write();
    fs::write(dir.path().join("consolidated.safetensors"), "not even one").unwrap();
    let (_parent, _, ledger) = convert(dir.path(), Settings::default(), KEEP);
    assert_eq!(ledger.warnings, ["not part of the checkpoint, and not read: `consolidated.safetensors`"]);
}

#[test]
fn the_documents_example_is_what_the_bundled_checkpoint_gives() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/normalized-checkpoint.md");
    let document = fs::read_to_string(path).unwrap();
    let mut examples = document.split("```json\n").skip(1).map(|rest| {
        let text = rest.split("```").next().unwrap();
        serde_json::from_str::<serde_json::Value>(text).unwrap()
    });
    let conversion = prepare(&shapes(), Settings::default(), KEEP);
    assert_eq!(examples.next().unwrap(), serde_json::to_value(conversion.config()).unwrap());
    let behaviour = serde_json::to_value(&conversion.findings().behaviours[1]).unwrap();
    assert_eq!(examples.next().unwrap(), behaviour);
    assert_eq!(examples.next(), None);

    // Every field of the configuration and of the ledger is explained.
    let (_parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
    for name in ["config.json", "conversion.json"] {
        let json = serde_json::from_slice(&fs::read(out.join(name)).unwrap()).unwrap();
        let mut fields = BTreeSet::new();
        collect_fields(&json, &mut fields);
        for field in fields {
            assert!(document.contains(&format!("`{field}`")), "`{field}` of {name} is not explained");
        }
    }
}

fn collect_fields(value: &serde_json::Value, fields: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                fields.insert(name.clone());
                collect_fields(value, fields);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_fields(item, fields)),
        _ => {}
    }
}
