//! A conversion from end to end: which bytes and files it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use converter::Conversion;
use converter::ledger::Ledger;
use converter::normalized::{Checkpoint, TorchDtype};
use converter::plan::{Action, PlanOptions, ShardSize};
use converter::resolve::Settings;
use converter::source::Location;
use converter::write::Unwatched;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::json;
use tempfile::TempDir;

use crate::hand_made::Made;
use crate::hand_made_source::Source;

pub const KEEP: PlanOptions = PlanOptions::KEEP;

/// The bundled small checkpoint.
pub fn shapes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/fixtures/checkpoints/shapes")
}

pub fn prepare(source: &Path, settings: Settings, options: PlanOptions) -> Conversion {
    Conversion::prepare(Location::parse(source.to_str().unwrap()), settings, options).unwrap()
}

/// Converts into `out` beside nothing else.
pub fn convert(source: &Path, settings: Settings, options: PlanOptions) -> (TempDir, PathBuf, Ledger) {
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    let ledger = prepare(source, settings, options).write(&out, false, &Unwatched).unwrap();
    (parent, out, ledger)
}

/// The names in a folder, sorted.
pub fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every tensor of the safetensors files in a folder, by the safetensors crate's own reader.
pub fn tensors(dir: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for name in entries(dir).iter().filter(|name| name.ends_with(".safetensors")) {
        let bytes = fs::read(dir.join(name)).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            assert!(all.insert(name, tensor).is_none());
        }
    }
    all
}

#[test]
fn the_bundled_checkpoint_becomes_a_normalized_one_byte_by_byte() {
    let (_parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
    let (before, after) = (tensors(&shapes()), tensors(&out));
    assert_eq!((before.len(), after.len()), (87, 96));
    let same = |source: &str, target: &str| assert_eq!(before[source], after[target], "{source}");
    for name in before.keys().filter(|name| name.starts_with("language_model.")) {
        same(name, name);
    }
    let tower = "vision_model.radio_model.model";
    same(
        &format!("{tower}.patch_generator.embedder.weight"),
        "vision_model.embeddings.patch_projection.weight",
    );
    same(&format!("{tower}.patch_generator.pos_embed"), "vision_model.embeddings.position_embedding");
    same(&format!("{tower}.patch_generator.cls_token.token"), "vision_model.embeddings.cls_register_token");
    for i in 0..3 {
        let (block, layer) = (format!("{tower}.blocks.{i}"), format!("vision_model.encoder.layer.{i}"));
        for (source, target) in [
            ("norm1", "norm1"),
            ("norm2", "norm2"),
            ("attn.proj", "attention.o_proj"),
            ("mlp.fc1", "mlp.fc1"),
            ("mlp.fc2", "mlp.fc2"),
        ] {
            for leaf in ["weight", "bias"] {
                same(&format!("{block}.{source}.{leaf}"), &format!("{layer}.{target}.{leaf}"));
            }
        }
        for leaf in ["weight", "bias"] {
            let (_, shape, whole) = &before[&format!("{block}.attn.qkv.{leaf}")];
            for (place, projection) in ["q_proj", "k_proj", "v_proj"].iter().enumerate() {
                let (_, third, data) = &after[&format!("{layer}.attention.{projection}.{leaf}")];
                assert_eq!((third[0] * 3, &third[1..]), (shape[0], &shape[1..]));
                let bytes = whole.len() / 3;
                assert_eq!(data, &whole[place * bytes..(place + 1) * bytes]);
            }
        }
    }
    for (source, target) in [("0", "layer_norm"), ("1", "linear_1"), ("3", "linear_2")] {
        for leaf in ["weight", "bias"] {
            same(&format!("mlp1.{source}.{leaf}"), &format!("multi_modal_projector.{target}.{leaf}"));
        }
    }
}

#[test]
fn the_folder_is_complete_and_the_reader_takes_it() {
    let (parent, out, _) = convert(&shapes(), Settings::default(), KEEP);
    assert_eq!(entries(parent.path()), ["out"]);
    assert_eq!(
        entries(&out),
        [
            "chat_template.jinja",
            "config.json",
            "conversion.json",
            "generation_config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    for name in ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(shapes().join(name)).unwrap(), "{name}");
    }
    let checkpoint = Checkpoint::open(&out).unwrap();
    assert_eq!(checkpoint.config().vision_config.num_registers, 4);
    assert_eq!(checkpoint.config().vision_config.norm_mean, [0.482421875, 0.45703125, 0.408203125]);
    assert_eq!(checkpoint.config().image_token_id, 494);
}

#[test]
fn a_template_inside_the_tokenizers_configuration_gets_its_own_file() {
    let source = Source::sound().write();
    let (_parent, out, ledger) = convert(source.path(), Settings::default(), KEEP);
    assert_eq!(fs::read_to_string(out.join("chat_template.jinja")).unwrap(), "{{ messages }}");
    assert_eq!(ledger.warnings, Vec::<String>::new());

    let mut named = Source::sound();
    named.tokenizer_config["chat_template"] = json!([
        { "name": "tool_use", "template": "t" }, { "name": "default", "template": "d" }
    ]);
    let (_parent, out, ledger) = convert(named.write().path(), Settings::default(), KEEP);
    assert_eq!(fs::read_to_string(out.join("chat_template.jinja")).unwrap(), "d");
    assert!(ledger.warnings[0].contains("2 chat templates (tool_use, default); `default` is used"));

    let mut both = Source::sound();
    both.files.push(("chat_template.jinja".into(), "f".into()));
    let (_parent, out, ledger) = convert(both.write().path(), Settings::default(), KEEP);
    assert_eq!(fs::read_to_string(out.join("chat_template.jinja")).unwrap(), "f");
    assert!(ledger.warnings[0].contains("differ; the file is used"), "{:?}", ledger.warnings);
}

#[test]
fn two_conversions_of_one_source_are_equal() {
    let (_first_parent, first, _) = convert(&shapes(), Settings::default(), KEEP);
    let (_second_parent, second, _) = convert(&shapes(), Settings::default(), KEEP);
    for name in entries(&first) {
        assert_eq!(fs::read(first.join(&name)).unwrap(), fs::read(second.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn shards_stay_below_the_size_and_the_index_finds_every_tensor() {
    let max_shard_size: ShardSize = "300KB".parse().unwrap();
    let options = PlanOptions { max_shard_size, ..PlanOptions::KEEP };
    let (_parent, out, ledger) = convert(&shapes(), Settings::default(), options);
    let shards: Vec<String> =
        entries(&out).into_iter().filter(|name| name.ends_with(".safetensors")).collect();
    assert!(shards.len() > 5, "{shards:?}");
    for name in &shards {
        assert!(fs::metadata(out.join(name)).unwrap().len() <= 300_000, "{name}");
    }
    let (_whole_parent, whole, _) = convert(&shapes(), Settings::default(), KEEP);
    assert_eq!(tensors(&out), tensors(&whole));
    let checkpoint = Checkpoint::open(&out).unwrap();
    assert_eq!(checkpoint.weights().files().len(), shards.len());
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], 2_954_432);
    assert_eq!(index["weight_map"].as_object().unwrap().len(), 96);
    assert_eq!(ledger.options.max_shard_bytes, 300_000);
}

#[test]
fn sources_in_one_file_and_in_shards_give_the_same() {
    let mut source = Source::sound();
    let (_one_parent, one, _) = convert(source.write().path(), Settings::default(), KEEP);
    source.shards = 5;
    let (_five_parent, five, ledger) = convert(source.write().path(), Settings::default(), KEEP);
    assert_eq!(tensors(&one), tensors(&five));
    let files: BTreeSet<&str> = ledger.tensors.iter().map(|row| row.source_file.as_str()).collect();
    assert_eq!(files.len(), 5);
}

#[test]
fn inverse_frequencies_and_an_equal_tied_head_are_skipped() {
    let mut source = Source::sound()
        .with("/llm_config/tie_word_embeddings", json!(true))
        .with_tensor("language_model.model.layers.1.self_attn.rotary_emb.inv_freq", Dtype::F32, &[5])
        .with_tensor("language_model.model.rotary_emb.inv_freq", Dtype::F32, &[5]);
    let embedding = source.tensor("language_model.model.embed_tokens.weight").data.clone();
    let head = source.tensors.iter_mut().find(|t| t.name == "language_model.lm_head.weight").unwrap();
    head.data = embedding;
    let (_parent, out, ledger) = convert(source.write().path(), Settings::default(), KEEP);
    let skipped: Vec<&str> = ledger
        .tensors
        .iter()
        .filter(|row| row.action == Action::Skipped)
        .map(|row| row.source.as_str())
        .collect();
    assert_eq!(skipped.len(), 5, "{skipped:?}");
    assert!(skipped.contains(&"language_model.lm_head.weight"));
    assert!(Checkpoint::open(&out).unwrap().tensor("language_model.lm_head.weight").is_err());

    // Without the head the same model.
    let (_parent, again, _) = convert(
        source.without_tensor("language_model.lm_head.weight").write().path(),
        Settings::default(),
        KEEP,
    );
    assert_eq!(tensors(&out), tensors(&again));
}

#[test]
fn a_tied_head_of_other_bytes_is_refused() {
    let dir = Source::sound().with("/llm_config/tie_word_embeddings", json!(true)).write();
    let location = Location::parse(dir.path().to_str().unwrap());
    let error = Conversion::prepare(location, Settings::default(), KEEP).unwrap_err();
    assert!(
        error.to_string().contains(
            "tensor `language_model.lm_head.weight`: expected the bytes of `language_model.model.embed_tokens.weight`, found others"
        ),
        "{error}"
    );
}

fn with_values(name: &str, shape: &[usize], values: &[f32]) -> Source {
    let mut source = Source::sound().without_tensor(name);
    let count = shape.iter().product::<usize>();
    let data = values.iter().copied().cycle().take(count).flat_map(f32::to_le_bytes).collect();
    source.tensors.push(Made { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), data });
    source
}

#[test]
fn dtypes_are_converted_and_what_overflows_is_told() {
    let values = [1.0, -2.5, 1e5, 3e38, 1.0 + 1.0 / 256.0, 6e-8];
    let source = with_values("mlp1.3.bias", &[24], &values).write();
    let convert_to = |dtype| {
        let options = PlanOptions { dtype: Some(dtype), ..KEEP };
        convert(source.path(), Settings::default(), options)
    };
    let name = "multi_modal_projector.linear_2.bias";

    let (_parent, out, ledger) = convert_to(TorchDtype::Float16);
    let (dtype, _, data) = tensors(&out).remove(name).unwrap();
    assert_eq!(dtype, Dtype::F16);
    let expected: Vec<u8> =
        values.iter().cycle().take(24).flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
    assert_eq!(data, expected);
    assert_eq!(
        ledger.warnings,
        ["tensor `multi_modal_projector.linear_2.bias`: 8 finite elements became infinite in float16"]
    );
    let row = ledger.tensors.iter().find(|row| row.source == "mlp1.3.bias").unwrap();
    assert_eq!((row.action, row.targets[0].overflows), (Action::Converted, 8));
    assert_eq!((row.dtype.as_str(), row.targets[0].dtype.as_str()), ("F32", "F16"));

    let (_parent, out, ledger) = convert_to(TorchDtype::Bfloat16);
    let (_, _, data) = tensors(&out).remove(name).unwrap();
    let expected: Vec<u8> =
        values.iter().cycle().take(24).flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect();
    assert_eq!(data, expected);
    assert_eq!(ledger.warnings, Vec::<String>::new());
    let kept = ledger.tensors.iter().find(|row| row.source == "mlp1.0.bias").unwrap();
    assert_eq!(kept.action, Action::Renamed);

    let (_parent, out, ledger) = convert_to(TorchDtype::Float32);
    assert!(tensors(&out).values().all(|(dtype, ..)| *dtype == Dtype::F32));
    let row = ledger.tensors.iter().find(|row| row.source.ends_with("blocks.0.attn.qkv.weight")).unwrap();
    assert_eq!((row.action, row.targets.len()), (Action::Converted, 3));
    let whole = Source::sound().tensor(&row.source).data.clone();
    let (_, _, queries) = tensors(&out).remove(&row.targets[0].name).unwrap();
    let expected: Vec<u8> = whole[..whole.len() / 3]
        .chunks_exact(2)
        .flat_map(|elem| bf16::from_le_bytes([elem[0], elem[1]]).to_f32().to_le_bytes())
        .collect();
    assert_eq!(queries, expected);
}
