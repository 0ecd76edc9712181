//! Where a tensor comes from: the recorded entries behind it, and the operators on the way.

use std::collections::BTreeMap;

use golden::RowAlignment;

/// The most words of a set of operators, 64 groups each: some hundred passes of the 8B that were not recorded.
const MOST_WORDS: usize = 4096;

/// Where a tensor comes from.
#[derive(Debug, Clone, Default)]
pub(super) struct Way {
    /// The entries next to it on the way back, by their order.
    pub(super) inputs: BTreeMap<u64, RowAlignment>,
    /// The numbers of the groups of operators on the way.
    operators: Numbers,
    /// The way has become too long to be followed.
    is_lost: bool,
}

impl Way {
    /// That of an entry itself.
    pub(super) fn of_entry(order: u64) -> Self {
        Self { inputs: BTreeMap::from([(order, RowAlignment::Same)]), ..Self::default() }
    }

    /// Adds a tensor that this one is computed from.
    pub(super) fn join(&mut self, other: &Way, rows: RowAlignment) {
        for (&order, &inner) in &other.inputs {
            let rows = rows.through(inner);
            self.inputs.entry(order).and_modify(|before| *before = before.or(rows)).or_insert(rows);
        }
        self.operators.join(&other.operators);
        if other.is_lost || self.operators.words.len() > MOST_WORDS {
            *self = Self { is_lost: true, ..Self::default() };
        }
    }

    /// Adds a group of operators.
    pub(super) fn pass(&mut self, group: usize) {
        if !self.is_lost {
            self.operators.join(&Numbers { first: group / 64, words: vec![1 << (group % 64)] });
        }
    }

    /// Whether it is known.
    pub(super) fn is_known(&self) -> bool {
        !self.is_lost
    }

    /// Whether it leads nowhere.
    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty() && !self.is_lost
    }

    /// The numbers of the groups of operators.
    pub(super) fn operators(&self) -> impl Iterator<Item = usize> {
        self.operators.iter()
    }
}

/// A set of numbers, a bit each: what lies behind a token grows with every pass that is not recorded.
#[derive(Debug, Clone, Default)]
struct Numbers {
    /// The number of the first word.
    first: usize,
    words: Vec<u64>,
}

impl Numbers {
    fn join(&mut self, other: &Numbers) {
        if other.words.is_empty() {
            return;
        }
        if self.words.is_empty() {
            self.first = other.first;
        }
        if other.first < self.first {
            let missing = self.first - other.first;
            self.words.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = other.first;
        }
        let offset = other.first - self.first;
        let len = self.words.len().max(offset + other.words.len());
        self.words.resize(len, 0);
        for (word, other) in self.words[offset..].iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.words.iter().zip(self.first..).filter(|(word, _)| **word != 0);
        words.flat_map(|(word, at)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| 64 * at + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(groups: &[usize]) -> Way {
        let mut way = Way::default();
        groups.iter().for_each(|&group| way.pass(group));
        way
    }

    #[test]
    fn operators_on_two_ways_are_counted_once() {
        let mut joined = way(&[700, 3]);
        joined.join(&way(&[3, 64, 9000]), RowAlignment::Same);
        joined.join(&Way::default(), RowAlignment::Same);
        assert_eq!(joined.operators().collect::<Vec<_>>(), [3, 64, 700, 9000]);
        let mut later = way(&[9000]);
        later.join(&way(&[5]), RowAlignment::Same);
        assert_eq!(later.operators().collect::<Vec<_>>(), [5, 9000]);
    }

    #[test]
    fn an_input_on_two_ways_has_the_rows_of_both() {
        let mut way = Way::default();
        way.join(&Way::of_entry(1), RowAlignment::FromEnd);
        way.join(&Way::of_entry(2), RowAlignment::Same);
        let mut both = Way::of_entry(2);
        both.join(&way, RowAlignment::FromEnd);
        let expected = [(1, RowAlignment::FromEnd), (2, RowAlignment::Mixed)];
        assert_eq!(both.inputs.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_way_that_is_too_long_is_lost_up_to_the_next_entry() {
        let mut far = way(&[0]);
        far.join(&way(&[64 * MOST_WORDS]), RowAlignment::Same);
        assert!(!far.is_known() && far.operators().next().is_none());
        let mut next = Way::of_entry(7);
        assert!(next.is_known());
        next.join(&far, RowAlignment::Same);
        assert!(!next.is_known());
        // Only how far apart they are counts, not how high they are.
        assert!(way(&[64 * MOST_WORDS, 64 * MOST_WORDS + 64]).is_known());
    }
}
