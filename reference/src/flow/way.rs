//! Where a tensor comes from: the recorded entries behind it, and the operators on the way.

use std::collections::BTreeMap;

use golden::RowAlignment;

/// Where a tensor comes from.
#[derive(Debug, Clone, Default)]
pub(super) struct Way {
    /// The entries next to it on the way back, by their order.
    pub(super) inputs: BTreeMap<u64, RowAlignment>,
    /// The numbers of the groups of operators on the way.
    operators: Numbers,
}

impl Way {
    /// That of an entry itself.
    pub(super) fn of_entry(order: u64) -> Self {
        Self { inputs: BTreeMap::from([(order, RowAlignment::Same)]), operators: Numbers::default() }
    }

    /// Adds a tensor that this one is computed from.
    pub(super) fn join(&mut self, other: &Way, rows: RowAlignment) {
        for (&order, &inner) in &other.inputs {
            let rows = rows.through(inner);
            self.inputs.entry(order).and_modify(|before| *before = before.or(rows)).or_insert(rows);
        }
        self.operators.join(&other.operators);
    }

    /// Adds a group of operators.
    pub(super) fn pass(&mut self, group: usize) {
        self.operators.insert(group);
    }

    /// The numbers of the groups of operators.
    pub(super) fn operators(&self) -> impl Iterator<Item = usize> {
        self.operators.iter()
    }
}

/// A set of numbers, a bit each: what lies behind a token grows with every step that is not recorded.
#[derive(Debug, Clone, Default)]
struct Numbers(Vec<u64>);

impl Numbers {
    fn insert(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    fn join(&mut self, other: &Numbers) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(at, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| 64 * at + bit)
        })
    }
}
