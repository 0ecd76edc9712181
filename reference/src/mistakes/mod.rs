//! Mistakes that people make when they port the model, as data.
//!
//! A mistake changes what is loaded, what a module computes, what the decoder's attention is computed of, what a site gives, or
//! what is counted. The model knows none of them. [`load`] and the observer of [`plant`] put them into a run. Beside the
//! mistakes there are harmless changes, which a comparison must let pass.

mod attention;
mod blocks;
mod computations;
mod counters;
mod loaded;
mod mistake;
mod outputs;
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
pub use loaded::{FEATURES_NOT_CAST, POSITIONS_CUT};
pub use mistake::Mistake;
pub use outputs::{COLOURS_LAST, LAST_BUT_ONE, NORM_TWICE, PREFIX_BEHIND, REGISTERS_KEPT};
pub use plant::{load, plant};

/// All mistakes, and the harmless changes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_and_a_sentence_of_its_own() {
        for (at, mistake) in ALL.iter().enumerate() {
            assert!(!mistake.what.is_empty(), "{mistake:?}");
            let others = || ALL.iter().take(at);
            assert!(others().all(|other| other.name != mistake.name && other.what != mistake.what));
        }
    }
}
