//! Checkpoints made by hand, every dimension distinct so that no transposition can hide.

use std::collections::HashMap;
use std::path::Path;

use converter::architecture::{Part, TensorLayout};
use converter::nemotron_vl::ARCHITECTURE;
use converter::normalized::Config;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// `config.json` of a small normalized checkpoint.
pub fn normalized_config() -> Value {
    json!({
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
            "max_position_embeddings": 131072,
            "initializer_range": 0.02,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192
            },
            "attention_bias": false,
            "attention_dropout": 0.0,
            "mlp_bias": false,
            "tie_word_embeddings": false,
            "bos_token_id": 1,
            "eos_token_id": [2],
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
            "norm_mean": [0.48046875, 0.45703125, 0.408203125],
            "norm_std": [0.26953125, 0.26171875, 0.275390625],
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
            "max_num_tiles": 12,
            "use_thumbnail": true,
            "upscale_factor": 2,
            "do_rescale": true,
            "rescale_factor": 0.00392156862745098,
            "do_normalize": false,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711]
        }
    })
}

/// A tensor of a hand-made file.
#[derive(Debug, Clone)]
pub struct Made {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

impl Made {
    /// A tensor whose bytes depend on its name, so that no two are equal.
    pub fn new(name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let mut state = name
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
        let data = (0..bytes)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Kept below 0x7f, so that every pattern is a finite number.
                (state >> 25) as u8 & 0x3f
            })
            .collect();
        Self { name: name.to_string(), dtype, shape: shape.to_vec(), data }
    }
}

/// Every tensor that a configuration implies.
pub fn layout(config: &Config) -> Vec<TensorLayout> {
    (ARCHITECTURE.layout)(config, Part::All)
}

/// The tensors that `config` implies.
pub fn tensors_of(config: &Value) -> Vec<Made> {
    let config: Config = serde_json::from_value(config.clone()).unwrap();
    layout(&config).iter().map(|tensor| Made::new(&tensor.name, Dtype::BF16, &tensor.shape)).collect()
}

/// Writes one safetensors file.
pub fn write_file(path: &Path, tensors: &[Made]) {
    let views = tensors.iter().map(|tensor| {
        (tensor.name.clone(), TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data).unwrap())
    });
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), path).unwrap();
}

/// Writes tensors in `count` shards with an index.
pub fn write_shards(dir: &Path, tensors: &[Made], count: usize) {
    let mut map = serde_json::Map::new();
    for (shard, chunk) in tensors.chunks(tensors.len().div_ceil(count)).enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", shard + 1);
        write_file(&dir.join(&name), chunk);
        map.extend(chunk.iter().map(|tensor| (tensor.name.clone(), Value::from(name.clone()))));
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    write_json(&dir.join("model.safetensors.index.json"), &index);
}

/// Writes a JSON file.
pub fn write_json(path: &Path, value: &Value) {
    std::fs::write(path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
}

/// A safetensors file of any header, true or not.
pub fn raw_file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}
