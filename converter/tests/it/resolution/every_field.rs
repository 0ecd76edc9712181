//! No field of a configuration vanishes: whatever is planted in whatever branch is used, listed as ignored, or refused.

use std::fs;
use std::path::Path;

use converter::plan::PlanOptions;
use converter::resolve::{Findings, Settings};
use converter::source::Location;
use converter::{Conversion, Error};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::hand_made::Made;
use crate::hand_made_source::{Source, summary_idxs};

/// What a source became.
#[derive(Debug, PartialEq)]
enum Outcome {
    Resolved(Box<(Value, Findings)>),
    Refused(String),
}

fn outcome(dir: &Path) -> Outcome {
    let options = PlanOptions::KEEP;
    let location = Location::parse(dir.to_str().unwrap());
    match Conversion::prepare(location, Settings::default(), options) {
        Ok(conversion) => Outcome::Resolved(Box::new((
            serde_json::to_value(conversion.config()).unwrap(),
            conversion.findings().clone(),
        ))),
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

/// Stands for a `NaN`, which no value of JSON is.
const NAN: &str = "a NaN";

fn strange_values() -> Vec<Value> {
    vec![
        json!("strange"),
        json!("clip"),
        json!(12345),
        json!(0.375),
        json!(true),
        json!(false),
        json!(["x"]),
        json!({ "x": 1 }),
        json!(NAN),
    ]
}

fn write_with_nan(path: &Path, value: &Value) {
    fs::write(path, value.to_string().replace(&format!("\"{NAN}\""), "NaN")).unwrap();
}

/// Whether `field` of `file`, or an object around it, is listed as ignored.
fn is_listed(findings: &Findings, file: &str, field: &str) -> bool {
    findings.ignored.iter().any(|ignored| {
        let inner = field.strip_prefix(&ignored.field);
        ignored.file == file && inner.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

/// Findings without the list of ignored fields, and hashes of the file that was changed on purpose.
fn effect(outcome: &Outcome, sha256: &str) -> String {
    match outcome {
        Outcome::Refused(message) => message.clone(),
        Outcome::Resolved(resolved) => {
            let (config, findings) = resolved.as_ref();
            let Findings { behaviours, defaults, warnings, .. } = findings;
            let behaviours = format!("{behaviours:?}").replace(sha256, "");
            format!("{config} {behaviours} {defaults:?} {warnings:?}")
        }
    }
}

/// Plants every strange value in every field of the object at `pointer`, those of `names` included.
fn plant(branch: &str, source: &Source, file: &str, pointer: &str, names: &[&str]) {
    let dir = source.write();
    let path = dir.path().join(file);
    let sound: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let before = outcome(dir.path());
    let Outcome::Resolved(_) = &before else { panic!("{branch}: {before:?}") };
    let before = effect(&before, &sha256(&path));
    let object = sound.pointer(pointer).unwrap().as_object().unwrap();
    let prefix = pointer.trim_start_matches('/').replace('/', ".");
    // A list's place is `name[0]`.
    let prefix = prefix.replace(".0", "[0]");
    let mut all: Vec<&str> = object.keys().map(String::as_str).chain(names.iter().copied()).collect();
    all.push("unheard_of");
    all.sort_unstable();
    all.dedup();
    for name in all {
        let field = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
        let mut silent = Vec::new();
        let mut is_used = false;
        for value in strange_values() {
            let mut planted = sound.clone();
            let object = planted.pointer_mut(pointer).unwrap();
            if object.get(name) == Some(&value) {
                continue;
            }
            object[name] = value.clone();
            write_with_nan(&path, &planted);
            let after = outcome(dir.path());
            if let Outcome::Resolved(resolved) = &after
                && is_listed(&resolved.1, file, &field)
            {
                continue;
            }
            if effect(&after, &sha256(&path)) == before {
                silent.push(value);
            } else {
                is_used = true;
            }
        }
        assert!(is_used || silent.is_empty(), "{branch}: `{file}`: `{field}` vanishes with {silent:?}");
    }
}

fn sha256(path: &Path) -> String {
    store::hash::sha256(&fs::read(path).unwrap())
}

/// Fields of transformers' `LlamaConfig`, of its base, and of models like it.
const LLAMA: &[&str] = &[
    "attention_bias",
    "attention_dropout",
    "attn_implementation",
    "bos_token_id",
    "head_dim",
    "initializer_range",
    "layer_types",
    "max_length",
    "mlp_bias",
    "num_experts",
    "num_key_value_heads",
    "pad_token_id",
    "partial_rotary_factor",
    "pretraining_tp",
    "pruned_heads",
    "quantization_config",
    "repetition_penalty",
    "rope_interleaved",
    "rope_parameters",
    "rope_scaling",
    "sliding_window",
    "tie_word_embeddings",
    "torch_dtype",
    "use_cache",
];
const ROPE: &[&str] = &[
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "high_freq_factor",
    "long_factor",
    "low_freq_factor",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "short_factor",
    "truncate",
    "type",
];
const ARGS: &[&str] = &[
    "cpe_num_registers",
    "damp",
    "drop",
    "gp",
    "in_chans",
    "initial_checkpoint",
    "input_size",
    "num_classes",
    "pretrained",
    "spectral_reparam",
    "torchscript",
];
const KWARGS: &[&str] = &[
    "act_layer",
    "attn_layer",
    "class_token",
    "drop_rate",
    "fc_norm",
    "final_norm",
    "global_pool",
    "img_size",
    "init_values",
    "mlp_ratio",
    "norm_layer",
    "pool_include_prefix",
    "pos_embed",
    "qk_norm",
    "qkv_bias",
    "reg_tokens",
    "weight_init",
];
const VISION: &[&str] = &[
    "adaptor_configs",
    "inter_feature_normalizer_config",
    "max_resolution",
    "model_type",
    "preferred_resolution",
    "quantization_config",
    "torch_dtype",
];
const TOP: &[&str] = &[
    "attn_implementation",
    "dtype",
    "eos_token_id",
    "format",
    "quantization_config",
    "select_layer",
    "tie_word_embeddings",
    "transformers_version",
];
const PREPROCESSOR: &[&str] = &[
    "auto_map",
    "crop_size",
    "data_format",
    "do_center_crop",
    "do_convert_rgb",
    "do_resize",
    "image_mean",
    "image_std",
    "input_data_format",
    "size",
];

#[test]
fn no_field_of_a_plain_configuration_vanishes() {
    let mut source = Source::sound();
    source
        .files
        .push(("generation_config.json".into(), "{\"eos_token_id\": 2, \"temperature\": 0.5}".into()));
    for (file, pointer, names) in [
        ("config.json", "", TOP),
        ("config.json", "/llm_config", LLAMA),
        ("config.json", "/vision_config", VISION),
        ("config.json", "/vision_config/args", ARGS),
        ("config.json", "/vision_config/args/model_kwargs", KWARGS),
        ("config.json", "/vision_config/args/teachers/0", &["type", "use_summary"]),
        ("preprocessor_config.json", "", PREPROCESSOR),
        ("generation_config.json", "", &["repetition_penalty"]),
    ] {
        plant("plain", &source, file, pointer, names);
    }
}

#[test]
fn what_is_read_of_the_tokenizer_is_refused_by_its_field() {
    // All else is the runtime's to read: the files are copied as they are.
    for (file, pointer, field) in [
        ("tokenizer_config.json", "/added_tokens_decoder/5/content", "added_tokens_decoder.5.content"),
        ("tokenizer_config.json", "/added_tokens_decoder/5", "added_tokens_decoder.5"),
        ("tokenizer_config.json", "/added_tokens_decoder", "added_tokens_decoder"),
        ("tokenizer.json", "/added_tokens/0/id", "added_tokens[0].id"),
        ("tokenizer.json", "/added_tokens/0/content", "added_tokens[0].content"),
        ("tokenizer.json", "/added_tokens", "added_tokens"),
    ] {
        for value in [json!(0.375), json!(true), json!(NAN)] {
            let dir = Source::sound().write();
            let path = dir.path().join(file);
            let mut planted: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            *planted.pointer_mut(pointer).unwrap() = value.clone();
            write_with_nan(&path, &planted);
            let Outcome::Refused(message) = outcome(dir.path()) else { panic!("{pointer} = {value}") };
            assert!(message.contains(&format!("{file}`: line 1, column ")), "{message}");
            assert!(message.contains(&format!("field `{field}")), "{message}");
        }
    }
}

#[test]
fn no_field_of_any_rotary_scaling_vanishes() {
    for scaling in [
        json!({ "rope_type": "default" }),
        json!({ "rope_type": "linear", "factor": 2.0 }),
        json!({ "rope_type": "dynamic", "factor": 2.0 }),
        json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192 }),
        json!({ "type": "yarn", "factor": 4.0 }),
    ] {
        for name in ["rope_scaling", "rope_parameters"] {
            let pointer = format!("/llm_config/{name}");
            let branch = format!("{name} {scaling}");
            let source = Source::sound().with(&pointer, scaling.clone()).without("/llm_config/rope_theta");
            plant(&branch, &source, "config.json", &pointer, ROPE);
        }
    }
}

/// A sound source whose tower has one class token.
fn one_class_token() -> Source {
    let name = "vision_model.radio_model.model.patch_generator.cls_token.token";
    let source =
        Source::sound().with("/vision_config/args/cls_token_per_teacher", json!(false)).without_tensor(name);
    source.with_tensor(name, Dtype::BF16, &[8, 12])
}

#[test]
fn no_field_of_the_towers_other_branches_vanishes() {
    let asked = Source::sound().with("/vision_config/args/cpe_num_registers", json!(5));
    let channels = Source::sound().with("/vision_config/args/in_chans", json!(3));
    let mut stored = Source::sound();
    stored.tensors.push(summary_idxs(&[0, 1]));
    let mut normed = Source::sound().with("/vision_config/args/model_norm", json!(true));
    for leaf in ["weight", "bias"] {
        let name = format!("vision_model.radio_model.model.norm.{leaf}");
        normed.tensors.push(Made::new(&name, Dtype::BF16, &[12]));
    }
    for (branch, source) in [
        ("one class token", one_class_token()),
        ("registers", asked),
        ("channels", channels),
        ("stored indices", stored),
        ("norm", normed),
    ] {
        plant(branch, &source, "config.json", "/vision_config/args", ARGS);
        plant(branch, &source, "config.json", "/vision_config/args/model_kwargs", KWARGS);
        for teacher in 0..3 {
            let pointer = format!("/vision_config/args/teachers/{teacher}");
            if teacher == 0 {
                plant(branch, &source, "config.json", &pointer, &["type", "use_summary"]);
            }
        }
    }
}

#[test]
fn no_field_of_the_image_processors_other_branches_vanishes() {
    let mut normalizing = Source::sound();
    normalizing.preprocessor["do_normalize"] = json!(true);
    normalizing.preprocessor["image_mean"] = json!([0.5, 0.25, 0.125]);
    normalizing.preprocessor["image_std"] = json!([0.5, 0.25, 0.125]);
    let mut plain = Source::sound();
    plain.preprocessor["do_rescale"] = json!(false);
    for (branch, source) in [("normalizing", normalizing), ("plain", plain)] {
        plant(branch, &source, "preprocessor_config.json", "", PREPROCESSOR);
    }
}

#[test]
fn tied_embeddings_and_another_dtype_change_nothing_about_that() {
    let tied = Source::sound()
        .with("/llm_config/tie_word_embeddings", json!(true))
        .with("/llm_config/attention_dropout", json!(0.1))
        .without("/llm_config/torch_dtype")
        .without_tensor("language_model.lm_head.weight");
    plant("tied", &tied, "config.json", "/llm_config", LLAMA);
    plant("tied", &tied, "config.json", "", TOP);
}

#[test]
fn a_written_null_is_no_default_where_the_public_code_has_none_then() {
    // The public code makes `v2` of it, and not the default of its class.
    for field in
        ["ps_version", "downsample_ratio", "image_tag_type", "projector_hidden_size", "vit_hidden_size"]
    {
        let message = super::refusal(&Source::sound().with(&format!("/{field}"), Value::Null));
        assert!(message.contains(&format!("field `{field}`: expected ")), "{message}");
        assert!(message.ends_with(", found `null`"), "{message}");
    }
    for field in ["rms_norm_eps", "rope_theta", "hidden_act", "num_hidden_layers", "max_position_embeddings"]
    {
        let message = super::refusal(&Source::sound().with(&format!("/llm_config/{field}"), Value::Null));
        assert!(message.contains(&format!("field `llm_config.{field}`: expected ")), "{message}");
    }
    let message = super::refusal(&Source::sound().with("/vision_config/args/dtype", Value::Null));
    assert!(message.contains("field `vision_config.args.dtype`: expected "), "{message}");
    // Python takes these for false.
    let source = Source::sound().with("/llm_config/attention_bias", Value::Null);
    assert!(!super::prepare(&source).0.text_config.attention_bias);
}

#[test]
fn a_setting_of_generation_that_is_no_default_is_told() {
    let source = Source::sound()
        .with("/llm_config/repetition_penalty", json!(1.3))
        .with("/llm_config/temperature", json!(1.0))
        .with("/llm_config/num_beams", json!(1));
    let findings = super::prepare(&source).1;
    assert_eq!(
        findings.warnings,
        [
            "`config.json`: ignored, though transformers' `generate` would choose tokens by them: `llm_config.repetition_penalty`"
        ]
    );
    let known = |field: &str| findings.ignored.iter().find(|ignored| ignored.field == field).unwrap().known;
    assert!(!known("llm_config.repetition_penalty"));
    assert!(known("llm_config.temperature"));
}

#[test]
fn pythons_literals_are_refused_by_the_field_that_matters_and_nowhere_else() {
    let with_nan = |pointer: &str, literal: &str| {
        let dir = Source::sound().with(pointer, json!("@")).write();
        let path = dir.path().join("config.json");
        let text = fs::read_to_string(&path).unwrap().replace("\"@\"", literal);
        fs::write(&path, text).unwrap();
        (outcome(dir.path()), dir)
    };
    for literal in ["NaN", "Infinity", "-Infinity"] {
        for pointer in [
            "/vision_config/args/lr",
            "/vision_config/args/loss_scale",
            "/llm_config/initializer_range",
            "/llm_config/attention_dropout",
            "/some_training_setting",
        ] {
            let (outcome, _dir) = with_nan(pointer, literal);
            let Outcome::Resolved(resolved) = outcome else { panic!("{pointer}: {outcome:?}") };
            let field = pointer.trim_start_matches('/').replace('/', ".");
            assert!(is_listed(&resolved.1, "config.json", &field), "{pointer}");
            // The configuration itself stays JSON that everybody reads.
            assert!(!resolved.0.to_string().contains(literal));
        }
        for (pointer, expected) in [
            ("/llm_config/rms_norm_eps", "a number"),
            ("/llm_config/rope_theta", "a number"),
            ("/llm_config/vocab_size", "a whole number"),
            ("/llm_config/model_type", "a text"),
            ("/vision_config/args/model_kwargs/mlp_ratio", "a number"),
            ("/vision_config/args/teachers", "a list of objects"),
            ("/vision_config/args", "an object"),
            ("/downsample_ratio", "a number"),
        ] {
            let (outcome, _dir) = with_nan(pointer, literal);
            let Outcome::Refused(message) = outcome else { panic!("{pointer}: {outcome:?}") };
            let field = pointer.trim_start_matches('/').replace('/', ".");
            assert!(
                message.ends_with(&format!("field `{field}`: expected {expected}, found `{literal}`")),
                "{message}"
            );
        }
    }
}

#[test]
fn another_model_with_an_infinity_is_told_that_it_is_another_model() {
    let dir = Source::sound().write();
    fs::write(
        dir.path().join("config.json"),
        r#"{"model_type": "NemotronH_Nano_VL_V2", "time_step_limit": [0.0, Infinity]}"#,
    )
    .unwrap();
    let Outcome::Refused(message) = outcome(dir.path()) else { panic!("refused") };
    assert!(message.contains("field `model_type`: expected `\"Llama_Nemotron_Nano_VL\"`"), "{message}");
    assert!(message.ends_with("only this model is supported"), "{message}");
}

#[test]
fn what_stands_in_the_place_of_a_file_is_named_with_what_to_do() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 17209920\n";
    for (name, content, found, hint) in [
        ("config.json", pointer, "a Git LFS pointer to a file of 17209920 bytes", "`git lfs pull`"),
        ("tokenizer.json", pointer, "a Git LFS pointer", "`git lfs pull`"),
        ("tokenizer_config.json", pointer, "a Git LFS pointer", "`git lfs pull`"),
        ("preprocessor_config.json", pointer, "a Git LFS pointer", "`git lfs pull`"),
        ("special_tokens_map.json", pointer, "a Git LFS pointer", "`git lfs pull`"),
        ("chat_template.jinja", pointer, "a Git LFS pointer", "`git lfs pull`"),
        ("model.safetensors", pointer, "a Git LFS pointer", "`git lfs pull`"),
        ("model.safetensors", "<!DOCTYPE html><html></html>", "a web page", "fetch it again"),
        ("model.safetensors", "Entry not found", "the text `Entry not found`", "fetch it again"),
        ("model.safetensors", "", "an empty file", "unfinished download"),
        ("model.safetensors", "\0\0\0\0\0\0\0\0\0\0", "nothing but zero bytes", "unfinished download"),
        ("config.json", "", "an empty file", "unfinished download"),
        ("config.json", "PK\u{3}\u{4}", "a zip archive", "safetensors"),
    ] {
        let dir = Source::sound().write();
        fs::write(dir.path().join(name), content).unwrap();
        let location = Location::parse(dir.path().to_str().unwrap());
        let options = PlanOptions::KEEP;
        let error = Conversion::prepare(location, Settings::default(), options).expect_err(name);
        assert!(matches!(error, Error::Content { .. }), "{name}: {error}");
        let message = error.to_string();
        assert!(message.contains(&format!("{name}`: expected a ")), "{message}");
        assert!(message.contains(&format!("found {found}")), "{message}");
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    }
    let dir = Source::sound().write();
    let config = fs::read_to_string(dir.path().join("config.json")).unwrap();
    fs::write(dir.path().join("config.json"), format!("\u{feff}{config}")).unwrap();
    let Outcome::Refused(message) = outcome(dir.path()) else { panic!("refused") };
    assert!(message.contains("expected JSON without a byte order mark (BOM), found one"), "{message}");
}
