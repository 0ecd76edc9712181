//! Where the bundled data is.

use std::path::{Path, PathBuf};

use converter::normalized::ImageProcessorConfig;

/// A file under `golden/fixtures`.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/fixtures").join(relative)
}

/// A JSON file under `golden/fixtures`.
pub fn json(relative: &str) -> serde_json::Value {
    let path = path(relative);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the bundled activation dumps.
pub fn goldens() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path("goldens"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| path(&format!("goldens/{name}/manifest.json")).exists())
        .collect();
    names.sort();
    assert!(names.len() >= 5, "the bundled goldens are missing: {names:?}");
    names
}

/// The bytes of a tensor of a bundled activation dump; `None` where it has no such tensor.
pub fn golden_tensor(golden: &str, name: &str) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path(&format!("goldens/{golden}/tensors.safetensors"))).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor(name).ok().map(|tensor| tensor.data().to_vec())
}

/// The image processor of the bundled checkpoint and of the recorded tiles.
pub fn image_processor() -> ImageProcessorConfig {
    ImageProcessorConfig {
        image_size: 128,
        max_num_tiles: 12,
        use_thumbnail: true,
        upscale_factor: 2,
        do_rescale: true,
        rescale_factor: 0.00392156862745098,
        do_normalize: false,
        image_mean: vec![0.48145466, 0.4578275, 0.40821073],
        image_std: vec![0.26862954, 0.26130258, 0.27577711],
    }
}

/// `config.json` of the bundled checkpoint as it is after normalisation.
pub fn normalized_config() -> serde_json::Value {
    let source = json("checkpoints/shapes/config.json");
    let mut text_config = source["llm_config"].clone();
    let defaults = serde_json::json!({
        "head_dim": 32, "initializer_range": 0.02, "attention_dropout": 0.0, "pad_token_id": null, "pretraining_tp": 1,
        "use_cache": true,
    });
    text_config.as_object_mut().unwrap().extend(defaults.as_object().unwrap().clone());
    serde_json::json!({
        "format": "nemotron-vl",
        "format_version": 1,
        "architectures": source["architectures"],
        "model_type": source["model_type"],
        "text_config": text_config,
        "vision_config": {
            "model_type": "radio", "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "mlp_ratio": 4.0,
            "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": true, "num_channels": 3, "patch_size": 16,
            "image_size": 128, "max_img_size": 512, "num_cls_tokens": 4, "num_registers": 4, "summary_idxs": [0, 1, 2],
            "norm_mean": image_processor().image_mean, "norm_std": image_processor().image_std,
            "layerscale_value": null, "model_norm": false, "dtype": "bfloat16",
            "position_interpolation_align_corners": true,
        },
        "downsample_ratio": source["downsample_ratio"],
        "ps_version": source["ps_version"],
        "projector_hidden_size": source["projector_hidden_size"],
        "vision_hidden_size": source["vit_hidden_size"],
        "projector_layer_norm_eps": 1e-5,
        "image_seq_length": 16,
        "image_tag_type": source["image_tag_type"],
        "image_token": "<image>",
        "image_token_id": 494,
        "image_start_token": "<img>",
        "image_end_token": "</img>",
        "torch_dtype": source["torch_dtype"],
        "image_processor": image_processor(),
    })
}
