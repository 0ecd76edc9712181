//! What each entry was computed from, as one of the runs recorded it.

use golden::Dump;
use measure::Compared;
use measure::model::family_of;
use measure::origin::{DataFlow, RecordedFlow, flows_between, recorded_flows};

use crate::names::Pairing;

/// The data flow of each entry of a comparison, and where it is known from: the golden run, else the file of the model's
/// family, else the candidate's run, else names and order.
///
/// The file comes before the candidate: it knows every golden entry, while a candidate's tensor may stand for several.
pub(super) fn flows(
    golden: &Dump,
    candidate: &Dump,
    pairing: &Pairing<'_>,
    compared: &[Compared<'_>],
) -> (DataFlow, Vec<Option<RecordedFlow>>) {
    let mut flows = recorded_flows(golden.entries());
    let source = if flows.iter().any(Option::is_some) {
        DataFlow::Golden
    } else if family_of(golden.entries()).or_else(|| family_of(candidate.entries())).is_some() {
        DataFlow::Family
    } else {
        flows = of_candidate(golden, candidate, pairing, compared);
        if flows.iter().any(Option::is_some) { DataFlow::Candidate } else { DataFlow::Names }
    };
    flows.resize(compared.len(), None);
    (source, flows)
}

/// The candidate's data flow between the golden entries that its tensors stand for.
fn of_candidate(
    golden: &Dump,
    candidate: &Dump,
    pairing: &Pairing<'_>,
    compared: &[Compared<'_>],
) -> Vec<Option<RecordedFlow>> {
    let recorded = recorded_flows(candidate.entries());
    let parts: Vec<Vec<usize>> =
        golden.entries().iter().map(|entry| pairing.parts(&entry.key()).collect()).collect();
    // The golden entries that each of the candidate's is a part of, as far as they can be compared.
    let mut stands_for: Vec<Vec<usize>> = vec![Vec::new(); recorded.len()];
    for (index, parts) in parts.iter().enumerate().filter(|&(index, _)| compared[index].measurement.is_some())
    {
        parts.iter().for_each(|&part| stands_for[part].push(index));
    }
    let kept: Vec<bool> = stands_for.iter().map(|golden| !golden.is_empty()).collect();
    let between = flows_between(&recorded, &kept);
    let flow = |(index, parts): (usize, &Vec<usize>)| {
        let mut whole: Option<RecordedFlow> = None;
        for part in parts.iter().filter(|&&part| kept[part]) {
            let flow = between[*part].as_ref()?;
            let inputs = flow.inputs.iter().filter(|(input, _)| !parts.contains(input));
            let inputs =
                inputs.flat_map(|&(input, rows)| stands_for[input].iter().map(move |&of| (of, rows)));
            let inputs: Vec<_> = inputs.filter(|&(input, _)| input != index).collect();
            let Some(whole) = &mut whole else {
                whole = Some(RecordedFlow { inputs, ..flow.clone() });
                continue;
            };
            whole.inputs.extend(inputs);
            whole.complete &= flow.complete;
            whole.add(&flow.operations);
        }
        whole
    };
    parts.iter().enumerate().map(flow).collect()
}
