//! Queries, keys and values are exchanged.

use super::explanation::{Explanation, Value, best};
use super::kind::Diagnosis;
use super::probe::Probe;
use super::roles::{QKV_PARTS, qkv_width};

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "qkv_order",
    asks: |probe| probe.has_case(),
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "queries and keys exchanged in the fused projection",
};

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let part = qkv_width(probe.entry, case.columns)?;
    let orders = [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    best(orders.into_iter().filter_map(|order| {
        let after = case.moved(|row, column| (row, order[column / part] * part + column % part));
        let moved = (0..3).filter(|&place| order[place] != place);
        let values: Vec<Value> =
            moved.flat_map(|place| [QKV_PARTS[order[place]], QKV_PARTS[place]].map(Value::Name)).collect();
        let pattern = if values.len() == 4 {
            "its {} are the golden {}, its {} are the golden {}"
        } else {
            "its {} are the golden {}, its {} are the golden {}, its {} are the golden {}"
        };
        probe.explain(pattern, values, after)
    }))
}
