//! Mistakes that show only while tokens are decoded: in positions, and in the key-value cache. The prefill's sites stay as they are.

use tch::{Kind, Tensor};

use super::mistake::{Change, Mistake, Wrong};
use crate::error::Result;
use crate::model::llama::apply_rotary_pos_emb;
use crate::model::observer::{AttentionInputs, Operation, Site};

const fn mistake(name: &'static str, what: &'static str, wrong: Wrong) -> Mistake {
    Mistake { name, what, change: Change::Decoding(wrong) }
}

/// Decoded tokens have positions that are one too high.
pub const POSITION_ONE_AHEAD: Mistake = mistake(
    "position-one-ahead",
    "positions are one too high while decoding",
    Wrong::Position(|_, count| count + 1),
);

/// All decoded tokens have the position of the first.
pub const POSITION_STUCK: Mistake = mistake(
    "position-stuck",
    "all decoded tokens have the position of the first",
    Wrong::Position(|pass, _| pass.prompt),
);

/// Positions begin anew with the first decoded token.
pub const POSITION_RESTARTS: Mistake = mistake(
    "position-restarts",
    "positions begin from 0 with the first decoded token",
    Wrong::Position(|pass, count| count - pass.prompt),
);

/// Positions are right up to a step.
pub const POSITION_SLIPS: Mistake = mistake(
    "position-slips",
    "positions are one too high from step 3 on",
    Wrong::Position(|pass, count| count + i64::from(pass.step >= 3)),
);

/// Each decoded token takes the place of the one before it.
pub const CACHE_KEEPS_ONE: Mistake = mistake(
    "cache-keeps-one",
    "the cache forgets each decoded token when the next one comes",
    Wrong::Slot(|pass, _| pass.prompt),
);

/// The first position is lost.
pub const CACHE_FORGETS: Mistake = mistake(
    "cache-forgets",
    "the cache has forgotten its first position",
    Wrong::Cache(|_, _, inputs| {
        each(inputs, |states, _| write(states, 0, &place(states, 0)?.f_zeros_like()?))
    }),
);

/// A decoded token repeats what is in the place before its own.
pub const CACHE_REPEATS: Mistake = mistake(
    "cache-repeats",
    "the cache repeats the position before a decoded token in the place of its own",
    Wrong::Cache(|_, _, inputs| each(inputs, |states, last| write(states, last, &place(states, last - 1)?))),
);

/// All positions move on by one.
pub const CACHE_ROLLED: Mistake = mistake(
    "cache-rolled",
    "the cache of layer 1 is rolled by one position in step 2",
    Wrong::Cache(|pass, site, inputs| match (pass.step, layer_of(site)) {
        (2, Some(1)) => each(inputs, |states, _| {
            let rolled = states.f_roll(1, 2)?;
            states.f_copy_(&rolled)?;
            Ok(())
        }),
        _ => Ok(()),
    }),
);

/// Some positions are those of a request before this one.
pub const CACHE_STALE: Mistake = mistake(
    "cache-stale",
    "four positions of the cache of layer 1 are those of another request in step 2",
    Wrong::Cache(|pass, site, inputs| match (pass.step, layer_of(site)) {
        (2, Some(1)) => each(inputs, |states, _| {
            let mut other = states.f_narrow(2, 4, 4)?;
            let spread = other.f_to_kind(Kind::Float)?.f_std(true)?.f_double_value(&[])?;
            let numbers = (0..other.numel()).map(|at| (spread * ((at * at) as f64).sin()) as f32);
            let numbers = Tensor::f_from_slice(&numbers.collect::<Vec<f32>>())?;
            other.f_copy_(&numbers.f_view(other.size().as_slice())?)?;
            Ok(())
        }),
        _ => Ok(()),
    }),
);

/// A decoded token is put over the one before it, and its own place stays empty.
pub const CACHE_WRONG_SLOT: Mistake = mistake(
    "cache-wrong-slot",
    "a decoded token is put into the place before its own",
    Wrong::Cache(|_, _, inputs| {
        each(inputs, |states, last| {
            write(states, last - 1, &place(states, last)?)?;
            write(states, last, &place(states, last)?.f_zeros_like()?)
        })
    }),
);

/// Decoded tokens are cached in fewer bits.
pub const CACHE_DTYPE: Mistake = mistake(
    "cache-dtype",
    "decoded tokens are rounded to float8 in the cache",
    Wrong::Cache(|_, _, inputs| {
        each(inputs, |states, last| {
            let rounded = place(states, last)?.f_to_kind(Kind::Float8e4m3fn)?.f_to_kind(states.kind())?;
            write(states, last, &rounded)
        })
    }),
);

/// Only the last positions are seen.
pub const CACHE_WINDOW: Mistake = mistake(
    "cache-window",
    "a decoded token sees the last 16 positions only",
    Wrong::Cache(|_, _, inputs| {
        let first = (inputs.key.size()[2] - 16).max(0);
        let window = |states: &Tensor| states.f_narrow(2, first, states.size()[2] - first);
        (inputs.key, inputs.value) = (window(&inputs.key)?, window(&inputs.value)?);
        Ok(())
    }),
);

/// The keys of decoded tokens are not rotated.
pub const DECODED_KEYS_NOT_ROTATED: Mistake = Mistake {
    name: "decoded-keys-not-rotated",
    what: "the keys of decoded tokens are not rotated",
    change: Change::Computation(|operation| match operation {
        Operation::Rotate { states, is_key: true, .. } if states.size()[2] == 1 => {
            Ok(Some(states.shallow_clone()))
        }
        _ => Ok(None),
    }),
};

/// The keys of decoded tokens are rotated before they are cached, and once more.
pub const DECODED_KEYS_ROTATED_TWICE: Mistake = Mistake {
    name: "decoded-keys-rotated-twice",
    what: "the keys of decoded tokens are rotated twice",
    change: Change::Computation(|operation| match operation {
        Operation::Rotate { states, cos, sin, is_key: true } if states.size()[2] == 1 => {
            Ok(Some(apply_rotary_pos_emb(&apply_rotary_pos_emb(states, cos, sin)?, cos, sin)?))
        }
        _ => Ok(None),
    }),
};

/// Changes the keys and the values of a layer, given the last position. They are the cache's own memory.
fn each(inputs: &mut AttentionInputs, change: impl Fn(&mut Tensor, i64) -> Result<()>) -> Result<()> {
    let last = inputs.key.size()[2] - 1;
    change(&mut inputs.key, last)?;
    change(&mut inputs.value, last)
}

/// # Shapes
/// [b, kv, k, d] → [b, kv, 1, d]
fn place(states: &Tensor, position: i64) -> Result<Tensor> {
    Ok(states.f_narrow(2, position, 1)?)
}

fn write(states: &Tensor, position: i64, numbers: &Tensor) -> Result<()> {
    place(states, position)?.f_copy_(numbers)?;
    Ok(())
}

/// The number of the layer of an attention.
fn layer_of(site: Site<'_>) -> Option<usize> {
    site.name.strip_suffix(".self_attn")?.rsplit_once('.')?.1.parse().ok()
}
