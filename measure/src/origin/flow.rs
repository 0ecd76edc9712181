//! What each entry was computed from, as a run recorded it.

use std::collections::{HashSet, VecDeque};

use golden::{Entry, RowAlignment};
use indexmap::IndexMap;

/// How many entries are looked at on the way back to those that can be compared.
const MOST_ENTRIES: usize = 4096;

/// Where it is known from what each entry was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFlow {
    /// The golden run recorded it.
    Golden,
    /// The candidate's run recorded it.
    Candidate,
    /// The file of the model's family says it.
    Family,
    /// It is guessed from the nesting of the names and the order of execution.
    Names,
}

impl DataFlow {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            DataFlow::Golden => "golden",
            DataFlow::Candidate => "candidate",
            DataFlow::Family => "family",
            DataFlow::Names => "names",
        }
    }

    /// Whether a run recorded it.
    pub fn is_recorded(self) -> bool {
        matches!(self, DataFlow::Golden | DataFlow::Candidate)
    }
}

/// What an entry was computed from, as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedFlow {
    /// The indices of the entries, each with how its rows belong to the entry's.
    pub inputs: Vec<(usize, RowAlignment)>,
    /// How many of each operator lie between.
    pub operations: IndexMap<String, u64>,
    /// Whether these are all inputs and operations: not, if the way back led to an entry of which nobody recorded its own.
    pub complete: bool,
}

impl RecordedFlow {
    /// Adds operators that lie between, too.
    pub fn add(&mut self, operations: &IndexMap<String, u64>) {
        for (operator, &count) in operations {
            let sum = self.operations.entry(operator.clone()).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}

/// The data flow of a dump's entries by their indices; `None` of an entry that has none.
pub fn recorded_flows(entries: &[Entry]) -> Vec<Option<RecordedFlow>> {
    let index = |order| entries.binary_search_by_key(&order, |entry| entry.order).ok();
    let flow = |entry: &Entry| {
        let inputs = entry.flow()?.filter_map(|(order, rows)| Some((index(order)?, rows))).collect();
        Some(RecordedFlow { inputs, operations: entry.operations.clone(), complete: true })
    };
    entries.iter().map(flow).collect()
}

/// The data flow between some of the entries: what was not kept is replaced by what it was computed from.
///
/// An entry that is not kept has its flow as it was.
pub fn flows_between(flows: &[Option<RecordedFlow>], kept: &[bool]) -> Vec<Option<RecordedFlow>> {
    let between = |(index, flow): (usize, &Option<RecordedFlow>)| {
        let flow = flow.as_ref()?;
        let whole = !kept[index] || flow.inputs.iter().all(|&(input, _)| kept[input]);
        Some(if whole { flow.clone() } else { walk_back(flows, kept, index, flow) })
    };
    flows.iter().enumerate().map(between).collect()
}

/// The flow of an entry from the kept entries nearest to it.
fn walk_back(flows: &[Option<RecordedFlow>], kept: &[bool], of: usize, flow: &RecordedFlow) -> RecordedFlow {
    let mut found = RecordedFlow { inputs: Vec::new(), ..flow.clone() };
    let mut seen: HashSet<(usize, RowAlignment)> = HashSet::new();
    let mut counted: HashSet<usize> = HashSet::new();
    let mut next: VecDeque<(usize, RowAlignment)> = flow.inputs.iter().copied().collect();
    while let Some((input, rows)) = next.pop_front() {
        if input == of || !seen.insert((input, rows)) {
            continue;
        }
        if kept[input] {
            found.inputs.push((input, rows));
            continue;
        }
        // What was given from outside, or is computed from that alone, may differ unseen.
        let behind = flows[input].as_ref().filter(|behind| !behind.inputs.is_empty());
        let Some(behind) = behind.filter(|_| seen.len() < MOST_ENTRIES) else {
            found.complete = false;
            continue;
        };
        found.complete &= behind.complete;
        if counted.insert(input) {
            found.add(&behind.operations);
        }
        next.extend(behind.inputs.iter().map(|&(input, before)| (input, before.through(rows))));
    }
    found.inputs = each_once(found.inputs);
    found
}

/// Inputs in order, each once. Of one that is reached in two ways any row may matter.
pub(super) fn each_once(mut inputs: Vec<(usize, RowAlignment)>) -> Vec<(usize, RowAlignment)> {
    inputs.sort_by_key(|&(input, _)| input);
    inputs.dedup_by(|(next, next_rows), (input, rows)| {
        let again = next == input;
        if again {
            *rows = rows.or(*next_rows);
        }
        again
    });
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(inputs: &[(usize, RowAlignment)], operator: &str) -> Option<RecordedFlow> {
        let operations = IndexMap::from([(operator.to_owned(), 1)]);
        Some(RecordedFlow { inputs: inputs.to_vec(), operations, complete: true })
    }

    #[test]
    fn what_is_not_kept_is_replaced_by_what_it_was_computed_from() {
        use RowAlignment::{FromEnd, Mixed, Same};
        // A sum of an entry and of what two unkept ones make of it.
        let flows = [
            flow(&[], "aten.embedding"),
            flow(&[(0, Same)], "aten.layer_norm"),
            flow(&[(1, Mixed)], "aten.linear"),
            flow(&[(0, Same), (2, Same)], "aten.add"),
            flow(&[(3, FromEnd)], "aten.linear"),
            None,
            flow(&[(5, Same)], "aten.mul"),
        ];
        let between = |kept: [bool; 7]| flows_between(&flows, &kept);
        let sum = between([true, false, false, true, true, true, true])[3].clone().unwrap();
        // It is reached row by row, too, and any of its rows may matter.
        assert_eq!(sum.inputs, [(0, Mixed)]);
        let operations: Vec<(&str, u64)> =
            sum.operations.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(operations, [("aten.add", 1), ("aten.linear", 1), ("aten.layer_norm", 1)]);
        assert!(sum.complete);
        let last = between([false, true, true, false, true, true, true])[4].clone().unwrap();
        assert_eq!((last.inputs, last.complete), (vec![(2, FromEnd)], false));
        let open = between([true, true, true, true, true, false, true])[6].clone().unwrap();
        assert_eq!((open.inputs, open.complete), (Vec::new(), false));
    }

    #[test]
    fn a_chain_of_branches_is_walked_once() {
        // Each is computed from the one before it in two ways.
        let chain =
            |at: usize| if at == 0 { flow(&[], "x") } else { flow(&[(at - 1, RowAlignment::Same)], "x") };
        let flows: Vec<_> = (0..300).map(chain).collect();
        let mut kept = vec![false; 300];
        (kept[0], kept[299]) = (true, true);
        let far = flows_between(&flows, &kept)[299].clone().unwrap();
        assert_eq!((far.inputs, far.operations["x"]), (vec![(0, RowAlignment::Same)], 299));
    }
}
