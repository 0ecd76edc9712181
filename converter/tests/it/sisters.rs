//! Sisters of the model: towers of other sizes convert; quantized ones and other architectures are refused by name.

use std::fs;

use converter::normalized::{Checkpoint, Config};
use converter::plan::PlanOptions;
use converter::resolve::Settings;
use converter::source::Location;
use converter::{Conversion, Error};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::conversion::convert;
use crate::hand_made::{Made, write_json};
use crate::hand_made_source::{Source, summary_idxs};

const KEEP: PlanOptions = PlanOptions::KEEP;

fn refusal(source: &Source, extra: Option<(&str, Value)>) -> (Error, String) {
    let dir = source.write();
    if let Some((name, value)) = extra {
        write_json(&dir.path().join(name), &value);
    }
    let location = Location::parse(dir.path().to_str().unwrap());
    let error = Conversion::prepare(location, Settings::default(), KEEP).expect_err("refused");
    let message = error.to_string().replace(dir.path().to_str().unwrap(), "DIR");
    (error, message)
}

/// What a tower's arguments resolve to; sizes alone, without weights of that size.
fn tower(args: Value) -> String {
    let mut source = Source::sound();
    source.config["vision_config"]["args"]["model_kwargs"] = json!({});
    for (name, value) in args.as_object().unwrap() {
        source.config["vision_config"]["args"][name] = value.clone();
    }
    // The plan is refused, since the weights are the small tower's: the shapes that are missing tell the configuration.
    refusal(&source, None).1
}

#[test]
fn towers_of_every_released_size_are_known() {
    for (model, width, mlp, patch, last) in [
        ("vit_base_patch16_224", 768, 3072, 16, 11),
        ("vit_large_patch16_224", 1024, 4096, 16, 23),
        ("vit_so400m_patch16_224", 1152, 4304, 16, 26),
        ("vit_so400m_v2_patch16_224", 1152, 4320, 16, 26),
        ("vit_huge_patch16_224", 1280, 5120, 16, 31),
        ("vit_giant_patch16_224", 1536, 6144, 16, 39),
    ] {
        let mut source = Source::sound();
        source.config["force_image_size"] = json!(64);
        source.preprocessor["image_size"] = json!(64);
        source.config["patch_size"] = json!(patch);
        source.config["vit_hidden_size"] = json!(width);
        source.config["vision_config"]["patch_size"] = json!(patch);
        source.config["vision_config"]["args"]["model"] = json!(model);
        source.config["vision_config"]["args"]["model_kwargs"] = json!({});
        source.config["vision_config"]["args"]["cpe_max_size"] = json!(2048);
        let (error, _) = refusal(&source, None);
        let Error::Tensors { problems, .. } = error else { panic!("{model}: {error}") };
        let all = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let tower = "vision_model.radio_model.model";
        for expected in [
            format!("`{tower}.patch_generator.pos_embed`: expected shape [1, 16384, {width}], found"),
            format!("`{tower}.blocks.0.mlp.fc1.weight`: expected shape [{mlp}, {width}], found"),
            format!(
                "`{tower}.blocks.{last}.attn.qkv.weight`: expected shape [{}, {width}], found",
                3 * width
            ),
        ] {
            assert!(all.contains(&expected), "{model}: {expected}");
        }
        assert!(!all.contains(&format!("blocks.{}.", last + 1)), "{model}");
    }
}

#[test]
fn a_tower_that_nobody_knows_is_refused_by_name() {
    for model in [
        "vit_giant_patch14_reg4_dinov2",
        "vit_huge_patch16_224_mlpnorm",
        "eradio",
        "vit_large_dyt_patch16_224",
    ] {
        let message = tower(json!({ "model": model }));
        assert!(message.contains(&format!("found `\"{model}\"`: this tower is not supported")), "{message}");
    }
    let message = tower(json!({ "model_kwargs": { "scaled_ln": true } }));
    assert!(message.contains("field `vision_config.args.model_kwargs.scaled_ln`"), "{message}");
}

/// A sound source whose tower has one class token, and so many registers.
fn one_class_token(registers: usize) -> Source {
    let mut source = Source::sound()
        .with("/vision_config/args/cls_token_per_teacher", json!(false))
        .with("/vision_config/args/register_multiple", json!(null))
        .with("/vision_config/args/cpe_num_registers", json!(registers));
    let name = "vision_model.radio_model.model.patch_generator.cls_token.token";
    source = source.without_tensor(name).with_tensor(name, Dtype::BF16, &[1 + registers, 12]);
    source
}

#[test]
fn a_tower_with_one_class_token_for_all_teachers_converts() {
    for registers in [0, 4] {
        for has_buffer in [false, true] {
            let mut source = one_class_token(registers);
            if has_buffer {
                source.tensors.push(summary_idxs(&[0, 1]));
            }
            let (_parent, out, ledger) = convert(source.write().path(), Settings::default(), KEEP);
            let checkpoint = Checkpoint::open(&out).unwrap();
            let config: &Config = checkpoint.config();
            assert_eq!(config.vision_config.num_cls_tokens, 1);
            assert_eq!(config.vision_config.num_registers, registers);
            assert_eq!(config.vision_config.summary_idxs, [0]);
            assert_eq!(ledger.warnings, Vec::<String>::new());
        }
    }
}

const QKV: &str = "language_model.model.layers.0.self_attn.q_proj";

#[test]
fn quantized_sisters_are_refused_with_scheme_and_first_tensor() {
    let with = |names: &[(&str, Dtype)]| {
        let mut source = Source::sound();
        for (name, dtype) in names {
            let name = format!("{QKV}.{name}");
            source.tensors.retain(|tensor| tensor.name != name);
            source.tensors.push(Made::new(&name, *dtype, &[8]));
        }
        source
    };
    let fp8 = with(&[("weight", Dtype::F8_E4M3), ("weight_scale", Dtype::F32), ("input_scale", Dtype::F32)]);
    let nvfp4 =
        with(&[("weight", Dtype::U8), ("weight_scale", Dtype::F8_E4M3), ("weight_scale_2", Dtype::F32)]);
    let awq = with(&[("qweight", Dtype::I32), ("qzeros", Dtype::I32), ("scales", Dtype::F16)]);
    let model_opt = |algorithm: &str| json!({ "quantization": { "quant_algo": algorithm } });
    for (source, file, field, scheme, tensor, dtype) in [
        (&fp8, Some(model_opt("FP8")), None, "FP8", "input_scale", "F32"),
        (&fp8, None, None, "FP8", "input_scale", "F32"),
        (&nvfp4, Some(model_opt("NVFP4")), None, "NVFP4", "weight_scale_2", "F32"),
        (&nvfp4, None, None, "NVFP4", "weight_scale_2", "F32"),
        (&awq, None, Some(json!({ "quant_method": "awq", "bits": 4 })), "awq", "qweight", "I32"),
        (&awq, None, None, "AWQ or GPTQ", "qweight", "I32"),
        (
            &fp8,
            None,
            Some(json!({ "quant_method": "modelopt", "quant_algo": "FP8" })),
            "FP8",
            "input_scale",
            "F32",
        ),
    ] {
        let mut source = source.clone();
        if let Some(field) = field {
            source.config["quantization_config"] = field;
        }
        let (error, message) = refusal(&source, file.map(|value| ("hf_quant_config.json", value)));
        let Error::Quantized { scheme: found, tensor: first, .. } = &error else { panic!("{error}") };
        assert_eq!(found, scheme);
        // The file has the wider dtypes first, and then goes by name.
        assert_eq!(*first, format!("`{QKV}.{tensor}` of dtype `{dtype}`"));
        assert!(
            message.starts_with("`DIR`: expected weights in `F32`, `BF16` or `F16`, found a checkpoint"),
            "{message}"
        );
        assert_eq!(error.hint().as_deref(), Some("convert the release that it was quantized from"));
    }
}

#[test]
fn a_configuration_alone_is_enough_to_be_quantized_and_an_empty_one_is_not() {
    for place in ["", "/llm_config", "/vision_config"] {
        let field = format!("{place}/quantization_config");
        let (error, message) = refusal(&Source::sound().with(&field, json!({ "bits": 4 })), None);
        assert!(matches!(error, Error::Quantized { .. }), "{message}");
        assert!(message.ends_with(
            "quantized with `a scheme without a name`, whose first quantized tensor is none of them"
        ));
        for harmless in [json!(null), json!({}), json!({ "quant_algo": null })] {
            let dir = Source::sound().with(&field, harmless.clone()).write();
            let location = Location::parse(dir.path().to_str().unwrap());
            let result = Conversion::prepare(location, Settings::default(), KEEP);
            assert!(!matches!(result, Err(Error::Quantized { .. })), "{harmless}");
        }
    }
    let dir = Source::sound().write();
    fs::write(dir.path().join("hf_quant_config.json"), "{").unwrap();
    let location = Location::parse(dir.path().to_str().unwrap());
    let error = Conversion::prepare(location, Settings::default(), KEEP).unwrap_err();
    assert!(matches!(error, Error::Json { .. }), "{error}");
}

#[test]
fn another_architecture_is_refused_by_name_before_its_files_are_missed() {
    for name in ["NemotronH_Nano_VL_V2", "NemotronH_Nano_Omni_Reasoning_V3", "InternVLChatModel"] {
        let mut source = Source::sound();
        source.config = json!({ "model_type": name, "architectures": [name] });
        let (_, message) = refusal(&source, None);
        assert_eq!(
            message,
            format!(
                "`DIR/config.json`: field `model_type`: expected `\"Llama_Nemotron_Nano_VL\"`, found `\"{name}\"`: only \
                 this model is supported"
            )
        );
    }
}
