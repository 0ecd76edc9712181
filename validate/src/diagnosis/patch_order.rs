//! The parts of a patch come in another order.

use super::explanation::{Explanation, best};
use super::kind::Diagnosis;
use super::probe::Probe;
use super::roles::SiteRole;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "patch_order",
    asks,
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "patches flattened with their colours last",
};

fn asks(probe: &Probe<'_>) -> bool {
    let squares = |columns: usize| columns.is_multiple_of(3) && (columns / 3).isqrt().pow(2) == columns / 3;
    probe.role() == Some(SiteRole::Patches) && probe.case.as_ref().is_some_and(|case| squares(case.columns))
}

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let (plane, side) = (case.columns / 3, (case.columns / 3).isqrt());
    let last = case.moved(|row, column| (row, column % plane * 3 + column / plane));
    let transposed = case.moved(|row, column| {
        let pixel = column % plane;
        (row, column - pixel + pixel % side * side + pixel / side)
    });
    let attempts = [
        ("each patch has its colours last, and not first", last),
        ("rows and columns inside each patch are exchanged", transposed),
    ];
    best(attempts.into_iter().filter_map(|(pattern, after)| probe.explain(pattern, Vec::new(), after)))
}
