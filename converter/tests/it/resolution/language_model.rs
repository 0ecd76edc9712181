//! The language model's fields: defaults, spellings of rotary scaling, dtypes.

use converter::normalized::{RopeScaling, TorchDtype};
use serde_json::{Value, json};

use super::{prepare, refusal};
use crate::hand_made_source::Source;

#[test]
fn absent_fields_of_the_language_model_take_llamas_defaults() {
    // A Llama whose every size is the default's would be large; only what no tensor depends on is taken away.
    let mut source = Source::sound();
    for field in ["rms_norm_eps", "rope_theta", "bos_token_id", "eos_token_id", "max_position_embeddings"] {
        source = source.without(&format!("/llm_config/{field}"));
    }
    let (config, findings) = prepare(&source);
    let text = config.text_config;
    assert_eq!((text.rms_norm_eps, text.rope_theta), (1e-6, 10_000.0));
    assert_eq!((text.bos_token_id, text.eos_token_id), (Some(1), vec![2]));
    assert_eq!(text.max_position_embeddings, 2048);
    let defaults: Vec<&str> = findings.defaults.iter().map(|default| default.field.as_str()).collect();
    for field in ["rms_norm_eps", "rope_theta", "bos_token_id", "eos_token_id", "initializer_range"] {
        assert!(defaults.contains(&format!("text_config.{field}").as_str()), "{field}: {defaults:?}");
    }
    assert!(!defaults.contains(&"text_config.hidden_size"));
}

#[test]
fn a_written_null_is_no_token_and_a_single_end_is_a_list() {
    let source = Source::sound()
        .with("/llm_config/bos_token_id", Value::Null)
        .with("/llm_config/eos_token_id", Value::Null);
    let text = prepare(&source).0.text_config;
    assert_eq!((text.bos_token_id, text.eos_token_id), (None, vec![]));
    let source = Source::sound().with("/llm_config/eos_token_id", json!(7));
    assert_eq!(prepare(&source).0.text_config.eos_token_id, [7]);
    assert!(
        refusal(&Source::sound().with("/llm_config/eos_token_id", json!(["x"])))
            .contains("field `llm_config.eos_token_id`: expected a token's id or a list of them")
    );
}

#[test]
fn head_dim_and_key_value_heads_follow_from_the_others() {
    let source =
        Source::sound().without("/llm_config/head_dim").with("/llm_config/num_key_value_heads", json!(null));
    let message = refusal(&source);
    // 24 / 6 = 4, and as many key-value heads as heads: the tensors say otherwise.
    assert!(message.contains("q_proj.weight`: expected shape [24, 24], found [60, 24]"), "{message}");
    assert!(message.contains("k_proj.weight`: expected shape [24, 24], found [20, 24]"), "{message}");
    let source =
        Source::sound().without("/llm_config/head_dim").with("/llm_config/num_attention_heads", json!(7));
    let message = refusal(&source);
    assert!(
        message.contains("field `llm_config.hidden_size`: expected a multiple of `num_attention_heads`, 7"),
        "{message}"
    );
}

fn llama3() -> RopeScaling {
    RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    }
}

#[test]
fn three_spellings_of_rotary_scaling_mean_the_same() {
    let numbers = json!({
        "factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192
    });
    let with = |key: &str, value: &str| {
        let mut scaling = numbers.clone();
        scaling[key] = json!(value);
        scaling
    };
    for source in [
        Source::sound().with("/llm_config/rope_scaling", with("rope_type", "llama3")),
        Source::sound().with("/llm_config/rope_scaling", with("type", "llama3")),
        Source::sound().without("/llm_config/rope_theta").with("/llm_config/rope_parameters", {
            let mut parameters = with("rope_type", "llama3");
            parameters["rope_theta"] = json!(500000.0);
            parameters
        }),
    ] {
        let text = prepare(&source).0.text_config;
        assert_eq!(text.rope_scaling, Some(llama3()));
        assert_eq!(text.rope_theta, 500_000.0);
    }
    let source = Source::sound().with("/llm_config/rope_parameters", json!({ "rope_type": "default" }));
    assert_eq!(prepare(&source).0.text_config.rope_scaling, None);
}

#[test]
fn a_base_inside_the_scaling_is_used_or_a_contradiction() {
    for scaling in [
        json!({ "rope_type": "default", "rope_theta": 500000 }),
        json!({ "rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0 }),
        json!({ "type": "dynamic", "factor": 2.0, "rope_theta": 500000.0 }),
        json!({ "type": "yarn", "factor": 2.0, "rope_theta": 500000.0 }),
    ] {
        for name in ["rope_scaling", "rope_parameters"] {
            let pointer = format!("/llm_config/{name}");
            let source = Source::sound().without("/llm_config/rope_theta").with(&pointer, scaling.clone());
            let (config, findings) = prepare(&source);
            assert_eq!(config.text_config.rope_theta, 500_000.0, "{name}: {scaling}");
            assert!(!findings.defaults.iter().any(|default| default.field == "text_config.rope_theta"));
            let message = refusal(&source.with("/llm_config/rope_theta", json!(10_000.0)));
            assert!(
                message.ends_with(&format!(
                    "field `llm_config.{name}.rope_theta`: expected `10000`, as in `llm_config.rope_theta`, found `500000`"
                )),
                "{message}"
            );
        }
    }
    let both = Source::sound()
        .without("/llm_config/rope_theta")
        .with("/llm_config/rope_scaling", json!({ "rope_type": "default", "rope_theta": 7.0 }))
        .with("/llm_config/rope_parameters", json!({ "rope_type": "default", "rope_theta": 8.0 }));
    assert!(refusal(&both).contains("expected `7`, as in `llm_config.rope_scaling.rope_theta`, found `8`"));
}

#[test]
fn numbers_that_a_type_does_not_use_are_listed() {
    for (scaling, field) in [
        (json!({ "rope_type": "default", "factor": 8.0 }), "factor"),
        (
            json!({ "rope_type": "linear", "factor": 2.0, "original_max_position_embeddings": 8192 }),
            "original_max_position_embeddings",
        ),
    ] {
        let (_, findings) = prepare(&Source::sound().with("/llm_config/rope_scaling", scaling));
        let field = format!("llm_config.rope_scaling.{field}");
        assert!(findings.ignored.iter().any(|ignored| ignored.field == field && ignored.known), "{field}");
        assert_eq!(findings.warnings, Vec::<String>::new());
    }
    let unknown = json!({ "rope_type": "default", "twist": 3 });
    let findings = prepare(&Source::sound().with("/llm_config/rope_scaling", unknown)).1;
    assert!(findings.warnings[0].contains("`llm_config.rope_scaling.twist`"), "{:?}", findings.warnings);
}

#[test]
fn other_rotary_scalings_keep_their_numbers() {
    let scaling = |value: Value| {
        prepare(&Source::sound().with("/llm_config/rope_scaling", value)).0.text_config.rope_scaling
    };
    assert_eq!(scaling(json!({ "type": "linear", "factor": 2 })), Some(RopeScaling::Linear { factor: 2.0 }));
    assert_eq!(
        scaling(json!({ "rope_type": "dynamic", "factor": 2.5 })),
        Some(RopeScaling::Dynamic { factor: 2.5, original_max_position_embeddings: None })
    );
    assert_eq!(
        scaling(json!({ "rope_type": "yarn", "factor": 4.0, "beta_fast": 30.0, "truncate": false })),
        Some(RopeScaling::Yarn {
            factor: 4.0,
            original_max_position_embeddings: None,
            attention_factor: None,
            beta_fast: Some(30.0),
            beta_slow: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: Some(false),
        })
    );
}

#[test]
fn rotary_scalings_that_would_be_guessed_are_refused() {
    for (value, part) in [
        (json!({ "rope_type": "longrope", "factor": 2.0 }), "found `\"longrope\"`: this stretch"),
        (json!({ "factor": 2.0 }), "field `llm_config.rope_scaling.rope_type`: expected a text, found none"),
        (
            json!({ "rope_type": "linear" }),
            "field `llm_config.rope_scaling.factor`: expected a number, found none",
        ),
        (json!({ "rope_type": "linear", "factor": 0 }), "expected a number above 0, found `0`"),
        (
            json!({ "rope_type": "linear", "factor": 2.0, "twist": 3 }),
            "field `llm_config.rope_scaling.twist`: expected no such field, found `3`",
        ),
        (
            json!({ "rope_type": "linear", "type": "dynamic", "factor": 2.0 }),
            "expected `\"linear\"`, as in `rope_type`, found `\"dynamic\"`",
        ),
        (
            json!({ "rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 9 }),
            "high_freq_factor`: expected a number above `low_freq_factor`, 4, found `4`",
        ),
        (
            json!({ "rope_type": "default", "partial_rotary_factor": 0.5 }),
            "rotating part of a head is not supported",
        ),
    ] {
        let message = refusal(&Source::sound().with("/llm_config/rope_scaling", value.clone()));
        assert!(message.contains(part), "{value}: {message}");
    }
    let source = Source::sound()
        .with("/llm_config/rope_scaling", json!({ "rope_type": "linear", "factor": 2.0 }))
        .with("/llm_config/rope_parameters", json!({ "rope_type": "linear", "factor": 3.0 }));
    assert!(
        refusal(&source).contains("expected the same scaling as in `llm_config.rope_scaling`, found another")
    );
    let source = Source::sound()
        .with("/llm_config/rope_parameters", json!({ "rope_type": "default", "rope_theta": 7.0 }));
    assert!(refusal(&source).contains("expected `500000`, as in `llm_config.rope_theta`, found `7`"));
}

#[test]
fn dtypes_have_two_spellings_and_may_be_absent() {
    let source = Source::sound()
        .without("/torch_dtype")
        .with("/dtype", json!("float16"))
        .without("/llm_config/torch_dtype")
        .with("/vision_config/args/dtype", json!("torch.float32"));
    let config = prepare(&source).0;
    assert_eq!(config.torch_dtype, TorchDtype::Float16);
    assert_eq!(config.text_config.torch_dtype, TorchDtype::Float16);
    assert_eq!(config.vision_config.dtype, TorchDtype::Float32);
    let source = Source::sound().without("/vision_config/args/dtype");
    assert_eq!(prepare(&source).0.vision_config.dtype, TorchDtype::Float32);
    let message = refusal(&Source::sound().with("/dtype", json!("float16")));
    assert!(
        message.contains("field `torch_dtype`: expected `float16`, as in `dtype`, found `bfloat16`"),
        "{message}"
    );
    let message = refusal(&Source::sound().with("/torch_dtype", json!("int8")));
    assert!(message.contains("expected `float32`, `bfloat16` or `float16`, found `\"int8\"`"), "{message}");
}
