//! Mistakes in what a module computes.

use tch::{Kind, Tensor};

use super::mistake::{Change, Mistake};
use crate::error::Result;
use crate::model::llama::rms_norm;
use crate::model::observer::Operation;
use crate::scalar::ScalarOps as _;

/// Pixels are normalised a second time.
pub const NORMALISED_TWICE: Mistake = Mistake {
    name: "normalised-twice",
    what: "pixels are normalised twice",
    change: Change::Computation(|operation| {
        let Operation::Normalise { pixels, mean, std, kind } = operation else { return Ok(None) };
        let normalise = |pixels: &Tensor| pixels.f_sub(mean)?.f_div(std);
        Ok(Some(normalise(&normalise(pixels)?)?.f_to_kind(kind)?))
    }),
};

/// The tower's attention hides later tokens.
pub const CAUSAL_TOWER: Mistake = Mistake {
    name: "causal-tower",
    what: "the tower's attention hides later tokens",
    change: Change::Computation(|operation| {
        let Operation::FusedAttention { qkv, num_heads } = operation else { return Ok(None) };
        let (tiles, tokens, width) = qkv.size3()?;
        let qkv = qkv.f_reshape([tiles, tokens, 3, num_heads, width / 3 / num_heads])?;
        tower_attention(&qkv.f_permute([2, 0, 3, 1, 4])?, true).map(Some)
    }),
};

/// Queries, keys and values alternate head by head in the fused projection.
pub const QKV_BY_HEAD: Mistake = Mistake {
    name: "qkv-by-head",
    what: "the fused `qkv` is read head by head",
    change: Change::Computation(|operation| {
        let Operation::FusedAttention { qkv, num_heads } = operation else { return Ok(None) };
        let (tiles, tokens, width) = qkv.size3()?;
        let qkv = qkv.f_reshape([tiles, tokens, num_heads, 3, width / 3 / num_heads])?;
        tower_attention(&qkv.f_permute([3, 0, 2, 1, 4])?, false).map(Some)
    }),
};

/// The attention of the tower.
///
/// # Shapes
/// `[3, t, h, n, d]` → `[t, n, w]`
fn tower_attention(qkv: &Tensor, is_causal: bool) -> Result<Tensor> {
    let [query, key, value] = [0, 1, 2].map(|part| qkv.f_select(0, part));
    let (query, key, value) = (query?, key?, value?);
    let output = Tensor::f_scaled_dot_product_attention(
        &query,
        &key,
        &value,
        None::<&Tensor>,
        0.0,
        is_causal,
        None,
        false,
    )?;
    let (tiles, heads, tokens, head_dim) = output.size4()?;
    Ok(output.f_transpose(1, 2)?.f_reshape([tiles, tokens, heads * head_dim])?)
}

/// GELU by tanh.
pub const TANH_GELU: Mistake = Mistake {
    name: "tanh-gelu",
    what: "GELU by tanh, and not by the error function",
    change: Change::Computation(|operation| match operation {
        Operation::Gelu { input } => Ok(Some(input.f_gelu("tanh")?)),
        _ => Ok(None),
    }),
};

/// The decoder's MLP has a GELU.
pub const GELU_FOR_SILU: Mistake = Mistake {
    name: "gelu-for-silu",
    what: "GELU in the decoder, and not SiLU",
    change: Change::Computation(|operation| match operation {
        Operation::Silu { input } => Ok(Some(input.f_gelu("none")?)),
        _ => Ok(None),
    }),
};

/// Image embeddings are put one token too late.
pub const MERGED_ONE_LATE: Mistake = Mistake {
    name: "merged-one-late",
    what: "image embeddings are put one token too late",
    change: Change::Computation(|operation| {
        let Operation::Merge { text_embeds, is_image, image_features } = operation else { return Ok(None) };
        merge(text_embeds, &is_image.f_roll(1, 1)?, image_features).map(Some)
    }),
};

/// Image embeddings are put in the order of the tiles reversed.
pub const MERGED_TILES_REVERSED: Mistake = Mistake {
    name: "merged-tiles-reversed",
    what: "image embeddings are put in the reverse order of the tiles",
    change: Change::Computation(|operation| {
        let Operation::Merge { text_embeds, is_image, image_features } = operation else { return Ok(None) };
        merge(text_embeds, is_image, &image_features.f_flip([0])?).map(Some)
    }),
};

fn merge(text_embeds: &Tensor, is_image: &Tensor, image_features: &Tensor) -> Result<Tensor> {
    Ok(text_embeds.f_index_put(&[Some(is_image)], &image_features.f_flatten(0, 1)?, false)?)
}

/// The weights of the decoder's norms are taken for their distance from 1.
pub const NORM_PLUS_ONE: Mistake = Mistake {
    name: "norm-plus-one",
    what: "the decoder's norms multiply by 1 + weight, as Gemma's do",
    change: Change::Computation(|operation| match operation {
        Operation::RmsNorm { input, weight, eps } => {
            Ok(Some(rms_norm(input, &weight.try_add_scalar(1)?, eps)?))
        }
        _ => Ok(None),
    }),
};

/// Harmless: a norm of the decoder is cast back after its weight.
pub const NORM_CAST_LAST: Mistake = Mistake {
    name: "norm-cast-last",
    what: "norms cast back after their weights",
    change: Change::Computation(|operation| {
        let Operation::RmsNorm { input, weight, eps } = operation else { return Ok(None) };
        let upcast = input.f_to_kind(Kind::Float)?;
        let variance = upcast.try_pow_scalar(2)?.f_mean_dim(-1, true, None)?;
        let normed = upcast.f_mul(&variance.try_add_scalar(eps)?.f_rsqrt()?)?;
        Ok(Some(weight.f_mul(&normed)?.f_to_kind(input.kind())?))
    }),
};

/// Harmless: a bias is added to the product when that is rounded.
pub const BIAS_APART: Mistake = Mistake {
    name: "bias-apart",
    what: "products rounded before the bias is added",
    change: Change::Computation(|operation| match operation {
        Operation::Linear { input, weight, bias: Some(bias) } => {
            Ok(Some(input.f_linear(weight, None::<&Tensor>)?.f_add(bias)?))
        }
        _ => Ok(None),
    }),
};
