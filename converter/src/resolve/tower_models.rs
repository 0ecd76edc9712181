//! The vision transformers that `args.model` can name, as timm and RADIO register them.

/// A vision transformer before `model_kwargs`.
///
/// All of them have biases on queries, keys and values, LayerNorm with epsilon 1e-6 and the exact GELU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TowerModel {
    pub(super) name: &'static str,
    /// Side of a patch in pixels.
    pub(super) patch_size: usize,
    pub(super) embed_dim: usize,
    pub(super) depth: usize,
    pub(super) num_heads: usize,
    pub(super) mlp_ratio: f64,
    /// Initial LayerScale, where the blocks have one.
    pub(super) init_values: Option<f64>,
}

/// Side of the pictures that every one of them was registered for, in pixels.
pub(super) const REGISTERED_IMG_SIZE: usize = 224;
/// Epsilon of timm's LayerNorm in a vision transformer.
pub(super) const LAYER_NORM_EPS: f64 = 1e-6;

const fn model(
    name: &'static str,
    patch_size: usize,
    embed_dim: usize,
    depth: usize,
    num_heads: usize,
) -> TowerModel {
    TowerModel { name, patch_size, embed_dim, depth, num_heads, mlp_ratio: 4.0, init_values: None }
}

/// The table.
pub(super) const TOWER_MODELS: &[TowerModel] = &[
    model("vit_tiny_patch14_224", 14, 192, 12, 3),
    model("vit_tiny_patch16_224", 16, 192, 12, 3),
    model("vit_small_patch14_224", 14, 384, 12, 6),
    model("vit_small_patch16_224", 16, 384, 12, 6),
    model("vit_base_patch14_224", 14, 768, 12, 12),
    model("vit_base_patch16_224", 16, 768, 12, 12),
    model("vit_large_patch14_224", 14, 1024, 24, 16),
    model("vit_large_patch16_224", 16, 1024, 24, 16),
    TowerModel { mlp_ratio: 4304.0 / 1152.0, ..model("vit_so400m_patch16_224", 16, 1152, 27, 16) },
    // Its MLP is rounded up to a multiple of 32.
    TowerModel { mlp_ratio: 4320.0 / 1152.0, ..model("vit_so400m_v2_patch16_224", 16, 1152, 27, 16) },
    model("vit_huge_patch14_224", 14, 1280, 32, 16),
    model("vit_huge_patch16_224", 16, 1280, 32, 16),
    // timm's giant and RADIO's are not the same.
    TowerModel { mlp_ratio: 48.0 / 11.0, ..model("vit_giant_patch14_224", 14, 1408, 40, 16) },
    model("vit_giant_patch16_224", 16, 1536, 40, 24),
    TowerModel { mlp_ratio: 64.0 / 13.0, ..model("vit_gigantic_patch14_224", 14, 1664, 48, 16) },
    TowerModel { init_values: Some(1e-6), ..model("vit_bigG_patch14_224", 14, 1664, 48, 16) },
];

impl TowerModel {
    /// The model of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        TOWER_MODELS.iter().find(|model| model.name == name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_can_be_built() {
        for model in TOWER_MODELS {
            assert!(model.embed_dim.is_multiple_of(model.num_heads), "{}", model.name);
            assert!(model.name.contains(&format!("patch{}_", model.patch_size)), "{}", model.name);
            assert_eq!(TowerModel::of(model.name), Some(*model));
        }
        let giant = TowerModel::of("vit_giant_patch14_224").unwrap();
        assert_eq!((giant.embed_dim as f64 * giant.mlp_ratio) as usize, 6144);
        let so400m = TowerModel::of("vit_so400m_patch16_224").unwrap();
        assert_eq!((so400m.embed_dim as f64 * so400m.mlp_ratio) as usize, 4304);
        let so400m = TowerModel::of("vit_so400m_v2_patch16_224").unwrap();
        assert_eq!((so400m.embed_dim as f64 * so400m.mlp_ratio) as usize, 4320);
    }
}
