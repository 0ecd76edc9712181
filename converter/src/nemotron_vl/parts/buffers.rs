//! The buffers of transformers' `RadioModel`, which its `from_pretrained` expects among the weights.

use safetensors::Dtype;

use crate::architecture::{Buffer, Part};
use crate::nemotron_vl::Config;

/// The tower's buffers; 64-bit integers come first, so that each begins at a multiple of its element's size.
pub(super) fn buffers(config: &Config, part: Part) -> Vec<Buffer> {
    if part != Part::Vision {
        return Vec::new();
    }
    let config = &config.vision_config;
    let channels = |name: &'static str, values: &[f64]| Buffer {
        name,
        dtype: Dtype::F32,
        shape: vec![values.len(), 1, 1],
        bytes: values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect(),
    };
    let summary_idxs = Buffer {
        name: "summary_idxs",
        dtype: Dtype::I64,
        shape: vec![config.summary_idxs.len()],
        bytes: config.summary_idxs.iter().flat_map(|&index| (index as i64).to_le_bytes()).collect(),
    };
    vec![
        summary_idxs,
        channels("input_conditioner.norm_mean", &config.norm_mean),
        channels("input_conditioner.norm_std", &config.norm_std),
    ]
}
