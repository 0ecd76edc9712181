//! Source checkpoints made by hand: a small model in the 8B's layout, every dimension distinct.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hand_made::{Made, write_file, write_json, write_shards};

/// A source checkpoint that a test can change before it is written.
#[derive(Debug, Clone)]
pub struct Source {
    pub config: Value,
    pub preprocessor: Value,
    pub tokenizer: Value,
    pub tokenizer_config: Value,
    pub tensors: Vec<Made>,
    /// Number of files of weights; one has no index.
    pub shards: usize,
    /// Further files.
    pub files: Vec<(String, String)>,
}

impl Source {
    /// A sound one: 24 wide with 2 layers of 6 heads of 10; a tower 12 wide with 3 blocks; a projector 36 wide.
    pub fn sound() -> Self {
        Self {
            config: config(),
            preprocessor: json!({
                "image_processor_type": "LlamaNemotronNanoVLImageProcessor",
                "image_size": 16,
                "max_num_tiles": 7,
                "use_thumbnail": false,
                "do_rescale": true,
                "rescale_factor": 0.00392156862745098,
                "do_normalize": false,
                "resample": 3
            }),
            tokenizer: json!({
                "added_tokens": [{ "id": 5, "content": "<image>" }],
                "model": { "type": "BPE", "vocab": { "a": 0 }, "merges": [] }
            }),
            tokenizer_config: json!({
                "added_tokens_decoder": { "5": { "content": "<image>" } },
                "chat_template": "{{ messages }}"
            }),
            tensors: tensors(),
            shards: 1,
            files: vec![],
        }
    }

    /// Changes the value at a JSON pointer of `config.json`; the objects on the way must be there.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        self.config.pointer_mut(parent).unwrap()[name] = value;
        self
    }

    /// Takes a field of `config.json` away.
    pub fn without(mut self, pointer: &str) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        self.config.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        self
    }

    /// Adds a tensor.
    pub fn with_tensor(mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        self.tensors.push(Made::new(name, dtype, shape));
        self
    }

    /// Takes a tensor away.
    pub fn without_tensor(mut self, name: &str) -> Self {
        let before = self.tensors.len();
        self.tensors.retain(|tensor| tensor.name != name);
        assert_eq!(self.tensors.len(), before - 1, "{name}");
        self
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> &Made {
        self.tensors.iter().find(|tensor| tensor.name == name).unwrap()
    }

    /// Writes it into a folder of its own.
    pub fn write(&self) -> TempDir {
        let dir = TempDir::new().unwrap();
        self.write_to(dir.path());
        dir
    }

    /// Writes it into `dir`.
    pub fn write_to(&self, dir: &Path) {
        write_json(&dir.join("config.json"), &self.config);
        write_json(&dir.join("preprocessor_config.json"), &self.preprocessor);
        write_json(&dir.join("tokenizer.json"), &self.tokenizer);
        write_json(&dir.join("tokenizer_config.json"), &self.tokenizer_config);
        for (name, text) in &self.files {
            fs::write(dir.join(name), text).unwrap();
        }
        if self.shards == 1 {
            write_file(&dir.join("model.safetensors"), &self.tensors);
        } else {
            write_shards(dir, &self.tensors, self.shards);
        }
    }
}

fn config() -> Value {
    json!({
        "architectures": ["Llama_Nemotron_Nano_VL"],
        "model_type": "Llama_Nemotron_Nano_VL",
        "auto_map": { "AutoConfig": "configuration.Llama_Nemotron_Nano_VL_Config" },
        "downsample_ratio": 0.5,
        "force_image_size": 16,
        "patch_size": 4,
        "image_tag_type": "internvl",
        "projector_hidden_size": 36,
        "vit_hidden_size": 12,
        "ps_version": "v2",
        "template": null,
        "torch_dtype": "bfloat16",
        "llm_config": {
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
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "tie_word_embeddings": false,
            "bos_token_id": 1,
            "eos_token_id": [2, 3],
            "torch_dtype": "bfloat16"
        },
        "vision_config": {
            "architectures": ["RADIOModel"],
            "adaptor_names": null,
            "args": {
                "model": "vit_huge_patch16_224",
                "model_kwargs": { "embed_dim": 12, "depth": 3, "num_heads": 2, "patch_size": 4 },
                "model_norm": false,
                "cpe_max_size": 20,
                "cls_token_per_teacher": true,
                "register_multiple": 8,
                "teachers": [
                    { "name": "clip" },
                    { "name": "dino", "use_summary": true },
                    { "name": "sam", "use_summary": false }
                ],
                "dtype": "bfloat16",
                "lr": 0.001,
                "spectral_reparam": false
            },
            "feature_normalizer_config": null,
            "patch_size": 4,
            "vitdet_window_size": null,
            "version": "radio_v2.5-h"
        }
    })
}

/// The tensors of the small model, written out by hand and not taken from the code under test.
fn tensors() -> Vec<Made> {
    let mut made = Vec::new();
    let mut add = |name: String, shape: &[usize]| made.push(Made::new(&name, Dtype::BF16, shape));
    add("language_model.model.embed_tokens.weight".into(), &[40, 24]);
    for i in 0..2 {
        let layer = format!("language_model.model.layers.{i}");
        add(format!("{layer}.input_layernorm.weight"), &[24]);
        add(format!("{layer}.self_attn.q_proj.weight"), &[60, 24]);
        add(format!("{layer}.self_attn.k_proj.weight"), &[20, 24]);
        add(format!("{layer}.self_attn.v_proj.weight"), &[20, 24]);
        add(format!("{layer}.self_attn.o_proj.weight"), &[24, 60]);
        add(format!("{layer}.post_attention_layernorm.weight"), &[24]);
        add(format!("{layer}.mlp.gate_proj.weight"), &[28, 24]);
        add(format!("{layer}.mlp.up_proj.weight"), &[28, 24]);
        add(format!("{layer}.mlp.down_proj.weight"), &[24, 28]);
    }
    add("language_model.model.norm.weight".into(), &[24]);
    add("language_model.lm_head.weight".into(), &[40, 24]);
    let tower = "vision_model.radio_model.model";
    add(format!("{tower}.patch_generator.embedder.weight"), &[12, 48]);
    add(format!("{tower}.patch_generator.pos_embed"), &[1, 25, 12]);
    add(format!("{tower}.patch_generator.cls_token.token"), &[8, 12]);
    for i in 0..3 {
        let block = format!("{tower}.blocks.{i}");
        for (name, output, input) in
            [("attn.qkv", 36, 12), ("attn.proj", 12, 12), ("mlp.fc1", 48, 12), ("mlp.fc2", 12, 48)]
        {
            add(format!("{block}.{name}.weight"), &[output, input]);
            add(format!("{block}.{name}.bias"), &[output]);
        }
        for norm in ["norm1", "norm2"] {
            add(format!("{block}.{norm}.weight"), &[12]);
            add(format!("{block}.{norm}.bias"), &[12]);
        }
    }
    for (name, shape) in [("0", &[48][..]), ("1", &[36, 48]), ("3", &[24, 36])] {
        add(format!("mlp1.{name}.weight"), shape);
        add(format!("mlp1.{name}.bias"), &shape[..1]);
    }
    made.push(bf16s("vision_model.radio_model.input_conditioner.norm_mean", [0.5, 0.25, 0.125]));
    made.push(bf16s("vision_model.radio_model.input_conditioner.norm_std", [0.375, 0.75, 1.0]));
    made
}

/// A buffer of the conditioner.
pub fn bf16s(name: &str, values: [f32; 3]) -> Made {
    let data = values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect();
    Made { name: name.into(), dtype: Dtype::BF16, shape: vec![3, 1, 1], data }
}

/// The buffer `summary_idxs`.
pub fn summary_idxs(values: &[i64]) -> Made {
    Made {
        name: "vision_model.radio_model.summary_idxs".into(),
        dtype: Dtype::I64,
        shape: vec![values.len()],
        data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}
