//! Only one side has some of the tokens.

use super::explanation::Explanation;
use super::kind::Diagnosis;
use super::lacking::lacking;
use super::probe::Probe;
use super::roles::SiteRole;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "missing_rows",
    asks,
    test,
    last: true,
    supersedes: &[],
    variants: &[],
    example: "registers dropped: class tokens alone stand in front",
};

fn asks(probe: &Probe<'_>) -> bool {
    !probe.has_case()
}

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let tiles = |dimension: usize| probe.role() == Some(SiteRole::Pixels) && dimension == 0;
    let lacking = lacking(probe).filter(|lacking| !tiles(lacking.dimension))?;
    let values = lacking.values(["row", "rows"]);
    Some(Explanation { pattern: "it {} {} {} of {}", values, before: lacking.before, after: lacking.after })
}
