//! Which tensors a normalized checkpoint has, and of what shape: a pure function of its configuration.

use super::{Config, TextConfig, VisionConfig};
use crate::architecture::{Part, TensorLayout};

/// Every tensor of a part of the model with this configuration, in the order in which the model uses them.
pub(super) fn layout(config: &Config, part: Part) -> Vec<TensorLayout> {
    let mut tensors = Tensors(Vec::new());
    if part.has_vision() {
        tower(&mut tensors, &config.vision_config);
        projector(&mut tensors, config);
    }
    if part.has_text() {
        language_model(&mut tensors, &config.text_config);
    }
    tensors.0
}

struct Tensors(Vec<TensorLayout>);

impl Tensors {
    fn add(&mut self, name: String, shape: &[usize]) {
        self.0.push(TensorLayout { name, shape: shape.to_vec() });
    }

    fn layer_norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }

    fn linear(&mut self, name: &str, output: usize, input: usize, bias: bool) {
        self.add(format!("{name}.weight"), &[output, input]);
        if bias {
            self.add(format!("{name}.bias"), &[output]);
        }
    }
}

fn tower(tensors: &mut Tensors, config: &VisionConfig) {
    let width = config.hidden_size;
    let patch_elems = config.num_channels * config.patch_size * config.patch_size;
    tensors.linear("vision_model.embeddings.patch_projection", width, patch_elems, false);
    tensors.add("vision_model.embeddings.position_embedding".into(), &[1, config.num_positions(), width]);
    tensors.add("vision_model.embeddings.cls_register_token".into(), &[config.num_prefix_tokens(), width]);
    for i in 0..config.num_hidden_layers {
        let layer = format!("vision_model.encoder.layer.{i}");
        tensors.layer_norm(&format!("{layer}.norm1"), width);
        for projection in ["q_proj", "k_proj", "v_proj"] {
            tensors.linear(&format!("{layer}.attention.{projection}"), width, width, config.qkv_bias);
        }
        tensors.linear(&format!("{layer}.attention.o_proj"), width, width, true);
        tensors.layer_norm(&format!("{layer}.norm2"), width);
        tensors.linear(&format!("{layer}.mlp.fc1"), config.intermediate_size(), width, true);
        tensors.linear(&format!("{layer}.mlp.fc2"), width, config.intermediate_size(), true);
        if config.layerscale_value.is_some() {
            tensors.add(format!("{layer}.layer_scale1.lambda1"), &[width]);
            tensors.add(format!("{layer}.layer_scale2.lambda1"), &[width]);
        }
    }
    if config.model_norm {
        tensors.layer_norm("vision_model.layernorm", width);
    }
}

fn projector(tensors: &mut Tensors, config: &Config) {
    let width = config.projector_hidden_size;
    tensors.layer_norm("multi_modal_projector.layer_norm", config.projector_input_size());
    tensors.linear("multi_modal_projector.linear_1", width, config.projector_input_size(), true);
    tensors.linear("multi_modal_projector.linear_2", config.text_config.hidden_size, width, true);
}

fn language_model(tensors: &mut Tensors, config: &TextConfig) {
    let width = config.hidden_size;
    let query_width = config.num_attention_heads * config.head_dim;
    let key_value_width = config.num_key_value_heads * config.head_dim;
    tensors.linear("language_model.model.embed_tokens", config.vocab_size, width, false);
    for i in 0..config.num_hidden_layers {
        let layer = format!("language_model.model.layers.{i}");
        let (attention, mlp) = (format!("{layer}.self_attn"), format!("{layer}.mlp"));
        tensors.add(format!("{layer}.input_layernorm.weight"), &[width]);
        tensors.linear(&format!("{attention}.q_proj"), query_width, width, config.attention_bias);
        tensors.linear(&format!("{attention}.k_proj"), key_value_width, width, config.attention_bias);
        tensors.linear(&format!("{attention}.v_proj"), key_value_width, width, config.attention_bias);
        tensors.linear(&format!("{attention}.o_proj"), width, query_width, config.attention_bias);
        tensors.add(format!("{layer}.post_attention_layernorm.weight"), &[width]);
        tensors.linear(&format!("{mlp}.gate_proj"), config.intermediate_size, width, config.mlp_bias);
        tensors.linear(&format!("{mlp}.up_proj"), config.intermediate_size, width, config.mlp_bias);
        tensors.linear(&format!("{mlp}.down_proj"), width, config.intermediate_size, config.mlp_bias);
    }
    tensors.add("language_model.model.norm.weight".into(), &[width]);
    if !config.tie_word_embeddings {
        tensors.linear("language_model.lm_head", config.vocab_size, width, false);
    }
}
