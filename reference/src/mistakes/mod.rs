//! Mistakes that people make when they port the model, as data.
//!
//! A mistake changes what is loaded, what a module computes, what the decoder's attention is computed of, what a site gives, or
//! what is counted. The model knows none of them. [`load`] and the observer of [`plant`] put them into a run. Beside the
//! mistakes there are harmless changes, which a comparison must let pass.

mod attention;
mod blocks;
mod computations;
mod counters;
mod decoding;
mod loaded;
mod mistake;
mod outputs;
mod passes;
mod plant;

pub use attention::{
    KEYS_NOT_ROTATED, KV_HEADS_IN_TURN, MASK_LEAK, MASK_ONE_AHEAD, NOT_SCALED, ROTARY_PAIRS, SCALED_BY_WIDTH,
    SOFTMAX_IN_DTYPE,
};
pub use blocks::{NORM_AFTER, RESIDUAL_LOST};
pub use computations::{
    BIAS_APART, CAUSAL_TOWER, GELU_FOR_SILU, MERGED_ONE_LATE, MERGED_TILES_REVERSED, NORM_CAST_LAST,
    NORM_PLUS_ONE, NORMALISED_TWICE, QKV_BY_HEAD, TANH_GELU,
};
pub use counters::{CACHE_OVERWRITES, POSITION_STANDS, POSITIONS_FROM_ONE};
pub use decoding::{
    CACHE_DTYPE, CACHE_FORGETS, CACHE_KEEPS_ONE, CACHE_REPEATS, CACHE_ROLLED, CACHE_STALE, CACHE_WINDOW,
    CACHE_WRONG_SLOT, DECODED_KEYS_NOT_ROTATED, DECODED_KEYS_ROTATED_TWICE, POSITION_ONE_AHEAD,
    POSITION_RESTARTS, POSITION_SLIPS, POSITION_STUCK,
};
pub use loaded::{FEATURES_NOT_CAST, POSITIONS_CUT};
pub use mistake::Mistake;
pub use outputs::{COLOURS_LAST, LAST_BUT_ONE, NORM_TWICE, PREFIX_BEHIND, REGISTERS_KEPT};
pub use plant::{load, plant};

/// All mistakes that a comparison of the prefill and the logits shows, and the harmless changes.
pub const ALL: [Mistake; 30] = [
    NORMALISED_TWICE,
    COLOURS_LAST,
    POSITIONS_CUT,
    PREFIX_BEHIND,
    REGISTERS_KEPT,
    NORM_AFTER,
    RESIDUAL_LOST,
    CAUSAL_TOWER,
    QKV_BY_HEAD,
    TANH_GELU,
    FEATURES_NOT_CAST,
    MERGED_ONE_LATE,
    MERGED_TILES_REVERSED,
    POSITIONS_FROM_ONE,
    ROTARY_PAIRS,
    KEYS_NOT_ROTATED,
    MASK_LEAK,
    MASK_ONE_AHEAD,
    SCALED_BY_WIDTH,
    NOT_SCALED,
    KV_HEADS_IN_TURN,
    NORM_PLUS_ONE,
    GELU_FOR_SILU,
    NORM_TWICE,
    LAST_BUT_ONE,
    CACHE_OVERWRITES,
    POSITION_STANDS,
    NORM_CAST_LAST,
    SOFTMAX_IN_DTYPE,
    BIAS_APART,
];

/// Mistakes that show only in the passes behind the prefill.
pub const DECODING: [Mistake; 16] = [
    POSITION_STANDS,
    POSITION_ONE_AHEAD,
    POSITION_STUCK,
    POSITION_RESTARTS,
    POSITION_SLIPS,
    CACHE_OVERWRITES,
    CACHE_KEEPS_ONE,
    CACHE_FORGETS,
    CACHE_REPEATS,
    CACHE_ROLLED,
    CACHE_STALE,
    CACHE_WRONG_SLOT,
    CACHE_DTYPE,
    CACHE_WINDOW,
    DECODED_KEYS_NOT_ROTATED,
    DECODED_KEYS_ROTATED_TWICE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_and_a_sentence_of_its_own() {
        let decoding = DECODING.iter().filter(|mistake| ALL.iter().all(|other| other.name != mistake.name));
        let all: Vec<&Mistake> = ALL.iter().chain(decoding).collect();
        assert_eq!(all.len(), ALL.len() + 14);
        for (at, mistake) in all.iter().enumerate() {
            assert!(!mistake.what.is_empty(), "{mistake:?}");
            let others = || all.iter().take(at);
            assert!(others().all(|other| other.name != mistake.name && other.what != mistake.what));
        }
    }
}
