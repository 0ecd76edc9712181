//! The numbers of another site.

use measure::metric::value_at;

use super::explanation::{Explanation, Value};
use super::kind::Diagnosis;
use super::probe::Probe;
use super::roles::SiteRole;

/// How many sites around one are looked at for the candidate's numbers.
const NEAR: usize = 16;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "other_site",
    asks: |probe| probe.has_case(),
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "a norm or an activation left out",
};

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let own = probe
        .entries
        .iter()
        .position(|other| other.entry.order == probe.entry.entry.order && !other.only_candidate)?;
    let near = own.saturating_sub(NEAR)..(own + NEAR + 1).min(probe.entries.len());
    let others = probe.entries[near].iter().filter(|other| {
        other.entry.order != probe.entry.entry.order
            && other.entry.shape == probe.entry.entry.shape
            && other.site_role != Some(SiteRole::Pixels)
    });
    let distances = others.filter_map(|other| {
        let tensor = probe.golden.get(&other.entry.key()).filter(|_| !other.only_candidate)?;
        let of = |row: usize, column: usize| value_at(&tensor, row * case.columns + column);
        let after = case.distance(|row, column| Some((of(row, column), case.candidate(row, column))));
        Some((other.entry.key(), after))
    });
    let (name, after) = distances.min_by(|a, b| a.1.total_cmp(&b.1))?;
    probe.explain("it has the golden numbers of {}", vec![Value::Site(name.into_owned())], after)
}
