//! What the decoder's attention is computed from, this step's tokens and those of the cache.

use golden::{Entry, Flow};
use tch::Kind;

use super::operators::{self, Operators};
use super::way::Way;
use super::{Tracker, has_weights, mixed};

/// Where the keys and values of a layer come from, and the weights that were computed of them last.
#[derive(Default)]
pub(super) struct Cached {
    states: [Way; 2],
    pub(super) weights: Way,
}

impl Tracker {
    /// Notes that an attention has run: what its last projection comes from.
    pub(super) fn attend(&mut self, attention: &str, kind: Kind) -> Way {
        let of = |site: &str| self.step.sites.get(site).map(|&tensor| self.step.tensors[tensor].clone());
        let of = |site: &str| of(site).unwrap_or_default();
        let projection = |name: &str| of(&format!("{attention}.{name}"));
        let (query, key, value) = (projection("q_proj"), projection("k_proj"), projection("v_proj"));
        let angles = ["cos", "sin"].map(|name| of(&format!("language_model.model.rotary_emb.{name}")));

        let groups = &mut self.groups;
        let [cos, sin] = &angles;
        let query = mixed([&query, cos, sin], groups, &[operators::ROTATE]);
        let key = mixed([&key, cos, sin], groups, &[operators::ROTATE]);
        let cached = self.cache.entry(attention.to_owned()).or_default();
        let [keys, values] = &mut cached.states;
        *keys = mixed([&*keys, &key], groups, &[operators::CACHE]);
        *values = mixed([&*values, &value], groups, &[operators::CACHE]);
        if !has_weights(self.attention) {
            return mixed([&query, keys, values], groups, &[operators::SDPA, operators::LINEAR]);
        }
        let casts: &[Operators] = if kind == Kind::Float { &[] } else { &[operators::THERE_AND_BACK] };
        let scores = mixed([&query, keys], groups, &[operators::SCORES]);
        cached.weights = mixed([&scores], groups, casts);
        mixed([&cached.weights, values], groups, &[operators::VALUES, operators::LINEAR])
    }

    /// What the keys (0) or values (1) of an attention's cache come from, `entries` being those so far; they are recorded next.
    pub(crate) fn cached(&mut self, attention: &str, which: usize, entries: &[Entry]) -> Option<Flow> {
        let way = &mut self.cache.get_mut(attention)?.states[which];
        let flow = self.groups.flow(way, entries);
        *way = Way::of_entry(entries.len() as u64);
        Some(flow)
    }
}
