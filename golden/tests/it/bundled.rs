//! The bundled dumps, made by running the public `modeling.py`.

use std::fs;

use golden::{Dtype, Dump, Error, Manifest, Role};

use crate::folders::{BUNDLED, bundled, copy};

#[test]
fn all_open_and_verify() {
    for name in BUNDLED {
        let dump = Dump::open(bundled(name)).unwrap();
        dump.verify().unwrap();
        // `None`: all of them.
        let (entries, tensors) = match name {
            "shapes-text-float32" => (66, None),
            // Recorded without the weights of four layers' attention.
            "shapes-describe-bfloat16" => (105, None),
            // Sketches, but for what the model was given.
            "shapes-history-bfloat16" => (109, Some(2)),
            // Sketches of the language model and inside the tower's MLPs.
            "shapes-wide-bfloat16" => (109, Some(38)),
            _ => (109, None),
        };
        assert_eq!(dump.entries().len(), entries, "{name}");
        assert_eq!(dump.tensors().count(), tensors.unwrap_or(entries), "{name}");
        let sketches = dump.entries().iter().filter(|entry| entry.sketch.is_some()).count();
        assert_eq!(sketches, entries - tensors.unwrap_or(entries), "{name}");
        for input in ["pixel_values", "input_ids"] {
            assert_eq!(dump.get(input).is_some(), dump.entry(input).is_some(), "{name}: {input} is in full");
        }
    }
}

/// Whoever clones the project has them all.
#[test]
fn what_is_bundled_stays_under_20_megabytes() {
    fn size_bytes(folder: &std::path::Path) -> u64 {
        let items = fs::read_dir(folder).unwrap().map(|item| item.unwrap());
        items
            .map(|item| match item.file_type().unwrap().is_dir() {
                true => size_bytes(&item.path()),
                false => item.metadata().unwrap().len(),
            })
            .sum()
    }
    let bytes = size_bytes(&bundled("../"));
    assert!((1..20_000_000).contains(&bytes), "{bytes}");
}

#[test]
fn manifests_are_read_and_written_without_loss() {
    for name in BUNDLED {
        let path = bundled(name).join("manifest.json");
        let before = fs::read_to_string(&path).unwrap();
        let manifest: Manifest = serde_json::from_str(&before).unwrap();
        assert_eq!(String::from_utf8(manifest.to_json().unwrap()).unwrap(), before, "{name}");
        assert!(manifest.extra.is_empty(), "{name}");
        assert!(manifest.producer.extra.keys().all(|key| key == "model"), "{name}");
        let again = manifest.head().with_entries(manifest.entries.clone());
        assert_eq!(again, manifest, "{name}");
    }
}

#[test]
fn the_history_dump_tells_its_request() {
    let dump = Dump::open(bundled("shapes-history-bfloat16")).unwrap();
    let request = dump.manifest().request.as_ref().unwrap();
    assert_eq!(request.system.as_deref(), Some("Answer in one word."));
    assert_eq!(request.turns[0].assistant.as_deref(), Some("a purple square"));
    assert_eq!(request.turns[1].assistant, None);
    assert_eq!(request.images[1].file, "red-circle-above-blue-square.png");
    assert_eq!((request.max_new_tokens, request.do_sample), (Some(12), Some(false)));
    assert_eq!(dump.manifest().generated_ids.as_deref(), Some(&[65, 75, 299, 493][..]));
}

#[test]
fn tensors_are_found_by_name() {
    let dump = Dump::open(bundled("shapes-text-float32")).unwrap();
    let logits = dump.get("step_logits").unwrap();
    assert_eq!((logits.dtype(), logits.shape()), (Dtype::Float32, &[2, 512][..]));
    assert_eq!(dump.entry("step_logits").unwrap().role, Role::Output);
    // The logits that chose each generated token.
    let values = logits.array::<f32>().unwrap();
    let argmax = |row: usize| {
        let row = values.index_axis(ndarray::Axis(0), row);
        (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as i64
    };
    assert_eq!(dump.manifest().generated_ids.as_ref().unwrap(), &[argmax(0), argmax(1)]);
    assert!(dump.get("no such site").is_none());
}

#[test]
fn a_flipped_byte_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let copied = folder.path().join("dump");
    copy("shapes-text-float32", &copied);
    let name = "language_model.model.layers.2.mlp.up_proj";
    let file = copied.join("tensors.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let data = Dump::open(&copied).unwrap().get(name).unwrap().data().to_vec();
    let at = bytes.windows(data.len()).position(|window| window == data).unwrap();
    bytes[at + 4321] ^= 0x10;
    fs::write(&file, bytes).unwrap();

    let dump = Dump::open(&copied).unwrap();
    match dump.verify().unwrap_err() {
        Error::HashMismatch { path, name: found, .. } => assert_eq!((path, found.as_str()), (file, name)),
        other => panic!("{other}"),
    }
    for entry in dump.entries() {
        assert_eq!(dump.verify_entry(&entry.name).is_ok(), entry.name != name, "{}", entry.name);
    }
}
