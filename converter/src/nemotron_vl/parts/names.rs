//! The names of tensors in a part.

use crate::architecture::Part;

const ATTENTION: &str = ".attention.";
/// The projections of a block's attention, and what they are in a part: queries, keys and values are one tensor.
const PROJECTIONS: [(&str, &str); 4] =
    [("q_proj.", "attn.qkv."), ("k_proj.", "attn.qkv."), ("v_proj.", "attn.qkv."), ("o_proj.", "attn.proj.")];

/// The name of the normalized tensor `name` in `part`.
///
/// Releases of transformers name the projections of the tower's attention differently (`attention.attention.query` up to
/// 5.22, `attention.q_proj` later), and every one of them takes the source's own names, `attn.qkv` and `attn.proj`.
pub(super) fn name_in(part: Part, name: &str) -> String {
    match part {
        Part::All => name.to_string(),
        Part::Text => name.trim_start_matches("language_model.").to_string(),
        Part::Vision => {
            let name = name.trim_start_matches("vision_model.");
            let in_part = name.split_once(ATTENTION).and_then(|(block, rest)| {
                PROJECTIONS
                    .iter()
                    .find_map(|(from, to)| Some(format!("{block}.{to}{}", rest.strip_prefix(from)?)))
            });
            in_part.unwrap_or_else(|| name.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_go_and_queries_keys_and_values_become_one() {
        assert_eq!(name_in(Part::Text, "language_model.model.norm.weight"), "model.norm.weight");
        assert_eq!(name_in(Part::Text, "language_model.lm_head.weight"), "lm_head.weight");
        let vision = |name: &str| name_in(Part::Vision, name);
        assert_eq!(vision("vision_model.embeddings.position_embedding"), "embeddings.position_embedding");
        let layer = "vision_model.encoder.layer.7";
        for (leaf, expected) in [
            ("mlp.fc1.bias", "mlp.fc1.bias"),
            ("layer_scale1.lambda1", "layer_scale1.lambda1"),
            ("attention.o_proj.bias", "attn.proj.bias"),
            ("attention.q_proj.weight", "attn.qkv.weight"),
            ("attention.k_proj.weight", "attn.qkv.weight"),
            ("attention.v_proj.weight", "attn.qkv.weight"),
            ("attention.v_proj.bias", "attn.qkv.bias"),
        ] {
            assert_eq!(vision(&format!("{layer}.{leaf}")), format!("encoder.layer.7.{expected}"));
        }
        let projector = "multi_modal_projector.linear_1.weight";
        assert_eq!(vision(projector), projector);
    }
}
