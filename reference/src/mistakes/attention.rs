//! Mistakes inside the decoder's attention.

use tch::Tensor;

use super::mistake::{Change, Mistake};
use crate::error::Result;
use crate::model::lowest;
use crate::model::observer::Operation;

/// Neighbouring numbers of a head are rotated, and not its halves.
pub const ROTARY_PAIRS: Mistake = Mistake {
    name: "rotary-pairs",
    what: "pairs are rotated, and not halves",
    change: Change::Computation(|operation| match operation {
        Operation::Rotate { states, cos, sin, .. } => rotate_pairs(states, cos, sin).map(Some),
        _ => Ok(None),
    }),
};

/// Rotates neighbours by the angles of the first half.
fn rotate_pairs(states: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let dim = *states.size().last().unwrap_or(&0);
    let part = |tensor: &Tensor, first: i64, step: i64, last: i64| tensor.f_slice(-1, first, last, step);
    let (even, odd) = (part(states, 0, 2, dim)?, part(states, 1, 2, dim)?);
    let (cos, sin) = (part(cos, 0, 1, dim / 2)?, part(sin, 0, 1, dim / 2)?);
    let rotated = [even.f_mul(&cos)?.f_sub(&odd.f_mul(&sin)?)?, odd.f_mul(&cos)?.f_add(&even.f_mul(&sin)?)?];
    Ok(Tensor::f_stack(&rotated, -1)?.f_flatten(-2, -1)?)
}

/// Keys are not rotated.
pub const KEYS_NOT_ROTATED: Mistake = Mistake {
    name: "keys-not-rotated",
    what: "keys are not rotated",
    change: Change::Computation(|operation| match operation {
        Operation::Rotate { states, is_key: true, .. } => Ok(Some(states.shallow_clone())),
        _ => Ok(None),
    }),
};

/// No token is hidden from an earlier one.
pub const MASK_LEAK: Mistake = Mistake {
    name: "mask-leak",
    what: "later tokens are visible",
    change: Change::Attention(|inputs| {
        (inputs.mask, inputs.is_causal) = (None, false);
        Ok(())
    }),
};

/// Each token sees the one behind it.
pub const MASK_ONE_AHEAD: Mistake = Mistake {
    name: "mask-one-ahead",
    what: "each token sees the one behind it",
    change: Change::Attention(|inputs| {
        let (tokens, keys) = (inputs.query.size()[2], inputs.key.size()[2]);
        if tokens > 1 {
            let (kind, device) = (inputs.query.kind(), inputs.query.device());
            let hidden = Tensor::f_from_slice(&[lowest(kind)])?.f_to_device(device)?.f_to_kind(kind)?;
            let hidden = hidden.f_expand([1, 1, tokens, keys], false)?;
            (inputs.mask, inputs.is_causal) = (Some(hidden.f_triu(keys - tokens + 2)?), false);
        }
        Ok(())
    }),
};

/// Scores are scaled by the width of the model, and not of a head.
pub const SCALED_BY_WIDTH: Mistake = Mistake {
    name: "scaled-by-width",
    what: "scores are divided by the root of the width, and not of `head_dim`",
    change: Change::Attention(|inputs| {
        inputs.scaling *= (inputs.query.size()[1] as f64).powf(-0.5);
        Ok(())
    }),
};

/// Scores are not scaled.
pub const NOT_SCALED: Mistake = Mistake {
    name: "not-scaled",
    what: "scores are not scaled",
    change: Change::Attention(|inputs| {
        inputs.scaling = 1.0;
        Ok(())
    }),
};

/// Query heads take turns with the key-value heads.
pub const KV_HEADS_IN_TURN: Mistake = Mistake {
    name: "kv-heads-in-turn",
    what: "key-value heads are repeated in turn, and not side by side",
    change: Change::Attention(|inputs| {
        let groups = std::mem::replace(&mut inputs.num_key_value_groups, 1);
        inputs.key = inputs.key.f_repeat([1, groups, 1, 1])?;
        inputs.value = inputs.value.f_repeat([1, groups, 1, 1])?;
        Ok(())
    }),
};

/// Harmless: softmax in the dtype of the scores.
pub const SOFTMAX_IN_DTYPE: Mistake = Mistake {
    name: "softmax-in-dtype",
    what: "softmax in bfloat16",
    change: Change::Attention(|inputs| {
        inputs.softmax_kind = inputs.query.kind();
        Ok(())
    }),
};
