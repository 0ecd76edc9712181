//! What an entry was computed from, as version 2 of the format has it.

use indexmap::IndexMap;
use serde::Deserialize;

use crate::manifest::Entry;
use crate::rows::RowAlignment;

/// What an entry that is about to be written was computed from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flow {
    /// The [keys](Entry::key) of the entries, nearest first.
    pub inputs: Vec<String>,
    /// How the rows of each input belong to the entry's; empty if all do one to one.
    pub input_rows: Vec<RowAlignment>,
    /// How many of each operator lie between the inputs and the entry, by their names (`aten.linear`).
    pub operations: IndexMap<String, u64>,
}

impl Entry {
    /// The inputs by their `order`, each with its rows, nearest first; `None` where nobody has recorded them.
    pub fn flow(&self) -> Option<impl Iterator<Item = (u64, RowAlignment)>> {
        let rows = self.input_rows.iter().copied().chain(std::iter::repeat(RowAlignment::Same));
        Some(self.inputs.as_ref()?.iter().copied().zip(rows))
    }

    /// What is wrong with the inputs of an entry, given the orders before its own, which increase.
    pub(crate) fn flow_problem(&self, before: &[Entry]) -> Option<String> {
        let inputs = self.inputs.as_deref().unwrap_or_default();
        let is_there = |order: &u64| before.binary_search_by_key(order, |entry| entry.order).is_ok();
        if let Some(order) = inputs.iter().find(|order| !is_there(order)) {
            return Some(format!("field `inputs`: expected the `order` of an earlier entry, found {order}"));
        }
        if let Some(pair) = inputs.windows(2).find(|pair| pair[0] <= pair[1]) {
            return Some(format!(
                "field `inputs`: expected the nearest first, found {} before {}",
                pair[0], pair[1]
            ));
        }
        let rows = self.input_rows.len();
        if rows != 0 && rows != inputs.len() {
            let expected = inputs.len();
            return Some(format!(
                "field `input_rows`: expected one for each of {expected} inputs, found {rows}"
            ));
        }
        None
    }

    /// Whether the entry says what version 1 cannot say.
    pub(crate) fn needs_version_2(&self) -> bool {
        self.step != 0 || self.inputs.is_some() || !self.operations.is_empty()
    }
}
