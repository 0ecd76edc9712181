//! What stands for one entry: a part of it, or parts of several passes' entries that are joined.

use std::ops::Range;

use golden::Entry;

use super::alignment::{AlignedStep, Pass};
use super::axes::Axis;
use super::tiles::Tiles;
use crate::names::{Cut, Match};

/// An entry of one of the candidate's passes that has the name of a golden entry.
pub(super) struct Piece<'a> {
    pub(super) index: usize,
    pub(super) entry: &'a Entry,
    pub(super) pass: &'a Pass,
    /// What its dimensions count; `None` if the pass does not explain its shape.
    pub(super) axes: Option<Vec<Axis>>,
}

/// What stands for an entry.
pub(super) struct Paired {
    pub(super) found: Match,
    /// What of it alone is compared, if that is not all that belongs together by tokens.
    pub(super) only: Option<Only>,
}

/// What alone is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Only {
    /// The last piece's, of several that have no tokens of the entry.
    LastPiece,
    /// The last token.
    LastToken,
}

/// Finds what stands for an entry, given those of its name in all passes; `tiles` if it may belong to the pictures.
///
/// # Errors
///
/// Why it cannot be compared.
pub(super) fn pair(
    golden: usize,
    entry: &Entry,
    aligned: &AlignedStep,
    pieces: &[Piece<'_>],
    tiles: Option<&Tiles>,
) -> Result<Paired, String> {
    let of_pictures = tiles.filter(|_| pieces.iter().any(|piece| may_count_tiles(piece)));
    let by_tiles = of_pictures.and_then(|tiles| of_tiles(golden, entry, pieces, tiles));
    let (found, only) = match by_tiles {
        Some(found) => (found, None),
        None => of_tokens(golden, entry, aligned, pieces)?,
    };
    let is_sketched = entry.sketch.is_some() || pieces.iter().any(|piece| piece.entry.sketch.is_some());
    if is_sketched && (found.pieces.len() > 1 || !found.words.is_empty()) {
        return Err("a sketch cannot be cut".to_owned());
    }
    let mut dtypes = pieces.iter().map(|piece| piece.entry.dtype);
    if found.pieces.len() > 1 && dtypes.clone().any(|dtype| dtypes.any(|other| other != dtype)) {
        return Err("its pieces are not all of one dtype".to_owned());
    }
    Ok(Paired { found, only })
}

/// Whether a shape that differs from the golden one may do so by the number of tiles.
fn may_count_tiles(piece: &Piece<'_>) -> bool {
    let Some(axes) = &piece.axes else { return true };
    axes.first() == Some(&Axis::Sequences) && axes[1..].iter().all(|axis| *axis == Axis::Same)
}

/// The rows of the plain run's tiles, pass by pass.
fn of_tiles(golden: usize, entry: &Entry, pieces: &[Piece<'_>], tiles: &Tiles) -> Option<Match> {
    let rows = *entry.shape.first()?;
    let mut found: Vec<(Range<usize>, (usize, Cut))> = Vec::new();
    let mut words = Vec::new();
    for piece in pieces {
        let shape = &piece.entry.shape;
        if shape.get(1..) != entry.shape.get(1..) {
            return None;
        }
        let [plain, own] = tiles.rows(piece.pass.step, rows, *shape.first()?)?;
        words.push(format!("{} of {}", words_of("row", &own), shape[0]));
        found.push((plain, (piece.index, vec![(0, own)])));
    }
    found.sort_by_key(|(plain, _)| plain.start);
    let follows = found.windows(2).all(|pair| pair[0].0.end == pair[1].0.start);
    let covered = found.first()?.0.start..found.last()?.0.end;
    let cut = if covered == (0..rows) { Vec::new() } else { vec![(0, covered)] };
    let pieces = found.into_iter().map(|(_, piece)| piece).collect();
    follows.then_some(Match { golden, cut, pieces, dim: 0, words })
}

fn of_tokens(
    golden: usize,
    entry: &Entry,
    aligned: &AlignedStep,
    pieces: &[Piece<'_>],
) -> Result<(Match, Option<Only>), String> {
    let is_of_all = pieces.len() == aligned.passes.len();
    let token_axis = |piece: &Piece<'_>| {
        let axes = piece.axes.as_deref().unwrap_or_default();
        axes.iter().position(|axis| matches!(axis, Axis::Tokens | Axis::AllTokens))
    };
    let has_keys = |piece: &Piece<'_>| piece.axes.iter().flatten().any(|axis| *axis == Axis::Keys);
    let Some((last, before)) = pieces.split_last() else { return Err(unexplained(entry, aligned, pieces)) };
    let Some(axes) = &last.axes else { return Err(unexplained(entry, aligned, pieces)) };
    let axis = token_axis(last);
    let together = before.iter().all(|piece| token_axis(piece) == axis);
    match axis {
        Some(_) if !is_of_all => {
            let lacks = |pass: &&Pass| pieces.iter().all(|piece| piece.pass.step != pass.step);
            let step = aligned.passes.iter().find(lacks).map_or(0, |pass| pass.step);
            Err(format!("step {step} of the candidate has no such entry"))
        }
        Some(_) if !before.is_empty() && pieces.iter().any(has_keys) => {
            Err("its keys grow from piece to piece".to_owned())
        }
        Some(dim) if together => Ok((joined(golden, aligned, pieces, dim), None)),
        Some(_) => Err(unexplained(entry, aligned, pieces)),
        None if has_keys(last) && last.pass.keys.iter().map(Range::len).sum::<usize>() != aligned.keys => {
            Err("the candidate's last piece has no such entry".to_owned())
        }
        None => {
            let is_token = axes.iter().any(|axis| matches!(axis, Axis::LastOfPlain | Axis::LastOfCandidate));
            let differ = before.iter().any(|piece| piece.entry.sha256 != last.entry.sha256);
            let only = match (is_token, differ) {
                (true, _) => Some(Only::LastToken),
                (false, true) => Some(Only::LastPiece),
                (false, false) => None,
            };
            Ok((joined(golden, aligned, std::slice::from_ref(last), 0), only))
        }
    }
}

/// The parts of pieces, joined along the tokens.
fn joined(golden: usize, aligned: &AlignedStep, pieces: &[Piece<'_>], tokens: usize) -> Match {
    let (mut cut, mut dim): (Cut, usize) = (Vec::new(), tokens);
    let (mut parts, mut words) = (Vec::new(), Vec::new());
    for piece in pieces {
        let pass = piece.pass;
        let mut own: Vec<Cut> = vec![Vec::new()];
        let mut said = Vec::new();
        for (at, axis) in piece.axes.iter().flatten().enumerate() {
            let ranges = of_candidate(*axis, pass);
            let size = piece.entry.shape[at];
            if ranges.iter().all(|range| *range == (0..size)) {
                continue;
            }
            said.extend(ranges.iter().map(|range| format!("{} of {size}", words_of(name(*axis), range))));
            if ranges.len() > 1 {
                dim = at;
            }
            own = own
                .iter()
                .flat_map(|cut| ranges.iter().map(|range| [&cut[..], &[(at, range.clone())]].concat()))
                .collect();
        }
        if pieces.len() > 1 {
            said.push(format!("for {}", words_of("token", &pass.tokens)));
        }
        words.extend((!said.is_empty()).then(|| said.join(", ")));
        parts.extend(own.into_iter().map(|cut| (piece.index, cut)));
    }
    let covered = pieces.first().map_or(0, |piece| piece.pass.tokens.start)
        ..pieces.last().map_or(0, |piece| piece.pass.tokens.end);
    for (at, axis) in pieces.iter().take(1).flat_map(|piece| piece.axes.iter().flatten()).enumerate() {
        match axis {
            Axis::Tokens | Axis::AllTokens if covered != (0..aligned.tokens) => {
                cut.push((at, covered.clone()));
            }
            Axis::LastOfPlain => cut.push((at, aligned.tokens - 1..aligned.tokens)),
            _ => {}
        }
    }
    if words.is_empty() && !cut.is_empty() {
        words.push(format!("for {}", words_of("token", &cut[0].1)));
    }
    Match { golden, cut, pieces: parts, dim, words }
}

/// The parts of a dimension that are the plain run's.
fn of_candidate(axis: Axis, pass: &Pass) -> Vec<Range<usize>> {
    let one = |place: usize| vec![place..place + 1; 1];
    match axis {
        Axis::Same | Axis::LastOfPlain => Vec::new(),
        Axis::Sequences => one(pass.row),
        Axis::Requests => one(pass.packed.map_or(0, |(place, _)| place)),
        Axis::Tokens => vec![pass.columns.clone(); 1],
        Axis::AllTokens => {
            let first = pass.row * pass.width;
            vec![first + pass.columns.start..first + pass.columns.end; 1]
        }
        Axis::Keys => pass.keys.clone(),
        Axis::LastOfCandidate => one(pass.columns.end - 1),
    }
}

fn name(axis: Axis) -> &'static str {
    match axis {
        Axis::Sequences => "sequence",
        Axis::Requests => "request",
        Axis::Keys => "position",
        _ => "token",
    }
}

/// A range in words: `token 3`, `tokens 3 to 5`.
pub(crate) fn words_of(what: &str, range: &Range<usize>) -> String {
    match range.len() {
        1 => format!("{what} {}", range.start),
        _ => format!("{what}s {} to {}", range.start, range.end.saturating_sub(1)),
    }
}

/// Why shapes do not belong together.
fn unexplained(entry: &Entry, aligned: &AlignedStep, pieces: &[Piece<'_>]) -> String {
    let Some(piece) = pieces.iter().rev().find(|piece| piece.axes.is_none()).or(pieces.last()) else {
        return "the candidate has no such entry".to_owned();
    };
    let pass = piece.pass;
    format!(
        "its shapes {:?} and {:?} do not belong together by {} tokens and [{}, {}]",
        entry.shape, piece.entry.shape, aligned.tokens, pass.batch, pass.width
    )
}
