//! The names of tensors in a part.

use crate::nemotron_vl::Part;

const ATTENTION: &str = ".attention.";
const QKV: [&str; 3] = ["q_proj.", "k_proj.", "v_proj."];

/// What becomes of a normalized tensor in a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PartName {
    /// It gets this name.
    Plain(String),
    /// It is the first of three that stay one tensor of this name, as in the source.
    Qkv(String),
    /// It is inside the tensor that an earlier one became.
    InsideQkv,
}

/// What becomes of the normalized tensor `name` in `part`.
///
/// Releases of transformers name the projections of the tower's attention differently (`attention.attention.query` up to
/// 5.22, `attention.q_proj` later), and every one of them takes the source's own names, `attn.qkv` and `attn.proj`.
pub(crate) fn name_in(part: Part, name: &str) -> PartName {
    match part {
        Part::All => PartName::Plain(name.to_string()),
        Part::Text => PartName::Plain(name.trim_start_matches("language_model.").to_string()),
        Part::Vision => {
            let name = name.trim_start_matches("vision_model.");
            let Some((block, rest)) = name.split_once(ATTENTION) else {
                return PartName::Plain(name.to_string());
            };
            if let Some(leaf) = rest.strip_prefix("o_proj.") {
                return PartName::Plain(format!("{block}.attn.proj.{leaf}"));
            }
            match QKV.map(|prefix| rest.strip_prefix(prefix)) {
                [Some(leaf), _, _] => PartName::Qkv(format!("{block}.attn.qkv.{leaf}")),
                [_, None, None] => PartName::Plain(name.to_string()),
                _ => PartName::InsideQkv,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_go_and_queries_keys_and_values_stay_together() {
        let no = |name: &str| PartName::Plain(name.to_string());
        assert_eq!(name_in(Part::Text, "language_model.model.norm.weight"), no("model.norm.weight"));
        assert_eq!(name_in(Part::Text, "language_model.lm_head.weight"), no("lm_head.weight"));
        let vision = |name: &str| name_in(Part::Vision, name);
        let embedding = "vision_model.embeddings.position_embedding";
        assert_eq!(vision(embedding), no("embeddings.position_embedding"));
        let layer = "vision_model.encoder.layer.7";
        assert_eq!(vision(&format!("{layer}.mlp.fc1.bias")), no("encoder.layer.7.mlp.fc1.bias"));
        assert_eq!(
            vision(&format!("{layer}.layer_scale1.lambda1")),
            no("encoder.layer.7.layer_scale1.lambda1")
        );
        assert_eq!(vision(&format!("{layer}.attention.o_proj.bias")), no("encoder.layer.7.attn.proj.bias"));
        let first = PartName::Qkv("encoder.layer.7.attn.qkv.weight".to_string());
        assert_eq!(vision(&format!("{layer}.attention.q_proj.weight")), first);
        assert_eq!(vision(&format!("{layer}.attention.k_proj.weight")), PartName::InsideQkv);
        assert_eq!(vision(&format!("{layer}.attention.v_proj.bias")), PartName::InsideQkv);
        let projector = "multi_modal_projector.linear_1.weight";
        assert_eq!(vision(projector), no(projector));
    }
}
