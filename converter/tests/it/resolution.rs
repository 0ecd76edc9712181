//! From the source's configuration to the normalized one: values, defaults, behaviours, refusals.

mod behaviours;
mod every_field;
mod language_model;
mod refusals;
mod tower;

use converter::normalized::Config;
use converter::plan::PlanOptions;
use converter::resolve::{Findings, Settings};
use converter::source::{Evidence, Location};
use converter::{Conversion, Error};
use serde_json::json;

use crate::hand_made_source::Source;

fn prepare_with(source: &Source, settings: Settings) -> Result<Conversion, Box<(Error, String)>> {
    let dir = source.write();
    let options = PlanOptions::KEEP;
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
