//! Tensors by what they have in common, so that each is compared with few others.

use std::collections::HashMap;
use std::hash::Hash;

/// How many tensors one is compared with. Of more that could be its counterpart, those are that stand nearest to its place in
/// the order of execution: else the comparisons would grow with the square of the number of entries.
pub(super) const MOST: usize = 2048;

/// The places of tensors, in their order, by a key that they share.
pub(super) struct Index<K>(HashMap<K, Vec<usize>>);

impl<K: Hash + Eq> Index<K> {
    /// The places of the keys; those that have none are left out.
    pub(super) fn of(keys: impl Iterator<Item = Option<K>>) -> Self {
        let mut index: HashMap<K, Vec<usize>> = HashMap::new();
        for (place, key) in keys.enumerate() {
            if let Some(key) = key {
                index.entry(key).or_default().push(place);
            }
        }
        Index(index)
    }

    /// All places of a key.
    pub(super) fn all(&self, key: &K) -> &[usize] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// The places of a key that are nearest to one.
    pub(super) fn near(&self, key: &K, place: usize) -> &[usize] {
        let all = self.all(key);
        let middle = all.partition_point(|&other| other < place);
        let start = middle.saturating_sub(MOST / 2).min(all.len().saturating_sub(MOST));
        &all[start..(start + MOST).min(all.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_the_nearest_are_looked_at() {
        let index = Index::of((0..10 * MOST).map(|place| (place % 2 == 0).then_some(())));
        let near = |place| {
            let near = index.near(&(), place);
            (near.len(), near[0], near[near.len() - 1])
        };
        assert_eq!(index.all(&()).len(), 5 * MOST);
        assert_eq!(near(0), (MOST, 0, 2 * MOST - 2));
        assert_eq!(near(5 * MOST), (MOST, 4 * MOST, 6 * MOST - 2));
        assert_eq!(near(10 * MOST), (MOST, 8 * MOST, 10 * MOST - 2));
        assert_eq!(Index::of([Some('a'), None, Some('a')].into_iter()).near(&'a', 1), [0, 2]);
    }
}
