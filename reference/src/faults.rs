//! Mistakes that tests plant in the computation, to prove that the comparison finds them.
//!
//! `fault!(Name => wrong, right)` in the model is `right`, and nothing else, unless the crate is built with the feature
//! `faults`, which only tests do; with it, it is `wrong` while a test has that fault planted.

/// `fault!(Name => wrong, right)`
#[cfg(not(feature = "faults"))]
macro_rules! fault {
    ($fault:ident => $wrong:expr, $right:expr) => {
        $right
    };
}

/// `fault!(Name => wrong, right)`
#[cfg(feature = "faults")]
macro_rules! fault {
    ($fault:ident => $wrong:expr, $right:expr) => {
        if $crate::faults::is_planted($crate::faults::Fault::$fault) { $wrong } else { $right }
    };
}

pub(crate) use fault;

#[cfg(feature = "faults")]
pub use planted::{Fault, is_planted, with};

#[cfg(feature = "faults")]
mod planted {
    use std::cell::RefCell;

    thread_local! {
        static PLANTED: RefCell<Vec<Fault>> = const { RefCell::new(Vec::new()) };
    }

    /// A change of the computation.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Fault {
        /// Pixels are normalised a second time.
        NormalisedTwice,
        /// Each patch is flattened with its colours last.
        ColoursLast,
        /// The table of positions is cut at the top left, and not resized.
        PositionsCut,
        /// Class tokens and registers are put behind the patches.
        PrefixBehind,
        /// The registers are taken for the first patches.
        RegistersKept,
        /// Norms of the tower's blocks stand behind the branches.
        NormAfter,
        /// A block's attention branch has no residual around it.
        ResidualLost,
        /// The tower's attention hides later tokens.
        CausalTower,
        /// Queries, keys and values alternate head by head in the fused projection.
        QkvByHead,
        /// GELU by tanh.
        TanhGelu,
        /// Features are not cast to the language model's dtype.
        FeaturesNotCast,
        /// Image embeddings are put one token too late.
        MergedOneLate,
        /// Image embeddings are put in the order of the tiles reversed.
        MergedTilesReversed,
        /// Positions are counted from one.
        PositionsFromOne,
        /// Neighbouring numbers of a head are rotated, and not its halves.
        RotaryPairs,
        /// Keys are not rotated.
        KeysNotRotated,
        /// No token is hidden from an earlier one.
        MaskLeak,
        /// Each token sees the one behind it.
        MaskOneAhead,
        /// Scores are scaled by the width of the model, and not of a head.
        ScaledByWidth,
        /// Scores are not scaled.
        NotScaled,
        /// Query heads take turns with the key-value heads.
        KvHeadsInTurn,
        /// The decoder's MLP has a GELU.
        GeluForSilu,
        /// The decoder's final norm is applied twice.
        NormTwice,
        /// Logits are those of the last token but one.
        LastButOne,
        /// A decoded token takes the place of the last one in the cache.
        CacheOverwrites,
        /// The position stands still while decoding.
        PositionStands,

        /// Harmless: a norm is cast back after its weight.
        NormCastLast,
        /// Harmless: softmax in the dtype of the scores.
        SoftmaxInDtype,
        /// Harmless: a bias is added to the product when that is rounded.
        BiasApart,
    }

    /// Whether a fault is planted on this thread.
    pub fn is_planted(fault: Fault) -> bool {
        PLANTED.with_borrow(|planted| planted.contains(&fault))
    }

    /// Runs something with these faults, and no others, planted on this thread.
    pub fn with<T>(faults: &[Fault], run: impl FnOnce() -> T) -> T {
        let before = PLANTED.replace(faults.to_vec());
        let result = run();
        PLANTED.set(before);
        result
    }
}
