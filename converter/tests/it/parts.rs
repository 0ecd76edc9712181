//! Parts: what transformers' own classes find in the folders. `scripts/tests/with_transformers/test_parts.py`
//! loads them there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use converter::architecture::Part;
use converter::ledger::Ledger;
use converter::normalized::{Checkpoint, TorchDtype};
use converter::plan::PlanOptions;
use converter::resolve::Settings;
use converter::source::Location;
use converter::write::Unwatched;
use converter::{Conversion, verify, verify_source};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::conversion::{convert, shapes};
use crate::hand_made_source::Source;

const KEEP: PlanOptions = PlanOptions::KEEP;

fn keep(part: Part) -> PlanOptions {
    PlanOptions { part, ..PlanOptions::KEEP }
}

fn part_of(source: &Source, part: Part, options: PlanOptions) -> (TempDir, PathBuf, Ledger) {
    convert(source.write().path(), Settings::default(), PlanOptions { part, ..options })
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let all = file.tensors().into_iter();
    all.map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn the_text_part_is_a_llama_of_transformers() {
    let source = Source::sound();
    let (_parent, out, ledger) = part_of(&source, Part::Text, KEEP);
    let files = [
        "chat_template.jinja",
        "config.json",
        "conversion.json",
        "model.safetensors",
        "nemotron_vl_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&out), files);
    let written = tensors(&out.join("model.safetensors"));
    assert_eq!(written.len(), 3 + 2 * 9);
    for (name, (dtype, shape, data)) in &written {
        let tensor = source.tensor(&format!("language_model.{name}"));
        assert_eq!((dtype, shape, data), (&tensor.dtype, &tensor.shape, &tensor.data), "{name}");
    }
    let config = json_of(&out.join("config.json"));
    assert_eq!(config["architectures"], json!(["LlamaForCausalLM"]));
    assert_eq!(config["model_type"], "llama");
    assert_eq!(config["head_dim"], 10);
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert_eq!(json_of(&out.join("nemotron_vl_config.json"))["part"], "text");
    assert_eq!(ledger.tensors.len(), source.tensors.len());
    assert_eq!(ledger.buffers, []);
}

#[test]
fn the_vision_part_is_a_radio_of_transformers_with_the_projector_beside() {
    let source = Source::sound();
    let (_parent, out, ledger) = part_of(&source, Part::Vision, KEEP);
    let files = [
        "config.json",
        "conversion.json",
        "model.safetensors",
        "multi_modal_projector.safetensors",
        "nemotron_vl_config.json",
    ];
    assert_eq!(names(&out), files);
    let tower = tensors(&out.join("model.safetensors"));
    assert_eq!(tower.len(), 3 + 3 * 12 + 3);
    let same = |written: &str, name: &str| {
        let tensor = source.tensor(name);
        let expected = (tensor.dtype, tensor.shape.clone(), tensor.data.clone());
        assert_eq!(tower[written], expected, "{written}");
    };
    let radio = "vision_model.radio_model.model";
    same("embeddings.patch_projection.weight", &format!("{radio}.patch_generator.embedder.weight"));
    same("embeddings.position_embedding", &format!("{radio}.patch_generator.pos_embed"));
    same("embeddings.cls_register_token", &format!("{radio}.patch_generator.cls_token.token"));
    for block in 0..3 {
        for name in ["attn.qkv", "attn.proj", "norm1", "norm2", "mlp.fc1", "mlp.fc2"] {
            for leaf in ["weight", "bias"] {
                let source = format!("{radio}.blocks.{block}.{name}.{leaf}");
                same(&format!("encoder.layer.{block}.{name}.{leaf}"), &source);
            }
        }
    }
    let floats = |values: [f32; 3]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mean = (Dtype::F32, vec![3, 1, 1], floats([0.5, 0.25, 0.125]));
    assert_eq!(tower["input_conditioner.norm_mean"], mean);
    let std = (Dtype::F32, vec![3, 1, 1], floats([0.375, 0.75, 1.0]));
    assert_eq!(tower["input_conditioner.norm_std"], std);
    let indices = [0i64, 1].iter().flat_map(|index| index.to_le_bytes()).collect();
    assert_eq!(tower["summary_idxs"], (Dtype::I64, vec![2], indices));

    let projector = tensors(&out.join("multi_modal_projector.safetensors"));
    let expected = ["layer_norm", "linear_1", "linear_2"]
        .map(|name| ["bias", "weight"].map(|leaf| format!("multi_modal_projector.{name}.{leaf}")));
    assert_eq!(projector.keys().cloned().collect::<Vec<_>>(), expected.concat());

    let config = json_of(&out.join("config.json"));
    assert_eq!(config["model_type"], "radio");
    assert_eq!(config["layerscale_value"], 1.0);
    assert_eq!((&config["num_cls_tokens"], &config["num_registers"]), (&json!(3), &json!(5)));
    assert_eq!(json_of(&out.join("nemotron_vl_config.json"))["downsample_ratio"], 0.5);
    assert_eq!(ledger.buffers.len(), 3);
    assert!(
        ledger.warnings[0].contains("transformers' `RadioModel` always resizes"),
        "{:?}",
        ledger.warnings
    );
}

#[test]
fn a_converted_part_names_the_dtype_that_its_weights_have() {
    let options = PlanOptions { dtype: Some(TorchDtype::Float32), ..KEEP };
    for part in [Part::Text, Part::Vision] {
        let (_parent, out, _) = part_of(&Source::sound(), part, options);
        assert_eq!(json_of(&out.join("config.json"))["torch_dtype"], "float32");
        let written = tensors(&out.join("model.safetensors"));
        let floats = written.iter().filter(|(name, _)| *name != "summary_idxs");
        assert!(floats.into_iter().all(|(_, (dtype, _, _))| *dtype == Dtype::F32));
    }
}

#[test]
fn shards_of_a_vision_part_list_the_buffers_and_not_the_projector() {
    let options = PlanOptions { max_shard_size: "6KB".parse().unwrap(), ..PlanOptions::KEEP };
    let (_parent, out, _) = part_of(&Source::sound(), Part::Vision, options);
    let index = json_of(&out.join("model.safetensors.index.json"));
    let map = index["weight_map"].as_object().unwrap();
    let mut listed: Vec<&String> = map.keys().collect();
    listed.sort();
    let shards: Vec<String> = names(&out).into_iter().filter(|name| name.starts_with("model-")).collect();
    assert!(shards.len() > 1);
    let mut bytes = 0;
    let mut held = Vec::new();
    for shard in &shards {
        let tensors = tensors(&out.join(shard));
        bytes += tensors.values().map(|(_, _, data)| data.len()).sum::<usize>();
        assert!(tensors.keys().all(|name| map[name] == **shard));
        held.extend(tensors.into_keys());
    }
    held.sort();
    assert_eq!(listed, held.iter().collect::<Vec<_>>());
    assert!(held.contains(&"summary_idxs".to_string()));
    assert_eq!(index["metadata"]["total_size"], bytes);
}

#[test]
fn a_part_verifies_and_a_changed_buffer_is_named() {
    for part in [Part::Text, Part::Vision] {
        let (_parent, out, _) = convert(&shapes(), Settings::default(), keep(part));
        let (ledger, verification) = verify(&out, &Unwatched).unwrap();
        assert_eq!(verification.differences, []);
        let location = Location::parse(shapes().to_str().unwrap());
        let of_source = verify_source(&out, &ledger, location, &Unwatched).unwrap();
        assert_eq!(of_source.differences, []);
    }
    let (_parent, out, ledger) = convert(&shapes(), Settings::default(), keep(Part::Vision));
    let path = out.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = ledger.files.iter().find(|file| file.name == "model.safetensors").unwrap().hashed_bytes;
    bytes[header as usize] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (_, verification) = verify(&out, &Unwatched).unwrap();
    assert_eq!(verification.differences.len(), 1);
    assert_eq!(verification.differences[0].place, "tensor `summary_idxs`");
}

#[test]
fn a_part_is_no_normalized_checkpoint_and_says_what_it_is() {
    let (_parent, out, _) = part_of(&Source::sound(), Part::Vision, KEEP);
    let message = Checkpoint::open(&out).unwrap_err().to_string();
    assert!(message.contains("field `format`: expected `\"nemotron-vl\"`, found no such field"), "{message}");
}

#[test]
fn a_normalized_checkpoint_has_no_field_that_names_a_part() {
    let (_parent, out, _) = part_of(&Source::sound(), Part::All, KEEP);
    let mut config = json_of(&out.join("config.json"));
    config["part"] = json!("text");
    fs::write(out.join("config.json"), config.to_string()).unwrap();
    let message = Checkpoint::open(&out).unwrap_err().to_string();
    assert!(message.contains("unknown field `part`"), "{message}");
}

#[test]
fn a_tower_that_transformers_cannot_hold_is_refused_as_a_part_only() {
    let radio = "vision_model.radio_model.model.norm";
    let source = Source::sound()
        .with("/vision_config/args/model_norm", json!(true))
        .with_tensor(&format!("{radio}.weight"), Dtype::BF16, &[12])
        .with_tensor(&format!("{radio}.bias"), Dtype::BF16, &[12]);
    let dir = source.write();
    let location = || Location::parse(dir.path().to_str().unwrap());
    for part in [Part::All, Part::Text] {
        Conversion::prepare(location(), Settings::default(), keep(part)).unwrap();
    }
    let error =
        Conversion::prepare(location(), Settings::default(), keep(Part::Vision)).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "field `vision_config.args.model_norm`: expected `false` for `--part vision`, found `true`: \
             transformers' `RadioModel` has no LayerNorm after the last block"
        ),
        "{error}"
    );
}
