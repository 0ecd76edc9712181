//! The names of tensors, in the source and in the normalized checkpoint: one table, read in both directions.

/// What becomes of the source tensors that a pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The name stays.
    Keep,
    /// The name becomes this one.
    Rename(&'static str),
    /// The rows are cut into three equal, contiguous ranges: queries, keys and values, in this order.
    SplitQkv([&'static str; 3]),
    /// A buffer: its value goes into the configuration.
    Value(Buffer),
    /// Left out on purpose, for this reason.
    Skip(&'static str),
    /// A part of the model that is not supported: this one.
    Refuse(&'static str),
}

/// A buffer of the tower whose value is configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Buffer {
    /// `vision_config.norm_mean`.
    NormMean,
    /// `vision_config.norm_std`.
    NormStd,
    /// `vision_config.summary_idxs`.
    SummaryIdxs,
}

impl Buffer {
    /// The field of the normalized configuration that takes the value.
    pub fn field(self) -> &'static str {
        match self {
            Self::NormMean => "vision_config.norm_mean",
            Self::NormStd => "vision_config.norm_std",
            Self::SummaryIdxs => "vision_config.summary_idxs",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Pattern of the source's name: `{i}` stands for a layer's number, a `*` at the end for any rest.
    pub source: &'static str,
    /// What becomes of it.
    pub fate: Fate,
}

const fn rule(source: &'static str, fate: Fate) -> Rule {
    Rule { source, fate }
}

/// The table; the first line that matches holds.
pub const TABLE: &[Rule] = &[
    // Language model.
    rule("language_model.model.layers.{i}.self_attn.rotary_emb.inv_freq", Fate::Skip(INV_FREQ)),
    rule("language_model.model.rotary_emb.inv_freq", Fate::Skip(INV_FREQ)),
    rule("language_model.*", Fate::Keep),
    // Tower: embeddings.
    rule(
        "vision_model.radio_model.model.patch_generator.embedder.weight",
        Fate::Rename("vision_model.embeddings.patch_projection.weight"),
    ),
    rule(
        "vision_model.radio_model.model.patch_generator.pos_embed",
        Fate::Rename("vision_model.embeddings.position_embedding"),
    ),
    rule(
        "vision_model.radio_model.model.patch_generator.cls_token.token",
        Fate::Rename("vision_model.embeddings.cls_register_token"),
    ),
    rule(
        "vision_model.radio_model.model.patch_generator.video_embedder.*",
        Fate::Refuse("the video embedder is not supported"),
    ),
    rule(
        "vision_model.radio_model.model.patch_generator.patch_normalizer.*",
        Fate::Refuse("normalized patches are not supported"),
    ),
    // Tower: blocks.
    rule(
        "vision_model.radio_model.model.blocks.{i}.norm1.*",
        Fate::Rename("vision_model.encoder.layer.{i}.norm1.*"),
    ),
    rule(
        "vision_model.radio_model.model.blocks.{i}.attn.qkv.*",
        Fate::SplitQkv([
            "vision_model.encoder.layer.{i}.attention.q_proj.*",
            "vision_model.encoder.layer.{i}.attention.k_proj.*",
            "vision_model.encoder.layer.{i}.attention.v_proj.*",
        ]),
    ),
    rule(
        "vision_model.radio_model.model.blocks.{i}.attn.proj.*",
        Fate::Rename("vision_model.encoder.layer.{i}.attention.o_proj.*"),
    ),
    rule(
        "vision_model.radio_model.model.blocks.{i}.norm2.*",
        Fate::Rename("vision_model.encoder.layer.{i}.norm2.*"),
    ),
    rule(
        "vision_model.radio_model.model.blocks.{i}.mlp.fc1.*",
        Fate::Rename("vision_model.encoder.layer.{i}.mlp.fc1.*"),
    ),
    rule(
        "vision_model.radio_model.model.blocks.{i}.mlp.fc2.*",
        Fate::Rename("vision_model.encoder.layer.{i}.mlp.fc2.*"),
    ),
    // LayerScale is `gamma` in timm and `grandma` in RADIO's own copy, which renamed it because transformers used to
    // rewrite every `gamma` while loading.
    rule(
        "vision_model.radio_model.model.blocks.{i}.ls1.gamma",
        Fate::Rename("vision_model.encoder.layer.{i}.layer_scale1.lambda1"),
    ),
    rule(
        "vision_model.radio_model.model.blocks.{i}.ls1.grandma",
        Fate::Rename("vision_model.encoder.layer.{i}.layer_scale1.lambda1"),
    ),
    rule(
        "vision_model.radio_model.model.blocks.{i}.ls2.gamma",
        Fate::Rename("vision_model.encoder.layer.{i}.layer_scale2.lambda1"),
    ),
    rule(
        "vision_model.radio_model.model.blocks.{i}.ls2.grandma",
        Fate::Rename("vision_model.encoder.layer.{i}.layer_scale2.lambda1"),
    ),
    rule("vision_model.radio_model.model.norm.*", Fate::Rename("vision_model.layernorm.*")),
    // Tower: buffers and parts around the blocks.
    rule("vision_model.radio_model.input_conditioner.norm_mean", Fate::Value(Buffer::NormMean)),
    rule("vision_model.radio_model.input_conditioner.norm_std", Fate::Value(Buffer::NormStd)),
    rule("vision_model.radio_model.summary_idxs", Fate::Value(Buffer::SummaryIdxs)),
    rule("vision_model.radio_model.adaptors.*", Fate::Refuse("adaptors are not supported")),
    rule(
        "vision_model.radio_model.feature_normalizer.*",
        Fate::Refuse("the feature normalizer is not supported"),
    ),
    rule(
        "vision_model.radio_model.inter_feature_normalizer.*",
        Fate::Refuse("the intermediate feature normalizer is not supported"),
    ),
    // Projector: the numbers are places in a sequence whose third is the activation.
    rule("mlp1.0.*", Fate::Rename("multi_modal_projector.layer_norm.*")),
    rule("mlp1.1.*", Fate::Rename("multi_modal_projector.linear_1.*")),
    rule("mlp1.3.*", Fate::Rename("multi_modal_projector.linear_2.*")),
];

const INV_FREQ: &str = "a buffer, not a weight: computed from `text_config.rope_theta` and `rope_scaling`";

/// Inside the name of a tensor that a weight is computed from, wherever torch's `register_parametrization` was used.
const PARAMETRIZED: &str = ".parametrizations.";
/// RADIO's own weights are no fixed function of these: torch's spectral norm is an estimate that depends on the kernels.
const NOT_FOLDED: &str = "parametrized weights are not supported; torch's `remove_parametrizations` writes the weights themselves down";

/// What becomes of the source tensor `name`, with the names of its targets; `None` for one that no line matches.
pub fn fate(name: &str) -> Option<(Fate, Vec<String>)> {
    if name.contains(PARAMETRIZED) {
        return Some((Fate::Refuse(NOT_FOLDED), Vec::new()));
    }
    TABLE.iter().find_map(|rule| {
        let captured = Captured::of(rule.source, name)?;
        let targets = match rule.fate {
            Fate::Keep => vec![name.to_string()],
            Fate::Rename(target) => vec![captured.fill(target)],
            Fate::SplitQkv(targets) => targets.map(|target| captured.fill(target)).into(),
            Fate::Value(_) | Fate::Skip(_) | Fate::Refuse(_) => Vec::new(),
        };
        Some((rule.fate, targets))
    })
}

/// The source tensor that the normalized tensor `target` is made of, under the first name that the table has for it.
pub fn source_of(target: &str) -> Option<String> {
    TABLE.iter().find_map(|rule| match rule.fate {
        Fate::Keep => Captured::of(rule.source, target).map(|_| target.to_string()),
        Fate::Rename(pattern) => Captured::of(pattern, target).map(|captured| captured.fill(rule.source)),
        Fate::SplitQkv(patterns) => patterns
            .iter()
            .find_map(|pattern| Captured::of(pattern, target).map(|captured| captured.fill(rule.source))),
        Fate::Value(_) | Fate::Skip(_) | Fate::Refuse(_) => None,
    })
}

/// What `{i}` and `*` stand for in one name.
struct Captured<'a> {
    number: &'a str,
    rest: &'a str,
}

impl<'a> Captured<'a> {
    fn of(pattern: &str, name: &'a str) -> Option<Self> {
        let (pattern, any_rest) = match pattern.strip_suffix('*') {
            Some(pattern) => (pattern, true),
            None => (pattern, false),
        };
        let (number, name) = match pattern.split_once("{i}") {
            None => ("", name.strip_prefix(pattern)?),
            Some((before, after)) => {
                let name = name.strip_prefix(before)?;
                let digits = name.bytes().take_while(u8::is_ascii_digit).count();
                let (number, name) = name.split_at(digits);
                // `01` would be a second name of the first layer.
                if number.is_empty() || (number.len() > 1 && number.starts_with('0')) {
                    return None;
                }
                (number, name.strip_prefix(after)?)
            }
        };
        (any_rest != name.is_empty()).then_some(Self { number, rest: name })
    }

    fn fill(&self, pattern: &str) -> String {
        pattern.replace("{i}", self.number).replace('*', self.rest)
    }
}

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
            assert_eq!(fate(source).unwrap().1, targets, "{source}");
            for target in targets {
                let again = source_of(target).unwrap();
                assert_eq!(again.replace("gamma", "grandma"), source.replace("gamma", "grandma"));
            }
        }
    }

    #[test]
    fn buffers_become_values_and_foreign_parts_are_refused() {
        let only = |name: &str| fate(name).unwrap().0;
        assert_eq!(only("vision_model.radio_model.input_conditioner.norm_std"), Fate::Value(Buffer::NormStd));
        assert_eq!(only("vision_model.radio_model.summary_idxs"), Fate::Value(Buffer::SummaryIdxs));
        assert!(matches!(only("language_model.model.rotary_emb.inv_freq"), Fate::Skip(_)));
        for name in [
            "vision_model.radio_model.model.patch_generator.video_embedder.weight",
            "vision_model.radio_model.adaptors.clip.head_mlp.fc1.weight",
            "vision_model.radio_model.feature_normalizer.mean",
            "vision_model.radio_model.model.blocks.3.attn.qkv.parametrizations.weight.original",
            "vision_model.radio_model.model.blocks.0.mlp.fc1.parametrizations.weight.0.scale",
            "language_model.model.layers.0.mlp.up_proj.parametrizations.weight.original",
            "mlp1.1.parametrizations.weight.original",
        ] {
            assert!(matches!(only(name), Fate::Refuse(_)), "{name}");
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
            assert_eq!(fate(name).map(|(fate, _)| fate), None, "{name}");
        }
    }
}
