//! Numbers that nothing can be computed with, layers that are not there, and a header's `null`.

use std::fs;

use converter::normalized::Checkpoint;
use serde_json::{Value, json};

use super::{refusal, refusal_of_config, sound};
use crate::hand_made::{normalized_config, raw_file, write_json};

#[test]
fn refuses_numbers_that_nothing_can_be_computed_with_by_their_field() {
    let yarn = |field: &str, value: Value| {
        let mut scaling = json!({ "rope_type": "yarn", "factor": 4.0 });
        scaling[field] = value;
        scaling
    };
    let llama3 = |field: &str, value: Value| {
        let mut scaling = normalized_config()["text_config"]["rope_scaling"].clone();
        scaling[field] = value;
        scaling
    };
    for (pointer, value, part) in [
        (
            "/text_config/rope_scaling",
            llama3("factor", json!(0.0)),
            "factor`: expected a number above 0, found `0`",
        ),
        ("/text_config/rope_scaling", llama3("factor", json!(-8.0)), "factor`: expected a number above 0"),
        (
            "/text_config/rope_scaling",
            llama3("factor", json!(1e308)),
            "factor`: expected a number above 0 that float32",
        ),
        ("/text_config/rope_scaling", llama3("low_freq_factor", json!(0.0)), "low_freq_factor`"),
        (
            "/text_config/rope_scaling",
            llama3("high_freq_factor", json!(1.0)),
            "a number above `low_freq_factor`, 1",
        ),
        (
            "/text_config/rope_scaling",
            llama3("original_max_position_embeddings", json!(0)),
            "original_max_position_embeddings`: expected a whole number from 1",
        ),
        ("/text_config/rope_scaling", json!({ "rope_type": "linear", "factor": 0.0 }), "factor`"),
        ("/text_config/rope_scaling", json!({ "rope_type": "dynamic", "factor": -1.0 }), "factor`"),
        ("/text_config/rope_scaling", yarn("factor", json!(0.0)), "factor`"),
        ("/text_config/rope_scaling", yarn("attention_factor", json!(0.0)), "attention_factor`"),
        ("/text_config/rope_scaling", yarn("beta_fast", json!(-1.0)), "beta_fast`"),
        ("/text_config/rope_scaling", yarn("beta_slow", json!(0.0)), "beta_slow`"),
        ("/text_config/rope_scaling", yarn("mscale", json!(-0.5)), "mscale`"),
        ("/text_config/rope_scaling", yarn("mscale_all_dim", json!(1e300)), "mscale_all_dim`"),
        ("/text_config/rope_scaling", yarn("original_max_position_embeddings", json!(0)), "original_max"),
        ("/text_config/rms_norm_eps", json!(1e308), "rms_norm_eps`: expected a number above 0 and below 1"),
        (
            "/text_config/rms_norm_eps",
            json!(1e-300),
            "rms_norm_eps`: expected a number above 0 that float32 holds",
        ),
        (
            "/text_config/rope_theta",
            json!(1e300),
            "rope_theta`: expected a number above 0 that float32 holds",
        ),
        (
            "/vision_config/layer_norm_eps",
            json!(1e308),
            "layer_norm_eps`: expected a number above 0 and below 1",
        ),
        (
            "/vision_config/norm_mean",
            json!([0.5, 1e300, 0.5]),
            "norm_mean`: expected numbers that float32 holds",
        ),
        (
            "/vision_config/norm_std",
            json!([0.5, -0.5, 0.5]),
            "norm_std`: expected a number above 0, found `-0.5`",
        ),
        (
            "/vision_config/norm_std",
            json!([0.5, 1e-300, 0.5]),
            "norm_std`: expected a number above 0 that float32",
        ),
        (
            "/projector_layer_norm_eps",
            json!(2.0),
            "projector_layer_norm_eps`: expected a number above 0 and below 1",
        ),
        ("/image_processor/image_std", json!([0.5, 0.0, 0.5]), "image_std`: expected a number above 0"),
        ("/image_processor/image_mean", json!([0.5, -1e300, 0.5]), "image_mean`: expected numbers"),
        ("/image_processor/rescale_factor", json!(0.0), "rescale_factor`: expected a number above 0"),
    ] {
        let message = refusal_of_config(|config| *config.pointer_mut(pointer).unwrap() = value.clone());
        assert!(message.starts_with("`DIR/config.json`: field `"), "{pointer} = {value}: {message}");
        assert!(message.contains(part), "{pointer} = {value}: {message}");
    }
    // A mean may well be 0, and `mscale` 0 counts as absent.
    for (pointer, value) in [
        ("/vision_config/norm_mean", json!([0.0, 0.0, 0.0])),
        ("/text_config/rope_scaling", yarn("mscale", json!(0.0))),
    ] {
        let mut config = normalized_config();
        *config.pointer_mut(pointer).unwrap() = value;
        let dir = sound();
        write_json(&dir.path().join("config.json"), &config);
        Checkpoint::open(dir.path()).unwrap();
    }
}

#[test]
fn a_nan_is_refused_by_its_field() {
    for (number, field) in [
        ("\"rms_norm_eps\":0.00001", "text_config.rms_norm_eps"),
        ("\"factor\":8.0", "text_config.rope_scaling.factor"),
        ("\"rescale_factor\":0.00392156862745098", "image_processor.rescale_factor"),
    ] {
        let dir = sound();
        let text = normalized_config().to_string();
        let name = number.split(':').next().unwrap();
        assert!(text.contains(number), "{text}");
        let text = text.replace(number, &format!("{name}:NaN"));
        fs::write(dir.path().join("config.json"), text).unwrap();
        let message = refusal(dir.path());
        assert!(message.ends_with(&format!("field `{field}`: expected f64, found `NaN`")), "{message}");
    }
}

#[test]
fn layers_without_tensors_are_one_problem_and_not_hundreds_of_thousands() {
    for (pointer, layers) in [("/text_config/num_hidden_layers", 2), ("/vision_config/num_hidden_layers", 3)]
    {
        let message = refusal_of_config(|config| *config.pointer_mut(pointer).unwrap() = json!(65_536));
        let field = pointer.trim_start_matches('/').replace('/', ".");
        assert_eq!(
            message,
            format!(
                "`DIR/config.json`: field `{field}`: expected `{layers}`, the layers that the tensors' names have, \
                 found `65536`"
            )
        );
    }
}

#[test]
fn metadata_may_be_null() {
    let dir = sound();
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    let null = header.replace("{\"format\":\"pt\"}", "null");
    assert_ne!(null, header);
    fs::write(&path, raw_file(&null, &bytes[8 + length..])).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert!(checkpoint.weights().files()[0].header().metadata.is_empty());
}
