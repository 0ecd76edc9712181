//! The colours come in another order.

use super::colours::rows_per_channel;
use super::explanation::Explanation;
use super::kind::Diagnosis;
use super::probe::Probe;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "colour_order",
    asks: |probe| probe.has_case(),
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "blue, green and red, and not red, green and blue",
};

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let per_channel = rows_per_channel(case, &probe.layout)?;
    let channel = |row: usize| row / per_channel % 3;
    let reversed = |row: usize| row + (2 - channel(row)) * per_channel - channel(row) * per_channel;
    let after = case.moved(|row, column| (reversed(row), column));
    probe.explain("red and blue are exchanged", Vec::new(), after)
}
