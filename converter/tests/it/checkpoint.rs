//! The reader of a normalized checkpoint: what it gives, and what it refuses.

mod numbers;

use std::fs;
use std::path::Path;

use converter::architecture::Part;
use converter::nemotron_vl::ARCHITECTURE;
use converter::normalized::{Checkpoint, Config};
use converter::{Error, TensorProblem};
use proptest::prelude::*;
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hand_made::*;

fn sound() -> TempDir {
    let dir = TempDir::new().unwrap();
    write_json(&dir.path().join("config.json"), &normalized_config());
    write_file(&dir.path().join("model.safetensors"), &tensors_of(&normalized_config()));
    dir
}

fn refusal(dir: &Path) -> String {
    let error = Checkpoint::open(dir).expect_err("refused");
    error.to_string().replace(&dir.display().to_string(), "DIR")
}

fn refusal_of_config(change: impl FnOnce(&mut Value)) -> String {
    let dir = sound();
    let mut config = normalized_config();
    change(&mut config);
    write_json(&dir.path().join("config.json"), &config);
    refusal(dir.path())
}

fn refusal_of_file(bytes: &[u8]) -> String {
    let dir = sound();
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    refusal(dir.path())
}

#[test]
fn gives_the_configuration_and_every_tensor_of_one_file() {
    let dir = sound();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.dir(), dir.path());
    assert_eq!(checkpoint.config().text_config.head_dim, 10);
    assert_eq!(serde_json::to_value(checkpoint.config()).unwrap(), normalized_config());
    let made = tensors_of(&normalized_config());
    assert_eq!(checkpoint.names().count(), made.len());
    for tensor in made {
        let view = checkpoint.tensor(&tensor.name).unwrap();
        assert_eq!((view.name, view.dtype, view.shape), (&*tensor.name, Dtype::BF16, &*tensor.shape));
        assert_eq!(view.data, tensor.data);
    }
}

#[test]
fn gives_every_tensor_of_shards() {
    let dir = TempDir::new().unwrap();
    write_json(&dir.path().join("config.json"), &normalized_config());
    let made = tensors_of(&normalized_config());
    write_shards(dir.path(), &made, 4);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.weights().files().len(), 4);
    for tensor in made {
        assert_eq!(checkpoint.tensor(&tensor.name).unwrap().data, tensor.data);
    }
}

#[test]
fn names_a_tensor_that_is_not_there() {
    let dir = sound();
    let error = Checkpoint::open(dir.path()).unwrap().tensor("lm_head.weight").map(|_| ()).unwrap_err();
    let Error::Tensors { problems, .. } = error else { panic!("another error") };
    assert_eq!(problems, [TensorProblem::Absent { name: "lm_head.weight".into() }]);
}

#[test]
fn the_layout_follows_every_field_that_adds_a_tensor() {
    let count = |change: fn(&mut Value)| {
        let mut config = normalized_config();
        change(&mut config);
        layout(&serde_json::from_value::<Config>(config).unwrap()).len()
    };
    let base = count(|_| {});
    // 3 of the embeddings, 16 a block, 6 of the projector; 3 around the decoder, 9 a layer.
    assert_eq!(base, 3 + 3 * 16 + 6 + 3 + 2 * 9);
    assert_eq!(count(|c| c["text_config"]["tie_word_embeddings"] = json!(true)), base - 1);
    assert_eq!(count(|c| c["text_config"]["attention_bias"] = json!(true)), base + 2 * 4);
    assert_eq!(count(|c| c["text_config"]["mlp_bias"] = json!(true)), base + 2 * 3);
    assert_eq!(count(|c| c["vision_config"]["qkv_bias"] = json!(false)), base - 3 * 3);
    assert_eq!(count(|c| c["vision_config"]["layerscale_value"] = json!(1e-5)), base + 3 * 2);
    assert_eq!(count(|c| c["vision_config"]["model_norm"] = json!(true)), base + 2);
    let config: Config = serde_json::from_value(normalized_config()).unwrap();
    assert_eq!((ARCHITECTURE.layout)(&config, Part::Text).len(), 3 + 2 * 9);
    assert_eq!((ARCHITECTURE.layout)(&config, Part::Vision).len(), 3 + 3 * 16 + 6);
}

#[test]
fn the_layout_has_the_shapes_of_the_checkpoint() {
    let shapes = layout(&serde_json::from_value::<Config>(normalized_config()).unwrap());
    let shape = |name: &str| shapes.iter().find(|tensor| tensor.name == name).unwrap().shape.clone();
    assert_eq!(shape("vision_model.embeddings.patch_projection.weight"), [12, 48]);
    assert_eq!(shape("vision_model.embeddings.position_embedding"), [1, 25, 12]);
    assert_eq!(shape("vision_model.embeddings.cls_register_token"), [8, 12]);
    assert_eq!(shape("vision_model.encoder.layer.2.mlp.fc1.weight"), [48, 12]);
    assert_eq!(shape("multi_modal_projector.layer_norm.weight"), [48]);
    assert_eq!(shape("multi_modal_projector.linear_1.weight"), [36, 48]);
    assert_eq!(shape("multi_modal_projector.linear_2.weight"), [24, 36]);
    assert_eq!(shape("language_model.model.layers.1.self_attn.q_proj.weight"), [60, 24]);
    assert_eq!(shape("language_model.model.layers.1.self_attn.v_proj.weight"), [20, 24]);
    assert_eq!(shape("language_model.model.layers.1.self_attn.o_proj.weight"), [24, 60]);
}

#[test]
fn refuses_a_folder_that_is_none() {
    let dir = TempDir::new().unwrap();
    assert_eq!(refusal(&dir.path().join("gone")), "`DIR`: expected a folder, found nothing");
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(refusal(&dir.path().join("file")), "`DIR`: expected a folder, found a file");
    assert_eq!(refusal(dir.path()), "`DIR`: expected a file `config.json`, found none");
}

#[test]
fn refuses_another_format_or_version_by_name() {
    assert_eq!(
        refusal_of_config(|c| c["format"] = json!("gguf")),
        "`DIR/config.json`: field `format`: expected `\"nemotron-vl\"`, found `\"gguf\"`"
    );
    assert_eq!(
        refusal_of_config(|c| *c = json!({ "model_type": "llama" })),
        "`DIR/config.json`: field `format`: expected `\"nemotron-vl\"`, found no such field"
    );
    assert_eq!(
        refusal_of_config(|c| c["format_version"] = json!(2)),
        "`DIR/config.json`: field `format_version`: expected `1`, found `2`"
    );
}

#[test]
fn refuses_a_configuration_of_another_structure() {
    let message = refusal_of_config(|c| c["vision_config"]["colour"] = json!(1));
    assert!(message.contains("field `vision_config.colour`: unknown field `colour`"), "{message}");
    let message = refusal_of_config(|c| drop(c.as_object_mut().unwrap().remove("ps_version")));
    assert!(message.contains("missing field `ps_version`"), "{message}");
    let message = refusal_of_config(|c| c["text_config"]["rope_scaling"]["rope_type"] = json!("zigzag"));
    assert!(message.contains("text_config.rope_scaling") && message.contains("zigzag"), "{message}");
}

#[test]
fn refuses_each_contradiction_between_fields() {
    for (pointer, value, part) in [
        (
            "/text_config/num_key_value_heads",
            json!(4),
            "text_config.num_attention_heads`: expected a multiple of 4",
        ),
        ("/text_config/num_attention_heads", json!(0), "text_config.num_attention_heads"),
        ("/text_config/head_dim", json!(5), "text_config.head_dim`: expected a multiple of 2, found `5`"),
        ("/text_config/hidden_act", json!("gelu"), "expected `\"silu\"`, found `\"gelu\"`"),
        ("/text_config/model_type", json!("mistral"), "text_config.model_type"),
        ("/text_config/rope_theta", json!(0.0), "text_config.rope_theta"),
        ("/text_config/rms_norm_eps", json!(-1.0), "text_config.rms_norm_eps"),
        ("/text_config/eos_token_id", json!([40]), "expected ids below `vocab_size`, 40, found `40`"),
        ("/text_config/num_hidden_layers", json!(1_000_000_000), "from 1 to 65536, found `1000000000`"),
        ("/text_config/vocab_size", json!(u64::MAX), "text_config.vocab_size"),
        (
            "/vision_config/num_attention_heads",
            json!(5),
            "vision_config.hidden_size`: expected a multiple of 5",
        ),
        ("/vision_config/image_size", json!(18), "vision_config.image_size`: expected a multiple of 4"),
        ("/vision_config/image_size", json!(20), "expected a grid of a multiple of 2 patches"),
        ("/vision_config/max_img_size", json!(u64::MAX), "vision_config.max_img_size"),
        ("/vision_config/mlp_ratio", json!(0.001), "vision_config.mlp_ratio"),
        ("/vision_config/mlp_ratio", json!(1e30), "vision_config.mlp_ratio"),
        ("/vision_config/num_channels", json!(4), "vision_config.num_channels"),
        ("/vision_config/num_cls_tokens", json!(0), "vision_config.num_cls_tokens"),
        ("/vision_config/num_registers", json!(u64::MAX), "vision_config.num_registers"),
        ("/vision_config/summary_idxs", json!([3]), "expected indices below `num_cls_tokens`, 3, found `3`"),
        ("/vision_config/norm_mean", json!([0.5]), "vision_config.norm_mean`: expected 3 numbers"),
        (
            "/vision_config/norm_std",
            json!([0.5, 0.5, 0.0]),
            "vision_config.norm_std`: expected a number above 0",
        ),
        ("/vision_hidden_size", json!(13), "vision_hidden_size`: expected `12`, found `13`"),
        ("/downsample_ratio", json!(0.3), "downsample_ratio`: expected 1 divided by a whole number up to 4"),
        ("/downsample_ratio", json!(0.0), "downsample_ratio"),
        ("/image_seq_length", json!(16), "image_seq_length`: expected `4`, found `16`"),
        ("/image_start_token", json!("<Image>"), "image_start_token`: expected `\"<img>\"`"),
        ("/image_tag_type", json!("nvlm"), "image_start_token`: expected `\"<Image>\"`"),
        ("/image_token_id", json!(40), "image_token_id`: expected ids below `vocab_size`, 40"),
        ("/image_processor/image_size", json!(32), "image_processor.image_size`: expected `16`, found `32`"),
        ("/image_processor/upscale_factor", json!(0), "image_processor.upscale_factor"),
        ("/image_processor/max_num_tiles", json!(0), "image_processor.max_num_tiles"),
        ("/image_processor/image_std", json!([1.0, 1.0]), "image_processor.image_std"),
    ] {
        let message = refusal_of_config(|config| *config.pointer_mut(pointer).unwrap() = value.clone());
        assert!(message.starts_with("`DIR/config.json`: field `"), "{pointer} = {value}: {message}");
        assert!(message.contains(part), "{pointer} = {value}: {message}");
    }
}

#[test]
fn lists_missing_unknown_and_misshapen_tensors_together() {
    let dir = sound();
    let mut made = tensors_of(&normalized_config());
    made.retain(|tensor| tensor.name != "vision_model.encoder.layer.1.norm1.bias");
    made.push(Made::new("vision_model.extra", Dtype::BF16, &[2]));
    for tensor in &mut made {
        if tensor.name == "multi_modal_projector.linear_1.weight" {
            *tensor = Made::new(&tensor.name, Dtype::BF16, &[48, 36]);
        }
        if tensor.name == "language_model.model.norm.weight" {
            *tensor = Made::new(&tensor.name, Dtype::I16, &[24]);
        }
    }
    write_file(&dir.path().join("model.safetensors"), &made);
    assert_eq!(
        refusal(dir.path()),
        "`DIR`: tensor `vision_model.encoder.layer.1.norm1.bias`: expected shape [12], found no such tensor; \
         tensor `multi_modal_projector.linear_1.weight`: expected shape [36, 48], found [48, 36]; \
         tensor `language_model.model.norm.weight`: expected dtype `F32`, `BF16` or `F16`, found `I16`; \
         tensor `vision_model.extra`: expected no such tensor, found it in `model.safetensors`"
    );
}

#[test]
fn a_long_list_of_problems_ends_in_a_count() {
    let dir = sound();
    write_file(&dir.path().join("model.safetensors"), &[]);
    let message = refusal(dir.path());
    assert_eq!(message.matches("found no such tensor").count(), 8);
    assert!(message.ends_with("; and 70 more tensors"), "{message}");
}

#[test]
fn refuses_each_lie_of_a_header() {
    let entry = |shape: &str, offsets: &str| {
        format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    let cases: [(Vec<u8>, &str); 19] = [
        (vec![1, 2, 3], "header: expected at least 8 bytes, found 3 bytes: the file is cut off"),
        (u64::MAX.to_le_bytes().to_vec(), "expected a length of at most 100000000 bytes"),
        (
            (4u64 << 30).to_le_bytes().to_vec(),
            "expected a length of at most 100000000 bytes, found 4294967296",
        ),
        ([&100u64.to_le_bytes()[..], b"{}"].concat(), "expected 100 bytes of header, found 2 bytes"),
        (
            raw_file("{garbage", &[]),
            "expected a JSON object of tensors, found line 1, column 2 of the header",
        ),
        (raw_file("[]", &[]), "expected a JSON object of tensors"),
        (raw_file("{\"a\":\"\u{1}\"}", &[]), "expected a JSON object of tensors"),
        (raw_file("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", &[]), "found `a` twice"),
        (raw_file(&entry("[2]", "[0,4]"), &[0; 4]), "tensor `a`: expected 8 bytes, by shape [2] of `F32`"),
        (raw_file(&entry("[1]", "[4,0]"), &[0; 4]), "tensor `a`: expected 4 bytes"),
        (raw_file(&entry("[1]", "[4,8]"), &[0; 8]), "expected data from byte 0, found data from byte 4"),
        (raw_file(&entry("[9223372036854775807,9]", "[0,4]"), &[0; 4]), "within the limits of the machine"),
        (raw_file(&entry("[9223372036854775808]", "[0,4]"), &[0; 4]), "within the limits of the machine"),
        (raw_file(&entry("[9223372036854775808,2,0]", "[0,0]"), &[]), "within the limits of the machine"),
        (raw_file(&entry("[1]", "[18446744073709551614,18446744073709551618]"), &[]), "expected usize"),
        (raw_file(&entry("[1]", "[18446744073709551612,0]"), &[0; 4]), "tensor `a`: expected 4 bytes"),
        (
            raw_file(&entry("[2]", "[0,8]"), &[0; 7]),
            "expected 8 bytes of data, found 7 bytes: the file is cut off",
        ),
        (raw_file(&entry("[2]", "[0,8]"), &[0; 9]), "expected 8 bytes of data, found 9 bytes"),
        (raw_file(&entry("[1]", "[0,4]").replace("\"a\"", "\"a\\u0000b\""), &[0; 4]), "tensor `a\\u{0}b`"),
    ];
    for (bytes, part) in cases {
        let message = refusal_of_file(&bytes);
        assert!(message.starts_with("`DIR/model.safetensors`: "), "{message}");
        assert!(message.contains(part), "expected {part}: {message}");
        assert!(!message.contains('\n') && !message.contains('\0'), "{message}");
    }
}

#[test]
fn refuses_overlapping_tensors_and_a_name_given_twice() {
    let entry = "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":";
    let overlap = format!("{{\"a\":{entry}[0,4]}},\"b\":{entry}[2,6]}}}}");
    assert!(refusal_of_file(&raw_file(&overlap, &[0; 6])).contains("tensor `b`: expected data from byte 4"));
    let twice = format!("{{\"a\":{entry}[0,4]}},\"a\":{entry}[0,4]}}}}");
    assert!(refusal_of_file(&raw_file(&twice, &[0; 4])).contains("expected each key once, found `a` twice"));
}

fn sharded() -> (TempDir, Value) {
    let dir = TempDir::new().unwrap();
    write_json(&dir.path().join("config.json"), &normalized_config());
    write_shards(dir.path(), &tensors_of(&normalized_config()), 2);
    let index = fs::read(dir.path().join("model.safetensors.index.json")).unwrap();
    let index = serde_json::from_slice(&index).unwrap();
    (dir, index)
}

const NORM: &str = "language_model.model.norm.weight";

#[test]
fn refuses_an_index_that_leads_out_of_the_folder() {
    let (dir, index) = sharded();
    let outside = TempDir::new().unwrap();
    let target = outside.path().join("model-00002-of-00002.safetensors");
    fs::rename(dir.path().join("model-00002-of-00002.safetensors"), &target).unwrap();
    for name in ["../secret.safetensors", "/etc/passwd", "..", "a/b.safetensors", "a\nb", "a\0b", ""] {
        let mut index = index.clone();
        index["weight_map"][NORM] = json!(name);
        write_json(&dir.path().join("model.safetensors.index.json"), &index);
        let message = refusal(dir.path());
        assert!(
            message.starts_with(&format!(
                "`DIR/model.safetensors.index.json`: field `weight_map.{NORM}`: expected the plain name of a file inside the folder, found "
            )),
            "{name:?}: {message}"
        );
    }
    write_json(&dir.path().join("model.safetensors.index.json"), &index);
    std::os::unix::fs::symlink(&target, dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    let message = refusal(dir.path());
    assert!(message.contains("expected a file inside the folder, found a link to"), "{message}");
}

#[test]
fn follows_the_links_of_a_hub_cache_into_its_own_blobs() {
    let cache = TempDir::new().unwrap();
    let blobs = cache.path().join("blobs");
    let snapshot = cache.path().join("snapshots/0123abc");
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    write_json(&blobs.join("c0"), &normalized_config());
    write_file(&blobs.join("m0"), &tensors_of(&normalized_config()));
    std::os::unix::fs::symlink("../../blobs/c0", snapshot.join("config.json")).unwrap();
    std::os::unix::fs::symlink("../../blobs/m0", snapshot.join("model.safetensors")).unwrap();
    assert_eq!(Checkpoint::open(&snapshot).unwrap().names().count(), 78);
}

#[test]
fn refuses_a_shard_that_is_missing_or_no_file() {
    let (dir, _) = sharded();
    let shard = dir.path().join("model-00001-of-00002.safetensors");
    fs::remove_file(&shard).unwrap();
    assert_eq!(
        refusal(dir.path()),
        "`DIR`: expected a file `model-00001-of-00002.safetensors`, which `model.safetensors.index.json` names for tensor `vision_model.embeddings.cls_register_token`, found none"
    );
    fs::create_dir(&shard).unwrap();
    assert_eq!(
        refusal(dir.path()),
        "`DIR/model-00001-of-00002.safetensors`: expected a regular file, found a folder"
    );
}

#[test]
fn refuses_an_index_and_shards_that_disagree() {
    let (dir, index) = sharded();
    let write = |index: &Value| write_json(&dir.path().join("model.safetensors.index.json"), index);

    let mut changed = index.clone();
    changed["weight_map"][NORM] = json!("model-00001-of-00002.safetensors");
    changed["weight_map"]["ghost"] = json!("model-00001-of-00002.safetensors");
    changed["weight_map"].as_object_mut().unwrap().remove("language_model.lm_head.weight");
    write(&changed);
    assert_eq!(
        refusal(dir.path()),
        "`DIR/model.safetensors.index.json`: tensor `language_model.lm_head.weight`: expected it in no file, because \
         the index does not list it, found it in `model-00002-of-00002.safetensors`; \
         tensor `language_model.model.norm.weight`: expected it in `model-00001-of-00002.safetensors`, by the index, \
         found it in `model-00002-of-00002.safetensors`; \
         tensor `ghost`: expected it in `model-00001-of-00002.safetensors`, by the index, found it in no file"
    );

    write(&index);
    let shard = dir.path().join("model-00001-of-00002.safetensors");
    let made = tensors_of(&normalized_config());
    let mut first = made[..42].to_vec();
    first.push(made.last().unwrap().clone());
    write_file(&shard, &first);
    assert!(refusal(dir.path()).contains(
        "tensor `language_model.lm_head.weight`: expected it in one file, found it in both \
         `model-00001-of-00002.safetensors` and `model-00002-of-00002.safetensors`"
    ));

    write(&json!({ "weight_map": {} }));
    assert!(refusal(dir.path()).contains("field `weight_map`: expected at least one tensor, found none"));
    write_file(&dir.path().join("model.safetensors"), &made);
    assert!(refusal(dir.path()).contains("expected either one file or shards with an index, found both"));
}

#[test]
fn a_cut_file_comes_with_a_hint() {
    let dir = sound();
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Header { .. }), "{error}");
    assert!(error.hint().unwrap().contains("unfinished download"));
}

proptest! {
    /// Whatever bytes a file holds, opening ends in an answer.
    #[test]
    fn no_bytes_make_the_reader_panic(length in 0u64..64, text in "[{}\\[\\]\",:a0-9]{0,64}", tail in 0usize..16) {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes.extend(vec![0; tail]);
        let dir = sound();
        fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        prop_assert!(Checkpoint::open(dir.path()).is_err());
    }
}
