//! Mistakes in what the decoder counts: positions, and places in its cache.

use super::mistake::{Change, Mistake};
use crate::model::observer::Counter;

/// Positions are counted from one.
pub const POSITIONS_FROM_ONE: Mistake = Mistake {
    name: "positions-from-one",
    what: "positions are counted from one",
    change: Change::Count(|counter, count| match counter {
        Counter::FirstPosition => count + 1,
        Counter::CacheSlot => count,
    }),
};

/// The position of the last token of the prompt is given to the first that is decoded, and so on.
pub const POSITION_STANDS: Mistake = Mistake {
    name: "position-stands",
    what: "the position stands still while decoding",
    change: Change::Count(|counter, count| match counter {
        Counter::FirstPosition => (count - 1).max(0),
        Counter::CacheSlot => count,
    }),
};

/// A decoded token takes the place of the last one in the cache.
pub const CACHE_OVERWRITES: Mistake = Mistake {
    name: "cache-overwrites",
    what: "the cache forgets the last position of the prompt",
    change: Change::Count(|counter, count| match counter {
        Counter::FirstPosition => count,
        Counter::CacheSlot => (count - 1).max(0),
    }),
};
