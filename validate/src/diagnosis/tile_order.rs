//! The tiles come in another order.

use super::case::{Case, nearest_parts};
use super::explanation::{Explanation, Value};
use super::kind::Diagnosis;
use super::layout::Layout;
use super::probe::Probe;

/// Of more tiles comparing every pair would take long.
const MOST: usize = 64;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "tile_order",
    asks: |probe| probe.has_case(),
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "the thumbnail first, and not last",
};

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let whole = || (0..case.rows).collect::<Vec<usize>>();
    let (tiles, per, rows) = match &probe.layout {
        &Layout::Tiles { tiles, prefix, side } => (tiles, prefix + side * side, whole()),
        &Layout::Pixels { tiles } => (tiles, case.rows / tiles.max(1), whole()),
        Layout::Prompt { image, tiles: Some(tiles) } => {
            let rows: Vec<usize> = (0..case.rows).filter(|&row| image[row]).collect();
            (*tiles, rows.len() / tiles, rows)
        }
        _ => return None,
    };
    if !(2..=MOST).contains(&tiles) || per == 0 || rows.len() != tiles * per {
        return None;
    }
    let nearest = nearest(case, tiles, per, &rows);
    if nearest.iter().enumerate().all(|(of, &from)| of == from) {
        return None;
    }
    let mut place = vec![None; case.rows];
    rows.iter().enumerate().for_each(|(at, &row)| place[row] = Some(at));
    let after = case.distance(|row, column| {
        let from = place[row].map_or(row, |at| rows[nearest[at / per] * per + at % per]);
        Some((case.golden(from, column), case.candidate(row, column)))
    });
    probe.explain("its tiles are the golden ones {}", vec![Value::List(nearest)], after)
}

/// Which golden tile each of the candidate's is; `rows` are those of the tiles, one tile after the other.
fn nearest(case: &Case<'_>, tiles: usize, per: usize, rows: &[usize]) -> Vec<usize> {
    let step = (per / 64).max(1);
    let distance = |of: usize, from: usize| -> f64 {
        let square = |row: usize, column: usize| {
            (case.candidate(rows[of * per + row], column) - case.golden(rows[from * per + row], column))
                .powi(2)
        };
        (0..per)
            .step_by(step)
            .map(|row| (0..case.columns).map(|column| square(row, column)).sum::<f64>())
            .sum()
    };
    nearest_parts(tiles, distance)
}
