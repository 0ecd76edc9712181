//! What the decoder's attention is computed from: this step's tokens, and those in the cache.

use super::operators::{self, Groups, Operators};
use super::way::Way;

/// Where the keys and values of a layer in the cache come from.
#[derive(Default)]
pub(super) struct Cached {
    /// Keys and values.
    pub(super) states: [Way; 2],
    /// The weights of the last attention, where it has some.
    pub(super) weights: Way,
}

/// Where the inputs of an attention come from.
pub(super) struct Given {
    /// Queries, keys and values.
    pub(super) projections: [Way; 3],
    /// Cosines and sines.
    pub(super) angles: [Way; 2],
}

impl Cached {
    /// Adds a step's tokens. Where the output of the last projection comes from.
    ///
    /// `casts` are the conversions around the softmax of an attention that has weights; `None` of one that has none.
    pub(super) fn attend(&mut self, given: &Given, casts: Option<&[Operators]>, groups: &mut Groups) -> Way {
        let [query, key, value] = &given.projections;
        let [cos, sin] = &given.angles;
        let query = groups.mixed([query, cos, sin], &[operators::ROTATE]);
        let key = groups.mixed([key, cos, sin], &[operators::ROTATE]);
        let [keys, values] = &mut self.states;
        *keys = groups.mixed([&*keys, &key], &[operators::APPEND]);
        *values = groups.mixed([&*values, value], &[operators::APPEND]);
        let Some(casts) = casts else {
            return groups.mixed([&query, keys, values], &[operators::SDPA, operators::LINEAR]);
        };
        let scores = groups.mixed([&query, keys], &[operators::SCORES]);
        self.weights = groups.mixed([&scores], casts);
        groups.mixed([&self.weights, values], &[operators::VALUES, operators::LINEAR])
    }
}
