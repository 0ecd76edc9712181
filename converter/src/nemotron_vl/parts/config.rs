//! `config.json` of a part, under the field names of transformers' configuration class.

use std::path::Path;

use serde_json::{Value, json};

use crate::Error;
use crate::architecture::Part;
use crate::nemotron_vl::{Config, VisionConfig};
use crate::normalized::TorchDtype;

/// `config.json` of a folder that holds `part`, whose weights have `dtype` where they were converted.
pub(super) fn config_file(config: &Config, part: Part, dtype: Option<TorchDtype>) -> Value {
    match part {
        Part::All => serde_json::to_value(config).unwrap_or_default(),
        Part::Text => {
            let mut text = config.text_config.clone();
            // transformers loads the weights in this dtype.
            text.torch_dtype = dtype.unwrap_or(text.torch_dtype);
            serde_json::to_value(text).unwrap_or_default()
        }
        Part::Vision => vision(&config.vision_config, dtype.unwrap_or(config.torch_dtype)),
    }
}

fn vision(vision: &VisionConfig, torch_dtype: TorchDtype) -> Value {
    json!({
        "architectures": ["RadioModel"],
        "model_type": "radio",
        "hidden_size": vision.hidden_size,
        "num_hidden_layers": vision.num_hidden_layers,
        "num_attention_heads": vision.num_attention_heads,
        "mlp_ratio": vision.mlp_ratio,
        "hidden_act": vision.hidden_act,
        "layer_norm_eps": vision.layer_norm_eps,
        "qkv_bias": vision.qkv_bias,
        "use_swiglu_ffn": false,
        // `RadioModel` multiplies by LayerScale always; a tower without it has no such weights, and 1 is what then stands.
        "layerscale_value": vision.layerscale_value.unwrap_or(1.0),
        "num_channels": vision.num_channels,
        "patch_size": vision.patch_size,
        "image_size": vision.image_size,
        "max_img_size": vision.max_img_size,
        "num_cls_tokens": vision.num_cls_tokens,
        "num_registers": vision.num_registers,
        "summary_idxs": vision.summary_idxs,
        "norm_mean": vision.norm_mean,
        "norm_std": vision.norm_std,
        "torch_dtype": torch_dtype,
    })
}

/// Refuses a tower that transformers' `RadioModel` cannot hold; `path` is the source's configuration.
pub(super) fn check(config: &Config, part: Part, path: &Path) -> Result<(), Error> {
    if part == Part::Vision && config.vision_config.model_norm {
        return Err(Error::unsupported(
            path,
            "vision_config.args.model_norm",
            "`false` for `--part vision`",
            "`true`",
            "transformers' `RadioModel` has no LayerNorm after the last block",
        ));
    }
    Ok(())
}

/// What the user of a vision part must know about positions: transformers resizes them in one way only.
pub(super) fn position_warning(config: &Config, part: Part) -> Option<String> {
    let vision = &config.vision_config;
    let is_resized = vision.image_size != vision.max_img_size;
    let differs = part == Part::Vision && vision.position_interpolation_align_corners && is_resized;
    differs.then(|| {
        "`position_interpolation_align_corners` is true, and transformers' `RadioModel` always resizes positions as \
         if it were false: its features of a tile differ from this model's"
            .to_string()
    })
}
