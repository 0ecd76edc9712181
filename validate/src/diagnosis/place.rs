//! Which tokens and channels carry an error, in words.

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

/// Which tokens and channels are off, a sentence each; nothing of what is off everywhere.
pub(super) fn places(
    case: &Case<'_>,
    entry: &EntryReport,
    layout: &Layout,
    head_dim: Option<usize>,
) -> Vec<String> {
    let rows = entry.measurement.as_ref().map_or(&[][..], |measurement| &measurement.rows);
    let off = rows_off(rows, case.rounding);
    let mut places = vec![tokens(&off, layout)];
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

fn tokens(off: &[bool], layout: &Layout) -> String {
    let count = off.iter().filter(|&&off| off).count();
    let all = off.len();
    if count == all {
        return format!("every one of {all} rows is off");
    }
    let of = |is: &dyn Fn(Token) -> bool| {
        let rows = || (0..all).filter(|&row| is(layout.token(row)));
        (rows().filter(|&row| off[row]).count(), rows().count())
    };
    let kinds: [(&str, (usize, usize)); 4] = [
        ("prefix", of(&|token| matches!(token, Token::Prefix { .. }))),
        ("patch", of(&|token| matches!(token, Token::Patch { .. }))),
        ("image", of(&|token| matches!(token, Token::Image { .. }))),
        ("text", of(&|token| matches!(token, Token::Text { .. }))),
    ];
    let are = if count == 1 { "is" } else { "are" };
    let present: Vec<_> = kinds.iter().filter(|(_, (_, all))| *all > 0).collect();
    let mut sentence = match present.as_slice() {
        [(a, (a_off, a_all)), (b, (0, _))] if a_off == a_all => {
            format!("all {a_all} {a} tokens are off and no {b} token is")
        }
        [(b, (0, _)), (a, (a_off, a_all))] if a_off == a_all => {
            format!("all {a_all} {a} tokens are off and no {b} token is")
        }
        [_, ..] => {
            let touched = present.iter().filter(|(_, (off, _))| *off > 0);
            let parts = touched.map(|(kind, (off, all))| format!("{off} of {all} {kind} tokens"));
            format!("{} {are} off", parts.collect::<Vec<_>>().join(" and "))
        }
        [] => format!("{count} of {all} rows {are} off"),
    };
    let first = off.iter().position(|&off| off).unwrap_or(0);
    let last = off.iter().rposition(|&off| off).unwrap_or(0);
    if let Layout::Tiles { tiles, .. } = layout {
        let per = all / tiles;
        let touched: Vec<usize> =
            (0..*tiles).filter(|tile| off[tile * per..(tile + 1) * per].contains(&true)).collect();
        if touched.len() < *tiles {
            sentence.push_str(&format!(", in {} only", numbers("tile", &touched)));
        }
    } else if count == last + 1 - first && count > 1 {
        sentence.push_str(&match (first, all - 1 - last) {
            (0, 1) => ": all but the last".to_owned(),
            (1, 0) => ": all but the first".to_owned(),
            (_, 0) => format!(": all from {first} on"),
            (0, _) => format!(": all up to {last}"),
            _ => format!(": all from {first} to {last}"),
        });
    }
    if count <= LISTED {
        let listed = (0..all).filter(|&row| off[row]).map(|row| token(layout.token(row)));
        sentence.push_str(&format!(": {}", listed.collect::<Vec<_>>().join("; ")));
    }
    sentence
}

fn token(token: Token) -> String {
    match token {
        Token::Prefix { tile, index } => format!("tile {tile}, prefix token {index}"),
        Token::Patch { tile, row, column } => format!("tile {tile}, row {row}, column {column}"),
        Token::Image { index } => format!("token {index} (image)"),
        Token::Text { index } => format!("token {index} (text)"),
        Token::Row { index } => format!("row {index}"),
    }
}

/// Which channels carry the error, if less than half of them do.
fn channels(case: &Case<'_>, off: &[bool], entry: &EntryReport, head_dim: Option<usize>) -> Option<String> {
    let mut errors = vec![0.0; case.columns];
    for row in case.sample().filter(|&row| off[row]) {
        for (column, error) in errors.iter_mut().enumerate() {
            let difference = case.candidate(row, column) - case.golden(row, column);
            if difference.is_finite() {
                *error += difference * difference;
            }
        }
    }
    let total: f64 = errors.iter().sum();
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
            return Some(format!("the error is in {} of {heads}", numbers("head", &touched)));
        }
    }
    let qkv = qkv_width(entry, case.columns);
    if 2 * span <= case.columns + 1 && needed > LISTED {
        let part = match qkv.filter(|third| first / third == last / third) {
            Some(third) => format!(", all in the {}", QKV_PARTS[first / third]),
            None => String::new(),
        };
        return Some(format!("the error is in channels {first} to {last} of {}{part}", case.columns));
    }
    if let Some(third) = qkv {
        let touched: Vec<&str> = (0..3)
            .filter(|part| carriers.iter().any(|column| column / third == *part))
            .map(|part| QKV_PARTS[part])
            .collect();
        if touched.len() < 3 {
            return Some(format!("the error is in the {}", touched.join(" and ")));
        }
    }
    (needed <= LISTED && needed * 8 <= case.columns)
        .then(|| format!("the error is in {} of {}", numbers("channel", &carriers), case.columns))
}

/// `tile 2`, `tiles 0 and 2`.
fn numbers(name: &str, numbers: &[usize]) -> String {
    let plural = if numbers.len() == 1 { "" } else { "s" };
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    format!("{name}{plural} {}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(rows: usize, which: impl Fn(usize) -> bool) -> Vec<bool> {
        (0..rows).map(which).collect()
    }

    #[test]
    fn tokens_are_named_by_what_they_stand_for() {
        let tower = Layout::Tiles { tiles: 2, prefix: 3, side: 2 };
        assert_eq!(tokens(&off(14, |_| true), &tower), "every one of 14 rows is off");
        assert_eq!(
            tokens(&off(14, |row| row % 7 < 3), &tower),
            "all 6 prefix tokens are off and no patch token is"
        );
        assert_eq!(
            tokens(&off(14, |row| row % 7 >= 3), &tower),
            "all 8 patch tokens are off and no prefix token is"
        );
        assert_eq!(
            tokens(&off(14, |row| row == 12), &tower),
            "1 of 8 patch tokens is off, in tile 1 only: tile 1, row 1, column 0"
        );
        let prompt = Layout::Prompt { image: off(9, |token| (2..6).contains(&token)), tiles: None };
        assert_eq!(
            tokens(&off(9, |row| row > 2), &prompt),
            "3 of 4 image tokens and 3 of 5 text tokens are off: all from 3 on"
        );
        assert_eq!(
            tokens(&off(9, |row| (2..6).contains(&row)), &prompt),
            "all 4 image tokens are off and no text token is: all from 2 to 5: token 2 (image); token 3 (image); \
             token 4 (image); token 5 (image)"
        );
    }
}
