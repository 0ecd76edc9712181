//! The options of timm's vision transformer, which `model_kwargs` may give.

use serde_json::Value;

use super::fields::Fields;
use crate::Error;

/// What an option does to the tower's features.
enum Influence {
    /// It is resolved by the tower itself.
    Used,
    /// It changes them: only these values, as JSON, are supported. `null` is always one of them, since timm drops it.
    Only(&'static [&'static str]),
    /// It acts in training, or on a part that RADIO's patch generator, or nothing, takes the place of.
    None,
}

use Influence::{None as Nothing, Only, Used};

/// Every option: the parameters of the class, with the values that stand for its defaults, and those that
/// `timm.create_model` takes for itself. A text that names a default layer (`gelu`) stands for it.
///
/// # Source
/// timm 1.0.31, `vision_transformer.py`, `VisionTransformer.__init__`; `_factory.py`, `create_model`
const OPTIONS: &[(&str, Influence)] = &[
    ("act_layer", Only(&["\"\"", "\"gelu\""])),
    ("attn_drop_rate", Nothing),
    ("attn_layer", Only(&[])),
    ("block_fn", Only(&[])),
    ("bn_eps", Only(&[])),
    ("bn_momentum", Only(&[])),
    ("cache_dir", Nothing),
    ("checkpoint_path", Nothing),
    ("class_token", Only(&["true"])),
    ("depth", Used),
    ("device", Only(&[])),
    ("drop_block_rate", Nothing),
    ("drop_path_rate", Nothing),
    ("drop_rate", Nothing),
    ("dtype", Only(&[])),
    ("dynamic_img_pad", Nothing),
    ("dynamic_img_size", Nothing),
    ("embed_dim", Used),
    ("embed_layer", Only(&[])),
    ("embed_norm_layer", Only(&["\"\""])),
    ("exportable", Only(&["false"])),
    ("fc_norm", Only(&["false"])),
    ("features_only", Only(&["false"])),
    ("final_norm", Only(&["true"])),
    ("fix_init", Nothing),
    ("global_pool", Only(&["\"token\""])),
    ("img_size", Used),
    ("in_chans", Only(&["3"])),
    ("init_values", Used),
    ("mlp_layer", Only(&[])),
    ("mlp_ratio", Used),
    ("no_embed_class", Nothing),
    ("no_jit", Nothing),
    ("norm_layer", Only(&["\"\"", "\"layernorm\""])),
    ("num_classes", Nothing),
    ("num_heads", Used),
    ("out_indices", Only(&["3"])),
    ("patch_drop_rate", Nothing),
    ("patch_size", Used),
    ("pool_include_prefix", Nothing),
    ("pos_drop_rate", Nothing),
    ("pos_embed", Only(&["\"learn\""])),
    ("pre_norm", Only(&["false"])),
    ("pretrained", Nothing),
    ("pretrained_cfg", Nothing),
    ("pretrained_cfg_overlay", Nothing),
    ("pretrained_strict", Nothing),
    ("proj_bias", Only(&["true"])),
    ("proj_drop_rate", Nothing),
    ("qk_norm", Only(&["false"])),
    ("qkv_bias", Used),
    ("reg_tokens", Only(&["0"])),
    ("scale_attn_norm", Only(&["false"])),
    ("scale_mlp_norm", Only(&["false"])),
    ("scriptable", Only(&["false"])),
    ("use_naflex", Only(&["false"])),
    ("weight_init", Nothing),
];

/// Refuses an option that would change the tower's features in a way that is not supported, and one that timm does not have.
///
/// # Errors
/// [`Error::Unsupported`] with the option's name.
pub(super) fn check_options(kwargs: &Fields<'_>) -> Result<(), Error> {
    for (name, influence) in OPTIONS {
        match influence {
            Used => {}
            Nothing => kwargs.unused(name),
            Only(values) => {
                let values: Vec<Value> =
                    values.iter().filter_map(|value| serde_json::from_str(value).ok()).collect();
                kwargs.refuse(name, &values, "this option of the vision transformer is not supported")?;
            }
        }
    }
    match kwargs.names().find(|name| !OPTIONS.iter().any(|(known, _)| known == name)) {
        None => Ok(()),
        Some(unknown) => Err(kwargs.unsupported(
            unknown,
            "no such option",
            "an option that this program does not know may change the computation",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_there_once_and_every_value_is_json() {
        assert!(OPTIONS.is_sorted_by(|(a, _), (b, _)| a < b));
        for (name, influence) in OPTIONS {
            let Only(values) = influence else { continue };
            for value in *values {
                assert!(serde_json::from_str::<Value>(value).is_ok(), "{name}: {value}");
            }
        }
    }
}
