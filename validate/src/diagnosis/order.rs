//! Rows, tiles and heads that stand in other places.

use super::case::Case;
use super::layout::Layout;
use super::mistakes::{Mistake, Test};

/// By how many places the tokens of a tile may be shifted.
const MOST_SHIFTED: usize = 16;

/// Of more heads not every pair is compared.
const MOST_HEADS: usize = 128;

/// Whether the channels of a site are those of heads, one after the other.
pub(super) fn is_by_heads(name: &str) -> bool {
    ["q_proj", "k_proj", "v_proj"].iter().any(|end| name.ends_with(end))
}

/// Which golden head each of the candidate's is.
pub(super) fn head_order(case: &Case<'_>, head: usize, test: Test<'_>) {
    let heads = case.columns / head;
    if !(2..=MOST_HEADS).contains(&heads) {
        return;
    }
    let rows: Vec<usize> = (0..case.rows).step_by(case.rows.div_ceil(16).max(1)).collect();
    let distance = |of: usize, from: usize| -> f64 {
        let square = |row: usize, place: usize| {
            (case.candidate(row, of * head + place) - case.golden(row, from * head + place)).powi(2)
        };
        rows.iter().map(|&row| (0..head).map(|place| square(row, place)).sum::<f64>()).sum()
    };
    let nearest: Vec<usize> = (0..heads)
        .map(|of| {
            let own = distance(of, of);
            let best = (0..heads).map(|from| (from, distance(of, from))).min_by(|a, b| a.1.total_cmp(&b.1));
            best.filter(|&(_, best)| best < own).map_or(of, |(from, _)| from)
        })
        .collect();
    let moved: Vec<usize> = (0..heads).filter(|&of| nearest[of] != of).collect();
    if moved.is_empty() {
        return;
    }
    let after = case.distance(|row, column| {
        Some((case.golden(row, nearest[column / head] * head + column % head), case.candidate(row, column)))
    });
    let list = |heads: &mut dyn Iterator<Item = usize>| {
        heads.map(|head| head.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (of, from) = (list(&mut moved.iter().copied()), list(&mut moved.iter().map(|&of| nearest[of])));
    test(Mistake::HeadOrder, format!("its heads {of} are the golden ones {from}"), after);
}

/// Rows that stand too early or too late.
pub(super) fn shifted(case: &Case<'_>, layout: &Layout, test: Test<'_>) {
    let rows = case.rows;
    // How long the sequences are, by how much they may be shifted, and which rows are.
    let (tokens, most) = match layout {
        &Layout::Tiles { prefix, side, .. } => (prefix + side * side, MOST_SHIFTED),
        _ => (rows, 1),
    };
    if tokens <= 2 {
        return;
    }
    let image = match layout {
        Layout::Prompt { image, .. } if image.contains(&true) && image.contains(&false) => Some(image),
        _ => None,
    };
    let by = (1..=most.min(tokens - 2) as isize).flat_map(|by| [-by, by]);
    for (by, alone) in by.flat_map(|by| [(by, None), (by, image)]) {
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
            continue;
        }
        let (after, before) = (case.distance(pair), case.distance(same));
        if case.explains_of(after, before) {
            let which = if alone.is_some() { "each image row" } else { "each row" };
            let side = if by < 0 { "before" } else { "after" };
            let neighbour = match by.unsigned_abs() {
                1 => format!("the one {side}"),
                by => format!("{by} places {side}"),
            };
            test(Mistake::Shift, format!("{which} is that of {neighbour} in the golden run"), after);
        }
    }
}

/// Which golden tile each of the candidate's is; `rows` are those of the tiles, one tile after the other.
pub(super) fn tile_order(case: &Case<'_>, tiles: usize, per: usize, rows: &[usize], test: Test<'_>) {
    /// Beyond that many tiles every pair would take long.
    const MOST: usize = 64;
    if !(2..=MOST).contains(&tiles) || per == 0 || rows.len() != tiles * per {
        return;
    }
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
    let nearest: Vec<usize> = (0..tiles)
        .map(|of| {
            let own = distance(of, of);
            let best = (0..tiles).map(|from| (from, distance(of, from))).min_by(|a, b| a.1.total_cmp(&b.1));
            best.filter(|&(_, best)| best < own).map_or(of, |(from, _)| from)
        })
        .collect();
    if nearest.iter().enumerate().all(|(of, &from)| of == from) {
        return;
    }
    let mut place = vec![None; case.rows];
    rows.iter().enumerate().for_each(|(at, &row)| place[row] = Some(at));
    let after = case.distance(|row, column| {
        let from = place[row].map_or(row, |at| rows[nearest[at / per] * per + at % per]);
        Some((case.golden(from, column), case.candidate(row, column)))
    });
    let order: Vec<String> = nearest.iter().map(usize::to_string).collect();
    test(Mistake::TileOrder, format!("its tiles are the golden ones {}", order.join(", ")), after);
}
