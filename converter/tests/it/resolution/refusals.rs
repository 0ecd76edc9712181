//! What is not supported, and fields that contradict each other.

use converter::Error;
use converter::resolve::Settings;
use serde_json::json;

use super::{prepare_with, refusal};
use crate::hand_made_source::Source;

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
            "/vision_config/args/model_kwargs/global_pool",
            json!("avg"),
            "field `vision_config.args.model_kwargs.global_pool`: expected `null` or `\"token\"`, found `\"avg\"`",
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
            "field `vision_config.args.model_kwargs.act_layer`: expected `null` or `\"\"` or `\"gelu\"`, found",
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
fn more_layers_than_tensors_are_refused_at_once_by_their_field() {
    for (pointer, layers) in
        [("/llm_config/num_hidden_layers", 2), ("/vision_config/args/model_kwargs/depth", 3)]
    {
        let message = refusal(&Source::sound().with(pointer, json!(65_536)));
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let expected = format!(
            "field `{field}`: expected `{layers}`, the layers that the tensors' names have, found `65536`"
        );
        assert!(message.ends_with(&expected), "{message}");
    }
}

#[test]
fn traces_of_training_are_taken_unless_a_weight_is_parametrized() {
    for (pointer, value) in [
        ("/vision_config/args/damp", json!(0.1)),
        ("/vision_config/args/spectral_reparam", json!(true)),
        ("/vision_config/args/spectral_reparam", json!({ "eps": 1e-12 })),
    ] {
        let source = Source::sound().with(pointer, value);
        let (_, findings) = super::prepare(&source);
        let field = pointer.trim_start_matches('/').replace('/', ".");
        assert!(findings.ignored.iter().any(|ignored| ignored.field == field && ignored.known), "{field}");
        assert_eq!(findings.warnings, Vec::<String>::new());
        for name in [
            "vision_model.radio_model.model.blocks.0.mlp.fc1.parametrizations.weight.original",
            "vision_model.radio_model.model.blocks.0.attn.qkv.parametrizations.weight.0.parts.0.scale",
            "mlp1.1.parametrizations.weight.0.scale",
        ] {
            let message = refusal(&source.clone().with_tensor(name, safetensors::Dtype::BF16, &[2]));
            let expected =
                format!("tensor `{name}`: expected no such tensor, found it: parametrized weights");
            assert!(message.contains(&expected), "{message}");
            assert!(message.contains("`remove_parametrizations`"), "{message}");
        }
    }
}

#[test]
fn options_of_the_tower_are_taken_with_timms_own_defaults() {
    for (option, values) in [
        ("qk_norm", vec![json!(false), json!(0), json!(null)]),
        ("fc_norm", vec![json!(null), json!(false)]),
        ("final_norm", vec![json!(true)]),
        ("global_pool", vec![json!("token")]),
        ("pos_embed", vec![json!("learn")]),
        ("reg_tokens", vec![json!(0), json!(0.0)]),
        ("scale_attn_norm", vec![json!(false)]),
        ("act_layer", vec![json!(null), json!("gelu")]),
        ("norm_layer", vec![json!("layernorm")]),
        ("attn_layer", vec![json!(null)]),
        ("dynamic_img_size", vec![json!(true), json!(false)]),
        ("drop_path_rate", vec![json!(0.4)]),
    ] {
        for value in values {
            let pointer = format!("/vision_config/args/model_kwargs/{option}");
            let (_, findings) = super::prepare(&Source::sound().with(&pointer, value.clone()));
            let field = pointer.trim_start_matches('/').replace('/', ".");
            assert!(
                findings.ignored.iter().any(|ignored| ignored.field == field && ignored.known),
                "{field} = {value}"
            );
            assert_eq!(findings.warnings, Vec::<String>::new(), "{field} = {value}");
        }
    }
}

#[test]
fn a_buffer_that_nothing_can_be_computed_with_is_refused_by_its_tensor() {
    for (name, values, expected, found) in [
        ("norm_mean", [0.5, f32::NAN, 0.5], "finite numbers", "NaN"),
        ("norm_mean", [0.5, f32::INFINITY, 0.5], "finite numbers", "inf"),
        ("norm_std", [0.5, 0.0, 0.5], "numbers above 0", "0"),
        ("norm_std", [0.5, f32::NAN, 0.5], "numbers above 0", "NaN"),
    ] {
        let name = format!("vision_model.radio_model.input_conditioner.{name}");
        let mut source = Source::sound().without_tensor(&name);
        source.tensors.push(crate::hand_made_source::bf16s(&name, values));
        let message = refusal(&source);
        assert!(
            message.ends_with(&format!("tensor `{name}`: expected {expected}, found `{found}`")),
            "{message}"
        );
    }
}
