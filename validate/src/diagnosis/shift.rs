//! Rows that stand too early or too late.

use super::explanation::{Explanation, Value, best};
use super::kind::Diagnosis;
use super::layout::Layout;
use super::probe::Probe;

/// By how many places the tokens of a tile may be shifted.
const MOST_SHIFTED: usize = 16;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "shift",
    asks: |probe| probe.has_case(),
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "image embeddings put one token too late",
};

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    // How long the sequences are, by how much they may be shifted, and which rows are.
    let (tokens, most) = match &probe.layout {
        &Layout::Tiles { prefix, side, .. } => (prefix + side * side, MOST_SHIFTED),
        _ => (case.rows, 1),
    };
    if tokens <= 2 {
        return None;
    }
    let image = match &probe.layout {
        Layout::Prompt { image, .. } if image.contains(&true) && image.contains(&false) => {
            Some(image.as_slice())
        }
        _ => None,
    };
    let by = (1..=most.min(tokens - 2) as isize).flat_map(|by| [-by, by]);
    best(
        by.flat_map(|by| [(by, None), (by, image)])
            .filter_map(|(by, alone)| shifted(probe, tokens, by, alone)),
    )
}

/// Whether each row is one that is some places away in the golden run.
fn shifted(probe: &Probe<'_>, tokens: usize, by: isize, alone: Option<&[bool]>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    // What runs over the end is left out.
    let from = |row: usize| {
        let token = (row % tokens) as isize + by;
        let from = (row as isize + by) as usize;
        let counts = |row: usize| alone.is_none_or(|alone| alone[row]);
        (0..tokens as isize).contains(&token).then_some(from).filter(|&from| counts(row) && counts(from))
    };
    let pair =
        |row: usize, column: usize| Some((case.golden(from(row)?, column), case.candidate(row, column)));
    let same = |row: usize, column: usize| {
        from(row).map(|_| (case.golden(row, column), case.candidate(row, column)))
    };
    if case.glance(pair) > 0.5 * case.glance(same) {
        return None;
    }
    let (after, before) = (case.distance(pair), case.distance(same));
    if !case.explains_of(after, before) {
        return None;
    }
    let which = Value::Name(if alone.is_some() { "each image row" } else { "each row" });
    let side = Value::Name(if by < 0 { "before" } else { "after" });
    match by.unsigned_abs() {
        1 => probe.explain("{} is that of the one {} in the golden run", vec![which, side], after),
        by => {
            let values = vec![which, Value::Count(by), side];
            probe.explain("{} is that of {} places {} in the golden run", values, after)
        }
    }
}
