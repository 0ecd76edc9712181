//! Rows and columns of the picture's parts are exchanged.

use super::explanation::Explanation;
use super::kind::Diagnosis;
use super::layout::Layout;
use super::probe::Probe;
use super::roles::SiteRole;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "transposed",
    asks: |probe| probe.has_case(),
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "pixel shuffle `v1` for `v2`",
};

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let &Layout::Tiles { prefix, side, .. } = &probe.layout else { return None };
    if side <= 1 {
        return None;
    }
    let tokens = prefix + side * side;
    let transposed = |row: usize| match (row % tokens).checked_sub(prefix) {
        None => row,
        Some(patch) => row - patch + (patch % side) * side + patch / side,
    };
    let pattern = if probe.role() == Some(SiteRole::Projector) {
        "rows and columns of the picture are exchanged, as pixel shuffle `v1` does and `v2` does not"
    } else {
        "rows and columns of the picture's patches are exchanged"
    };
    probe.explain(pattern, Vec::new(), case.moved(|row, column| (transposed(row), column)))
}
