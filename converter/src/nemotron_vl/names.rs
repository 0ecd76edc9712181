//! The names of the tensors, in the source and in the normalized checkpoint.

use crate::architecture::{Axis, Mapping, Names, Rule, rule};

/// The field of the tower's `norm_mean`.
pub(super) const NORM_MEAN: &str = "vision_config.norm_mean";
/// The field of the tower's `norm_std`.
pub(super) const NORM_STD: &str = "vision_config.norm_std";
/// The field of the tower's `summary_idxs`.
pub(super) const SUMMARY_IDXS: &str = "vision_config.summary_idxs";

/// Inside the name of a tensor that a weight is computed from, wherever torch's `register_parametrization` was used.
const PARAMETRIZED: &str = ".parametrizations.";
/// RADIO's own weights are no fixed function of these: torch's spectral norm is an estimate that depends on the kernels.
const NOT_FOLDED: &str = "parametrized weights are not supported; torch's `remove_parametrizations` writes the weights themselves down";

pub(super) const NAMES: Names = Names { rules: RULES, refused: &[(PARAMETRIZED, NOT_FOLDED)] };

/// The table; the first line that matches holds.
const RULES: &[Rule] = &[
    // Language model.
    rule(&["language_model.model.layers.{i}.self_attn.rotary_emb.inv_freq"], Mapping::Skip(INV_FREQ)),
    rule(&["language_model.model.rotary_emb.inv_freq"], Mapping::Skip(INV_FREQ)),
    rule(&["language_model.*"], Mapping::Keep),
    // Tower: embeddings.
    rule(
        &["vision_model.radio_model.model.patch_generator.embedder.weight"],
        Mapping::Rename("vision_model.embeddings.patch_projection.weight"),
    ),
    rule(
        &["vision_model.radio_model.model.patch_generator.pos_embed"],
        Mapping::Rename("vision_model.embeddings.position_embedding"),
    ),
    rule(
        &["vision_model.radio_model.model.patch_generator.cls_token.token"],
        Mapping::Rename("vision_model.embeddings.cls_register_token"),
    ),
    rule(
        &["vision_model.radio_model.model.patch_generator.video_embedder.*"],
        Mapping::Refuse("the video embedder is not supported"),
    ),
    rule(
        &["vision_model.radio_model.model.patch_generator.patch_normalizer.*"],
        Mapping::Refuse("normalized patches are not supported"),
    ),
    // Tower: blocks.
    rule(
        &["vision_model.radio_model.model.blocks.{i}.norm1.*"],
        Mapping::Rename("vision_model.encoder.layer.{i}.norm1.*"),
    ),
    rule(
        &["vision_model.radio_model.model.blocks.{i}.attn.qkv.*"],
        Mapping::Split {
            targets: &[
                "vision_model.encoder.layer.{i}.attention.q_proj.*",
                "vision_model.encoder.layer.{i}.attention.k_proj.*",
                "vision_model.encoder.layer.{i}.attention.v_proj.*",
            ],
            along: Axis::Rows,
            reason: QKV,
        },
    ),
    rule(
        &["vision_model.radio_model.model.blocks.{i}.attn.proj.*"],
        Mapping::Rename("vision_model.encoder.layer.{i}.attention.o_proj.*"),
    ),
    rule(
        &["vision_model.radio_model.model.blocks.{i}.norm2.*"],
        Mapping::Rename("vision_model.encoder.layer.{i}.norm2.*"),
    ),
    rule(
        &["vision_model.radio_model.model.blocks.{i}.mlp.fc1.*"],
        Mapping::Rename("vision_model.encoder.layer.{i}.mlp.fc1.*"),
    ),
    rule(
        &["vision_model.radio_model.model.blocks.{i}.mlp.fc2.*"],
        Mapping::Rename("vision_model.encoder.layer.{i}.mlp.fc2.*"),
    ),
    // LayerScale is `gamma` in timm and `grandma` in RADIO's own copy, which renamed it because transformers used to
    // rewrite every `gamma` while loading.
    rule(
        &["vision_model.radio_model.model.blocks.{i}.ls1.gamma"],
        Mapping::Rename("vision_model.encoder.layer.{i}.layer_scale1.lambda1"),
    ),
    rule(
        &["vision_model.radio_model.model.blocks.{i}.ls1.grandma"],
        Mapping::Rename("vision_model.encoder.layer.{i}.layer_scale1.lambda1"),
    ),
    rule(
        &["vision_model.radio_model.model.blocks.{i}.ls2.gamma"],
        Mapping::Rename("vision_model.encoder.layer.{i}.layer_scale2.lambda1"),
    ),
    rule(
        &["vision_model.radio_model.model.blocks.{i}.ls2.grandma"],
        Mapping::Rename("vision_model.encoder.layer.{i}.layer_scale2.lambda1"),
    ),
    rule(&["vision_model.radio_model.model.norm.*"], Mapping::Rename("vision_model.layernorm.*")),
    // Tower: buffers and parts around the blocks.
    rule(&["vision_model.radio_model.input_conditioner.norm_mean"], Mapping::Value(NORM_MEAN)),
    rule(&["vision_model.radio_model.input_conditioner.norm_std"], Mapping::Value(NORM_STD)),
    rule(&["vision_model.radio_model.summary_idxs"], Mapping::Value(SUMMARY_IDXS)),
    rule(&["vision_model.radio_model.adaptors.*"], Mapping::Refuse("adaptors are not supported")),
    rule(
        &["vision_model.radio_model.feature_normalizer.*"],
        Mapping::Refuse("the feature normalizer is not supported"),
    ),
    rule(
        &["vision_model.radio_model.inter_feature_normalizer.*"],
        Mapping::Refuse("the intermediate feature normalizer is not supported"),
    ),
    // Projector: the numbers are places in a sequence whose third is the activation.
    rule(&["mlp1.0.*"], Mapping::Rename("multi_modal_projector.layer_norm.*")),
    rule(&["mlp1.1.*"], Mapping::Rename("multi_modal_projector.linear_1.*")),
    rule(&["mlp1.3.*"], Mapping::Rename("multi_modal_projector.linear_2.*")),
];

const INV_FREQ: &str = "a buffer, not a weight: computed from `text_config.rope_theta` and `rope_scaling`";
const QKV: &str = "rows of queries, keys and values, one third each, in this order";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_table_of_the_design() {
        for (source, targets) in [
            ("language_model.lm_head.weight", &["language_model.lm_head.weight"][..]),
            (
                "vision_model.radio_model.model.blocks.31.attn.qkv.bias",
                &[
                    "vision_model.encoder.layer.31.attention.q_proj.bias",
                    "vision_model.encoder.layer.31.attention.k_proj.bias",
                    "vision_model.encoder.layer.31.attention.v_proj.bias",
                ],
            ),
            (
                "vision_model.radio_model.model.blocks.0.attn.proj.weight",
                &["vision_model.encoder.layer.0.attention.o_proj.weight"],
            ),
            (
                "vision_model.radio_model.model.blocks.7.ls1.gamma",
                &["vision_model.encoder.layer.7.layer_scale1.lambda1"],
            ),
            (
                "vision_model.radio_model.model.blocks.7.ls2.grandma",
                &["vision_model.encoder.layer.7.layer_scale2.lambda1"],
            ),
            ("vision_model.radio_model.model.norm.bias", &["vision_model.layernorm.bias"]),
            ("mlp1.3.weight", &["multi_modal_projector.linear_2.weight"]),
        ] {
            assert_eq!(NAMES.of_source(source).unwrap().targets, targets, "{source}");
            for target in targets {
                let again = NAMES.of_target(target).unwrap().sources;
                assert_eq!(again.len(), 1);
                assert_eq!(again[0].replace("gamma", "grandma"), source.replace("gamma", "grandma"));
            }
        }
    }

    #[test]
    fn buffers_become_values_and_foreign_parts_are_refused() {
        let only = |name: &str| NAMES.of_source(name).unwrap().mapping;
        assert_eq!(only("vision_model.radio_model.input_conditioner.norm_std"), Mapping::Value(NORM_STD));
        assert_eq!(only("vision_model.radio_model.summary_idxs"), Mapping::Value(SUMMARY_IDXS));
        assert!(matches!(only("language_model.model.rotary_emb.inv_freq"), Mapping::Skip(_)));
        for name in [
            "vision_model.radio_model.model.patch_generator.video_embedder.weight",
            "vision_model.radio_model.adaptors.clip.head_mlp.fc1.weight",
            "vision_model.radio_model.feature_normalizer.mean",
            "vision_model.radio_model.model.blocks.3.attn.qkv.parametrizations.weight.original",
            "vision_model.radio_model.model.blocks.0.mlp.fc1.parametrizations.weight.0.scale",
            "language_model.model.layers.0.mlp.up_proj.parametrizations.weight.original",
            "mlp1.1.parametrizations.weight.original",
        ] {
            assert!(matches!(only(name), Mapping::Refuse(_)), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_almost_right_is_unknown() {
        for name in [
            "language_model.",
            "lm_head.weight",
            "mlp1.2.weight",
            "mlp1.0.",
            "vision_model.radio_model.model.blocks.01.norm1.weight",
            "vision_model.radio_model.model.blocks..norm1.weight",
            "vision_model.radio_model.model.blocks.x.norm1.weight",
            "vision_model.radio_model.model.blocks.1.norm3.weight",
            "vision_model.radio_model.summary_idxs.0",
            "xmlp1.0.weight",
        ] {
            assert_eq!(NAMES.of_source(name), None, "{name}");
        }
    }
}
