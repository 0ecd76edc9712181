//! From the source's configuration to the normalized one: values, defaults, behaviours, refusals.

use converter::normalized::{Config, RopeScaling, TorchDtype};
use converter::plan::{PlanOptions, ShardSize};
use converter::resolve::{Findings, Settings};
use converter::source::{Evidence, Location};
use converter::{Conversion, Error};
use serde_json::{Value, json};

use crate::hand_made::Made;
use crate::hand_made_source::{Source, summary_idxs};

fn prepare_with(source: &Source, settings: Settings) -> Result<Conversion, Box<(Error, String)>> {
    let dir = source.write();
    let options = PlanOptions { dtype: None, max_shard_size: ShardSize::default() };
    let location = Location::parse(dir.path().to_str().unwrap());
    Conversion::prepare(location, settings, options).map_err(|error| {
        let message = error.to_string().replace(dir.path().to_str().unwrap(), "DIR");
        Box::new((error, message))
    })
}

fn prepare(source: &Source) -> (Config, Findings) {
    match prepare_with(source, Settings::default()) {
        Ok(conversion) => (conversion.config().clone(), conversion.findings().clone()),
        Err(refusal) => panic!("{}", refusal.1),
    }
}

fn refusal(source: &Source) -> String {
    prepare_with(source, Settings::default()).expect_err("refused").1
}

fn evidence<'a>(findings: &'a Findings, name: &str) -> &'a Evidence {
    &findings.behaviours.iter().find(|behaviour| behaviour.name == name).unwrap().evidence
}

#[test]
fn every_field_of_a_sound_source_is_resolved() {
    let (config, findings) = prepare(&Source::sound());
    let expected = json!({
        "format": "nemotron-vl",
        "format_version": 1,
        "architectures": ["Llama_Nemotron_Nano_VL"],
        "model_type": "Llama_Nemotron_Nano_VL",
        "text_config": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": 40,
            "hidden_size": 24,
            "intermediate_size": 28,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "initializer_range": 0.02,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "rope_scaling": null,
            "attention_bias": false,
            "attention_dropout": 0.0,
            "mlp_bias": false,
            "tie_word_embeddings": false,
            "bos_token_id": 1,
            "eos_token_id": [2, 3],
            "pad_token_id": null,
            "pretraining_tp": 1,
            "use_cache": true,
            "torch_dtype": "bfloat16"
        },
        "vision_config": {
            "model_type": "radio",
            "hidden_size": 12,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "mlp_ratio": 4.0,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "qkv_bias": true,
            "num_channels": 3,
            "patch_size": 4,
            "image_size": 16,
            "max_img_size": 20,
            "num_cls_tokens": 3,
            "num_registers": 5,
            "summary_idxs": [0, 1],
            "norm_mean": [0.5, 0.25, 0.125],
            "norm_std": [0.375, 0.75, 1.0],
            "layerscale_value": null,
            "model_norm": false,
            "dtype": "bfloat16",
            "position_interpolation_align_corners": true
        },
        "downsample_ratio": 0.5,
        "ps_version": "v2",
        "projector_hidden_size": 36,
        "vision_hidden_size": 12,
        "projector_layer_norm_eps": 1e-5,
        "image_seq_length": 4,
        "image_tag_type": "internvl",
        "image_token": "<image>",
        "image_token_id": 5,
        "image_start_token": "<img>",
        "image_end_token": "</img>",
        "torch_dtype": "bfloat16",
        "image_processor": {
            "image_size": 16,
            "max_num_tiles": 7,
            "use_thumbnail": false,
            "upscale_factor": 2,
            "do_rescale": true,
            "rescale_factor": 0.00392156862745098,
            "do_normalize": false,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711]
        }
    });
    assert_eq!(serde_json::to_value(&config).unwrap(), expected);
    assert_eq!(findings.warnings, Vec::<String>::new());
    let ignored: Vec<&str> = findings.ignored.iter().map(|field| field.field.as_str()).collect();
    assert!(ignored.contains(&"vision_config.args.lr"), "{ignored:?}");
    assert!(!ignored.contains(&"vision_config.args.dtype"), "{ignored:?}");
}

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
fn registers_fill_up_to_the_next_multiple() {
    // Cases of (multiple, asked for) with 3 class tokens, and the registers that follow.
    for (multiple, asked, registers) in [
        (json!(8), Value::Null, 5),
        (json!(3), Value::Null, 3),
        (json!(1), Value::Null, 1),
        (json!(0), Value::Null, 0),
        (Value::Null, Value::Null, 0),
        (json!(8), json!(2), 2),
        (json!(8), json!(0), 5),
        (Value::Null, json!(4), 4),
    ] {
        let mut source = Source::sound()
            .with("/vision_config/args/register_multiple", multiple.clone())
            .with("/vision_config/args/cpe_num_registers", asked.clone());
        let name = "vision_model.radio_model.model.patch_generator.cls_token.token";
        source = source.without_tensor(name);
        source.tensors.push(Made::new(name, safetensors::Dtype::BF16, &[3 + registers, 12]));
        assert_eq!(prepare(&source).0.vision_config.num_registers, registers, "{multiple}, {asked}");
    }
}

#[test]
fn class_tokens_are_the_distinct_teachers_or_one() {
    let name = "vision_model.radio_model.model.patch_generator.cls_token.token";
    let teachers = json!([{ "name": "clip" }, { "name": "clip", "use_summary": null }, { "name": "sam", "use_summary": false }]);
    let mut source = Source::sound().with("/vision_config/args/teachers", teachers).without_tensor(name);
    source.tensors.push(Made::new(name, safetensors::Dtype::BF16, &[8, 12]));
    let tower = prepare(&source).0.vision_config;
    assert_eq!((tower.num_cls_tokens, tower.num_registers, tower.summary_idxs), (2, 6, vec![0]));

    let source = source.with("/vision_config/args/cls_token_per_teacher", json!(false));
    let tower = prepare(&source).0.vision_config;
    assert_eq!((tower.num_cls_tokens, tower.num_registers), (1, 7));
}

#[test]
fn the_position_table_is_rounded_to_whole_patches() {
    // 21 / 4 = 5.25 rounds to 5; 22 / 4 = 5.5 is a tie and rounds to the even 6, of which there are too few positions.
    let source = Source::sound().with("/vision_config/args/cpe_max_size", json!(21));
    assert_eq!(prepare(&source).0.vision_config.max_img_size, 20);
    let message = refusal(&Source::sound().with("/vision_config/args/cpe_max_size", json!(22)));
    assert!(message.contains("pos_embed`: expected shape [1, 36, 12], found [1, 25, 12]"), "{message}");
    let message = refusal(&Source::sound().with("/vision_config/args/cpe_max_size", json!(224)));
    assert!(message.contains("a size other than the registered 224"), "{message}");
}

#[test]
fn layer_scale_and_the_final_norm_are_known_by_their_arguments() {
    for leaf in ["gamma", "grandma"] {
        let mut source = Source::sound()
            .with("/vision_config/args/model_kwargs/init_values", json!(1e-5))
            .with("/vision_config/args/model_norm", json!(true));
        for i in 0..3 {
            for scale in ["ls1", "ls2"] {
                let name = format!("vision_model.radio_model.model.blocks.{i}.{scale}.{leaf}");
                source = source.with_tensor(&name, safetensors::Dtype::BF16, &[12]);
            }
        }
        for name in ["weight", "bias"] {
            let name = format!("vision_model.radio_model.model.norm.{name}");
            source = source.with_tensor(&name, safetensors::Dtype::BF16, &[12]);
        }
        let tower = prepare(&source).0.vision_config;
        assert_eq!((tower.layerscale_value, tower.model_norm), (Some(1e-5), true));
        let message = refusal(&source.with("/vision_config/args/model_norm", json!(false)));
        assert!(
            message.contains("tensor `vision_model.radio_model.model.norm.weight`: expected no such tensor"),
            "{message}"
        );
    }
    // timm builds no LayerScale for 0.
    let source = Source::sound().with("/vision_config/args/model_kwargs/init_values", json!(0.0));
    assert_eq!(prepare(&source).0.vision_config.layerscale_value, None);
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

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (pointer, value, part) in [
        (
            "/vision_config/vitdet_window_size",
            json!(14),
            "field `vision_config.vitdet_window_size`: expected `null`, found `14`",
        ),
        (
            "/vision_config/adaptor_names",
            json!(["clip"]),
            "field `vision_config.adaptor_names`: expected `null`, found `[\"clip\"]`",
        ),
        (
            "/vision_config/feature_normalizer_config",
            json!({ "embed_dim": 12 }),
            "field `vision_config.feature_normalizer_config`",
        ),
        (
            "/vision_config/inter_feature_normalizer_config",
            json!({ "embed_dim": 12 }),
            "field `vision_config.inter_feature_normalizer_config`",
        ),
        (
            "/vision_config/args/spectral_reparam",
            json!(true),
            "field `vision_config.args.spectral_reparam`: expected `null` or `false`, found `true`",
        ),
        (
            "/vision_config/args/model",
            json!("eradio"),
            "field `vision_config.args.model`: expected one of `vit_tiny_patch14_224`",
        ),
        (
            "/vision_config/args/model",
            json!("vit_huge_patch16_224_mlpnorm"),
            "found `\"vit_huge_patch16_224_mlpnorm\"`",
        ),
        (
            "/vision_config/args/model_kwargs/qk_norm",
            json!(true),
            "field `vision_config.args.model_kwargs.qk_norm`: expected `null` or `false`, found `true`",
        ),
        (
            "/vision_config/args/model_kwargs/act_layer",
            json!("silu"),
            "field `vision_config.args.model_kwargs.act_layer`: expected `null`, found",
        ),
        (
            "/vision_config/args/model_kwargs/novelty",
            json!(1),
            "field `vision_config.args.model_kwargs.novelty`: expected no such option",
        ),
        (
            "/vision_config/args/in_chans",
            json!(4),
            "field `vision_config.args.in_chans`: expected 3 channels, found `4`",
        ),
        (
            "/vision_config/args/input_size",
            json!([1, 224, 224]),
            "field `vision_config.args.input_size`: expected 3 channels",
        ),
        ("/vision_config/args/cpe_max_size", json!(null), "field `vision_config.args.cpe_max_size`"),
        ("/vision_config/architectures", json!(["SiglipModel"]), "only C-RADIO is supported"),
        ("/vision_config/model_type", json!("siglip"), "field `vision_config.model_type`: expected `radio`"),
        (
            "/llm_config/model_type",
            json!("nemotron_h"),
            "field `llm_config.model_type`: expected `llama`, found `\"nemotron_h\"`",
        ),
        ("/llm_config/architectures", json!(["MambaForCausalLM"]), "field `llm_config.architectures`"),
        (
            "/llm_config/hidden_act",
            json!("gelu"),
            "field `llm_config.hidden_act`: expected `silu`, found `\"gelu\"`",
        ),
        ("/llm_config/sliding_window", json!(4096), "field `llm_config.sliding_window`"),
        ("/select_layer", json!(-2), "field `select_layer`: expected `null` or `-1`, found `-2`"),
        (
            "/model_type",
            json!("NemotronH_Nano_VL_V2"),
            "field `model_type`: expected `\"Llama_Nemotron_Nano_VL\"`, found `\"NemotronH_Nano_VL_V2\"`",
        ),
        ("/architectures", json!(["NemotronH_Nano_VL_V2"]), "field `architectures`"),
        ("/ps_version", json!("v3"), "field `ps_version`: expected `v1` or `v2`, found `\"v3\"`"),
        ("/format", json!("nemotron-vl"), "this checkpoint is normalized already"),
    ] {
        let source = Source::sound().with(pointer, value.clone());
        let (error, message) = *prepare_with(&source, Settings::default()).expect_err(pointer);
        assert!(matches!(error, Error::Unsupported { .. }), "{pointer}: {message}");
        assert!(message.starts_with("`DIR/config.json`: field `"), "{pointer}: {message}");
        assert!(message.contains(part), "{pointer}: {message}");
    }
}

#[test]
fn fields_that_contradict_each_other_are_refused_under_the_sources_names() {
    for (pointer, value, part) in [
        ("/patch_size", json!(8), "field `patch_size`: expected `4`, the tower's, found `8`"),
        (
            "/vision_config/patch_size",
            json!(8),
            "field `vision_config.patch_size`: expected `4`, by `vision_config.args.model`",
        ),
        ("/force_image_size", json!(null), "field `force_image_size`: expected a size in pixels, found none"),
        (
            "/force_image_size",
            json!(32),
            "`DIR/preprocessor_config.json`: field `image_size`: expected `32`, as `force_image_size`",
        ),
        ("/vit_hidden_size", json!(13), "field `vit_hidden_size`: expected `12`, found `13`"),
        (
            "/llm_config/num_key_value_heads",
            json!(4),
            "field `llm_config.num_attention_heads`: expected a multiple of 4",
        ),
        (
            "/vision_config/args/model_kwargs/num_heads",
            json!(5),
            "field `vision_config.args.model_kwargs.embed_dim`: expected a multiple of 5",
        ),
        ("/llm_config", json!(null), "field `llm_config`: expected an object, found none"),
        ("/vision_config/args", json!(7), "field `vision_config.args`: expected an object, found `7`"),
        (
            "/vision_config/args/teachers",
            json!(null),
            "field `vision_config.args.teachers`: expected a list of teachers, found none",
        ),
        (
            "/vision_config/args/teachers",
            json!([{}]),
            "field `vision_config.args.teachers[0].name`: expected a text, found none",
        ),
        (
            "/vision_config/args/cls_token_per_teacher",
            json!(1),
            "field `vision_config.args.cls_token_per_teacher`",
        ),
        (
            "/vision_config/args/model_kwargs/patch_size",
            json!(0),
            "field `vision_config.args.model_kwargs.patch_size`",
        ),
        (
            "/image_tag_type",
            json!("html"),
            "field `image_tag_type`: expected `internvl` or `nvlm`, found `\"html\"`",
        ),
        ("/downsample_ratio", json!("half"), "field `downsample_ratio`: expected a number, found `\"half\"`"),
        ("/downsample_ratio", json!(0.0), "field `downsample_ratio`"),
        (
            "/llm_config/vocab_size",
            json!(5),
            "field `image_token_id`: expected ids below `vocab_size`, 5, found `5`",
        ),
        (
            "/llm_config/num_hidden_layers",
            json!(-1),
            "field `llm_config.num_hidden_layers`: expected a whole number, found `-1`",
        ),
        (
            "/llm_config/num_hidden_layers",
            json!(u64::MAX),
            "field `llm_config.num_hidden_layers`: expected a whole number from 1 to 65536",
        ),
        ("/force_image_size", json!(u64::MAX), "expected `18446744073709551615`"),
        ("/vision_config/args/cpe_max_size", json!(u64::MAX), "field `vision_config.args.cpe_max_size`"),
        (
            "/vision_config/args/model_kwargs/embed_dim",
            json!(u64::MAX),
            "field `vision_config.args.model_kwargs.embed_dim`: expected a whole number from 1 to 2147483647",
        ),
    ] {
        let message = refusal(&Source::sound().with(pointer, value.clone()));
        assert!(message.contains(part), "{pointer} = {value}: {message}");
    }
}

#[test]
fn the_image_processor_must_agree_and_its_defaults_are_recorded() {
    let mut source = Source::sound();
    source.preprocessor["image_size"] = json!(512);
    assert_eq!(
        refusal(&source),
        "`DIR/preprocessor_config.json`: field `image_size`: expected `16`, as `force_image_size` in `config.json`, found `512`"
    );
    source.preprocessor = json!({});
    assert!(refusal(&source).contains("found none, which `LlamaNemotronNanoVLImageProcessor` takes for 512"));
    source.preprocessor = json!({ "image_size": 16 });
    let (config, findings) = prepare(&source);
    assert_eq!((config.image_processor.max_num_tiles, config.image_processor.use_thumbnail), (12, true));
    assert!(!config.image_processor.do_rescale);
    assert!(matches!(evidence(&findings, "image_processor.max_num_tiles"), Evidence::Assumed { .. }));
    // A written `null` is Python's false, and no assumption.
    source.preprocessor = json!({ "image_size": 16, "use_thumbnail": null, "do_rescale": null });
    let (config, findings) = prepare(&source);
    assert_eq!((config.image_processor.use_thumbnail, config.image_processor.do_rescale), (false, false));
    assert!(!findings.behaviours.iter().any(|behaviour| behaviour.name == "image_processor.use_thumbnail"));
    source.preprocessor = json!({ "image_size": 16, "do_normalize": true });
    assert!(refusal(&source).contains("field `image_mean`: expected 3 numbers, found none"));
    source.preprocessor = json!({ "image_size": 16, "image_processor_type": "CLIPImageProcessor" });
    assert!(refusal(&source).contains("field `image_processor_type`"));
}

#[test]
fn the_image_token_comes_from_the_tokenizer() {
    let mut source = Source::sound();
    source.tokenizer = json!({ "added_tokens": [], "model": { "vocab": { "<image>": 9 } } });
    source.tokenizer_config = json!({});
    assert_eq!(prepare(&source).0.image_token_id, 9);
    source.tokenizer_config = json!({ "added_tokens_decoder": { "8": { "content": "<image>" } } });
    assert!(refusal(&source).contains(
        "field `added_tokens_decoder.8`: expected the image token `<image>` at id 9, as in `tokenizer.json`, found id 8"
    ));
    source.tokenizer = json!({ "added_tokens": [], "model": {} });
    assert_eq!(
        refusal(&source),
        "`DIR/tokenizer.json`: field `added_tokens`: expected the image token `<image>`, found no token of this text"
    );
}

#[test]
fn buffers_win_over_arguments_and_a_contradiction_is_told() {
    let mut source = Source::sound();
    source.tensors.push(summary_idxs(&[0, 2]));
    let (config, findings) = prepare(&source);
    assert_eq!(config.vision_config.summary_idxs, [0, 2]);
    assert_eq!(findings.warnings.len(), 1);
    assert!(findings.warnings[0].contains("`summary_idxs` is [0, 2] as stored and [0, 1] by the teachers"));

    let mut source = Source::sound();
    source.tensors.push(summary_idxs(&[3]));
    assert!(
        refusal(&source)
            .contains("field `vision_config.args.teachers`: expected indices below `num_cls_tokens`, 3")
    );
    let mut source = Source::sound();
    source.tensors.push(summary_idxs(&[-1]));
    assert!(refusal(&source).contains("summary_idxs`: expected indices from 0, found `-1`"));
}

#[test]
fn a_checkpoint_without_its_conditioner_is_assumed_to_have_clips() {
    let source = Source::sound()
        .without_tensor("vision_model.radio_model.input_conditioner.norm_mean")
        .without_tensor("vision_model.radio_model.input_conditioner.norm_std");
    let (config, findings) = prepare(&source);
    assert_eq!(config.vision_config.norm_mean, [0.48145466, 0.4578275, 0.40821073]);
    assert_eq!(config.vision_config.norm_std, [0.26862954, 0.26130258, 0.27577711]);
    assert!(matches!(evidence(&findings, "vision_config.norm_std"), Evidence::Assumed { .. }));
}

#[test]
fn align_corners_is_given_read_or_assumed() {
    const NAME: &str = "position_interpolation_align_corners";
    let (config, findings) = prepare(&Source::sound());
    assert!(config.vision_config.position_interpolation_align_corners);
    let Evidence::Assumed { settled_by, .. } = evidence(&findings, NAME) else { panic!("assumed") };
    assert_eq!(settled_by, "`--align-corners`");

    let settings = Settings { align_corners: Some(false), ..Settings::default() };
    let conversion = prepare_with(&Source::sound(), settings).ok().unwrap();
    assert!(!conversion.config().vision_config.position_interpolation_align_corners);
    let flag = "--align-corners false".to_string();
    assert_eq!(*evidence(conversion.findings(), NAME), Evidence::CommandLine { flag });

    let mut source = Source::sound();
    source.files.push(("vit_patch_generator.py".into(), "raise SystemExit\n".into()));
    let findings = prepare(&source).1;
    assert!(matches!(evidence(&findings, NAME), Evidence::Assumed { .. }));
    assert_eq!(
        findings.warnings[0],
        "`vit_patch_generator.py`: `position_interpolation_align_corners` cannot be told: it has no method \
         `_get_pos_embeddings`"
    );
}

#[test]
fn an_absent_pixel_shuffle_is_the_class_default_and_an_assumption() {
    let (config, findings) = prepare(&Source::sound().without("/ps_version"));
    assert_eq!(serde_json::to_value(config.ps_version).unwrap(), "v1");
    assert!(matches!(evidence(&findings, "ps_version"), Evidence::Assumed { .. }));
    assert!(matches!(evidence(&prepare(&Source::sound()).1, "ps_version"), Evidence::SourceFile { .. }));
}

#[test]
fn strict_names_every_assumption_and_what_settles_it() {
    let conversion = prepare_with(&Source::sound().without("/ps_version"), Settings::default()).ok().unwrap();
    let error = conversion.findings().refuse_assumptions().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`--strict` refuses an assumption: behaviour `ps_version`: expected evidence, found `\"v1\"` assumed, which the \
         field `ps_version`, once written, settles; behaviour `position_interpolation_align_corners`: expected \
         evidence, found `true` assumed, which `--align-corners` settles; behaviour `upscale_factor`: expected \
         evidence, found `2` assumed, which `--upscale-factor` settles"
    );
    let settings = Settings { align_corners: Some(true), upscale_factor: Some(3), ..Settings::default() };
    let conversion = prepare_with(&Source::sound(), settings).ok().unwrap();
    conversion.findings().refuse_assumptions().unwrap();
    assert_eq!(conversion.config().image_processor.upscale_factor, 3);
}

#[test]
fn a_field_that_nobody_knows_is_listed_and_warned_of() {
    let source = Source::sound().with("/llm_config/mystery", json!(1)).with("/riddle", json!(true));
    let findings = prepare(&source).1;
    assert_eq!(findings.warnings.len(), 2, "{:?}", findings.warnings);
    assert!(findings.warnings[0].contains("`llm_config.mystery`"));
    assert!(findings.warnings[1].contains("`riddle`"));
    let unknown: Vec<&str> =
        findings.ignored.iter().filter(|field| !field.known).map(|field| field.field.as_str()).collect();
    assert_eq!(unknown, ["llm_config.mystery", "riddle"]);
}
