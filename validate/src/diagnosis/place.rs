//! Which tokens and channels carry an error.

use super::case::Case;
use super::layout::{Layout, Token};
use super::roles::{QKV_PARTS, is_by_heads, qkv_width};
use crate::entry::EntryReport;
use measure::metric::RowError;

/// How many tokens or channels are listed singly.
const LISTED: usize = 4;

/// A row is off if its error is this part of the worst row's, or beyond its rounding by this factor.
const OFF: f64 = 0.05;
const ROW: f64 = 2.5;

/// The rows that are off carry at least this part of the squared error.
const MOST: f64 = 0.8;

/// Where in a tensor an error is.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// The tokens that are off.
    Tokens(TokensOff),
    /// The positions of a cache that are off, of how many.
    Positions(Vec<usize>, usize),
    /// The heads that carry the error, of how many.
    Heads(Vec<usize>, usize),
    /// A run of channels.
    Channels {
        /// The first of them.
        first: usize,
        /// The last of them.
        last: usize,
        /// The number of all channels.
        of: usize,
        /// The part of a fused projection that they all belong to.
        part: Option<&'static str>,
    },
    /// Parts of a fused projection.
    Parts(Vec<&'static str>),
    /// Single channels, of how many.
    Single(Vec<usize>, usize),
}

/// The tokens, or other rows, that are off.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokensOff {
    /// How many are off.
    pub count: usize,
    /// Of how many.
    pub all: usize,
    /// The same for each kind of token that there is: how many are off, and of how many.
    pub kinds: Vec<(&'static str, usize, usize)>,
    /// The tiles with tokens that are off, if not all have some.
    pub tiles: Option<Vec<usize>>,
    /// The first and the last of them, if those between are off, too.
    pub run: Option<(usize, usize)>,
    /// All of them, if they are few.
    pub few: Vec<Token>,
}

/// Which tokens and channels are off; nothing of channels if all are.
pub(super) fn places(
    case: &Case<'_>,
    entry: &EntryReport,
    layout: &Layout,
    head_dim: Option<usize>,
) -> Vec<Place> {
    let rows = entry.measurement.as_ref().map_or(&[][..], |measurement| &measurement.rows);
    let off = rows_off(rows, case.rounding);
    let mut places = match *layout {
        Layout::Cache { positions } => cached(&off, positions),
        _ => vec![Place::Tokens(tokens(&off, layout))],
    };
    places.extend(channels(case, &off, entry, head_dim));
    places
}

fn rows_off(rows: &[RowError], rounding: f64) -> Vec<bool> {
    let relative = |row: &RowError| f64::from(row.relative);
    let worst = rows.iter().map(relative).fold(0.0, f64::max).min(1.0);
    let beyond = |limit: f64| rows.iter().map(|row| relative(row) > limit).collect::<Vec<bool>>();
    let off = beyond((ROW * rounding).min(0.9 * worst).max(OFF * worst));
    let squares = |off: Option<&[bool]>| -> f64 {
        let counts = |row: usize| off.is_none_or(|off| off[row]);
        let errors = rows.iter().enumerate().filter(|(row, _)| counts(*row));
        errors.map(|(_, error)| f64::from(error.difference).powi(2)).sum()
    };
    // An error that is small everywhere is not that of the few rows where it is largest.
    if squares(Some(&off)) < MOST * squares(None) { beyond(OFF * worst) } else { off }
}

/// The kinds of tokens, in the order in which they are counted.
const KINDS: [&str; 4] = ["prefix", "patch", "image", "text"];

fn kind(token: Token) -> Option<&'static str> {
    match token {
        Token::Prefix { .. } => Some("prefix"),
        Token::Patch { .. } => Some("patch"),
        Token::Image { .. } => Some("image"),
        Token::Text { .. } => Some("text"),
        Token::Row { .. } => None,
    }
}

/// The positions and heads of a cache that are off; not the heads if all are.
fn cached(off: &[bool], positions: usize) -> Vec<Place> {
    let touched = |count: usize, of: &dyn Fn(usize) -> usize| -> Vec<usize> {
        let mut any = vec![false; count];
        (0..off.len()).filter(|&row| off[row]).for_each(|row| any[of(row)] = true);
        (0..count).filter(|&at| any[at]).collect()
    };
    if positions == 0 {
        return Vec::new();
    }
    let heads = off.len() / positions;
    let mut places = vec![Place::Positions(touched(positions, &|row| row % positions), positions)];
    let touched = touched(heads, &|row| row / positions);
    places.extend((touched.len() < heads).then_some(Place::Heads(touched, heads)));
    places
}

fn tokens(off: &[bool], layout: &Layout) -> TokensOff {
    let count = off.iter().filter(|&&off| off).count();
    let all = off.len();
    let mut found = TokensOff { count, all, ..TokensOff::default() };
    if count == all {
        return found;
    }
    let kinds = KINDS.into_iter().map(|kind| {
        let rows = || (0..all).filter(|&row| self::kind(layout.token(row)) == Some(kind));
        (kind, rows().filter(|&row| off[row]).count(), rows().count())
    });
    found.kinds = kinds.filter(|(_, _, all)| *all > 0).collect();
    let first = off.iter().position(|&off| off).unwrap_or(0);
    let last = off.iter().rposition(|&off| off).unwrap_or(0);
    if let Layout::Tiles { tiles, .. } = layout {
        let per = all / tiles;
        let touched: Vec<usize> =
            (0..*tiles).filter(|tile| off[tile * per..(tile + 1) * per].contains(&true)).collect();
        found.tiles = (touched.len() < *tiles).then_some(touched);
    } else if count == last + 1 - first && count > 1 {
        found.run = Some((first, last));
    }
    if count <= LISTED {
        found.few = (0..all).filter(|&row| off[row]).map(|row| layout.token(row)).collect();
    }
    found
}

/// Which channels carry the error, if less than half of them do.
fn channels(case: &Case<'_>, off: &[bool], entry: &EntryReport, head_dim: Option<usize>) -> Option<Place> {
    let mut errors = vec![0.0; case.columns];
    let rows: Vec<usize> = (0..off.len()).filter(|&row| off[row]).collect();
    for row in Case::sample_of(&rows) {
        for (column, error) in errors.iter_mut().enumerate() {
            let difference = case.candidate(row, column) - case.golden(row, column);
            if difference.is_finite() {
                *error += difference * difference;
            }
        }
    }
    let total: f64 = errors.iter().sum();
    if total == 0.0 {
        return None;
    }
    let mut order: Vec<usize> = (0..case.columns).collect();
    order.sort_by(|&a, &b| errors[b].total_cmp(&errors[a]));
    // The fewest channels with nearly all of the error.
    let mut sum = 0.0;
    let needed = order.iter().position(|&column| {
        sum += errors[column];
        sum >= 0.99 * total
    })? + 1;
    let mut carriers = order[..needed].to_vec();
    carriers.sort_unstable();
    let (&first, &last) = (carriers.first()?, carriers.last()?);
    let span = last + 1 - first;
    if let Some(head_dim) = head_dim.filter(|&head| is_by_heads(entry) && case.columns.is_multiple_of(head)) {
        let heads = case.columns / head_dim;
        let mut touched: Vec<usize> = carriers.iter().map(|column| column / head_dim).collect();
        touched.dedup();
        if touched.len() < heads && needed > LISTED {
            return Some(Place::Heads(touched, heads));
        }
    }
    let qkv = qkv_width(entry, case.columns);
    if 2 * span <= case.columns + 1 && needed > LISTED {
        let third = qkv.filter(|third| first / third == last / third);
        let part = third.map(|third| QKV_PARTS[first / third]);
        return Some(Place::Channels { first, last, of: case.columns, part });
    }
    if let Some(third) = qkv {
        let touched: Vec<&str> = (0..3)
            .filter(|part| carriers.iter().any(|column| column / third == *part))
            .map(|part| QKV_PARTS[part])
            .collect();
        if touched.len() < 3 {
            return Some(Place::Parts(touched));
        }
    }
    (needed <= LISTED && needed * 8 <= case.columns).then_some(Place::Single(carriers, case.columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(rows: usize, which: impl Fn(usize) -> bool) -> Vec<bool> {
        (0..rows).map(which).collect()
    }

    #[test]
    fn a_cache_has_positions_in_heads() {
        let found = cached(&off(12, |row| row == 5 || row == 6), 4);
        assert_eq!(found, [Place::Positions(vec![1, 2], 4), Place::Heads(vec![1], 3)]);
        assert_eq!(cached(&off(12, |row| row % 4 == 3), 4), [Place::Positions(vec![3], 4)]);
    }

    #[test]
    fn tokens_are_counted_by_what_they_stand_for() {
        let tower = Layout::Tiles { tiles: 2, prefix: 3, side: 2 };
        let found = tokens(&off(14, |row| row == 12), &tower);
        let patch = Token::Patch { tile: 1, row: 1, column: 0 };
        assert_eq!((found.count, found.all), (1, 14));
        assert_eq!(found.kinds, [("prefix", 0, 6), ("patch", 1, 8)]);
        assert_eq!((found.tiles, found.run, found.few), (Some(vec![1]), None, vec![patch]));
        let prompt = Layout::Prompt { image: off(9, |token| (2..6).contains(&token)), tiles: None };
        let found = tokens(&off(9, |row| row > 2), &prompt);
        assert_eq!(found.kinds, [("image", 3, 4), ("text", 3, 5)]);
        assert_eq!((found.tiles, found.run, found.few), (None, Some((3, 8)), Vec::new()));
    }
}
