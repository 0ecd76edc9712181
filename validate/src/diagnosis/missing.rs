//! Tiles or tokens that only one side has: what is left is found among the other side's.

use golden::TensorView;

use super::mistakes::{Diagnosis, Mistake};
use crate::entry::EntryReport;
use crate::names::Pairing;
use measure::metric::value_at;

/// The most numbers of a part that are compared.
const NUMBERS: usize = 4096;

/// How far a part may be from its like, relative to its length.
const NEAR: f64 = 0.02;

/// How like a thumbnail must be to the tiles made smaller: most of what it shows must be theirs.
const LIKE: f64 = 0.25;

/// A tensor as parts along one of its dimensions.
struct Parts<'a> {
    view: &'a TensorView<'a>,
    count: usize,
    outer: usize,
    inner: usize,
}

impl Parts<'_> {
    fn value(&self, part: usize, at: usize) -> f64 {
        let (outer, inner) = (at / self.inner, at % self.inner);
        value_at(self.view, (outer * self.count + part) * self.inner + inner)
    }

    fn sample(&self) -> impl Iterator<Item = usize> + use<> {
        let numbers = self.outer * self.inner;
        (0..numbers).step_by(numbers.div_ceil(NUMBERS).max(1))
    }

    fn squares(&self, part: usize) -> f64 {
        self.sample().map(|at| self.value(part, at).powi(2)).sum()
    }

    fn difference(&self, part: usize, other: &Parts<'_>, other_part: usize) -> f64 {
        self.sample().map(|at| (self.value(part, at) - other.value(other_part, at)).powi(2)).sum()
    }
}

/// What one side has more, if all else is equal.
pub(super) fn diagnose(pairing: &Pairing<'_>, entry: &EntryReport) -> Option<Diagnosis> {
    let name = &entry.entry.name;
    let (expected, found) = (pairing.golden(name)?, pairing.candidate(name)?);
    let (expected, found) = (expected.view()?, found.view()?);
    let (from, to) = (expected.shape(), found.shape());
    let differing: Vec<usize> =
        (0..from.len()).filter(|&at| from.len() == to.len() && from[at] != to[at]).collect();
    let &[dimension] = differing.as_slice() else { return None };
    // Channels are not told apart by their numbers.
    if dimension + 1 >= from.len() {
        return None;
    }
    let (outer, inner) = (from[..dimension].iter().product(), from[dimension + 1..].iter().product());
    let parts = |view, count| Parts { view, count, outer, inner };
    let (expected, found) = (parts(&expected, from[dimension]), parts(&found, to[dimension]));
    let lacking = found.count < expected.count;
    let (more, fewer) = if lacking { (&expected, &found) } else { (&found, &expected) };
    if outer * inner == 0 || fewer.count == 0 {
        return None;
    }
    // Each part of the shorter side is the next part of the longer one that is like it.
    let (mut next, mut left, mut total) = (0, 0.0, 0.0);
    let mut alone = Vec::new();
    for part in 0..fewer.count {
        let squares = fewer.squares(part);
        let room = more.count - (fewer.count - part - 1);
        let found = (next..room).find(|&other| {
            more.difference(other, fewer, part) <= NEAR * NEAR * squares.max(more.squares(other))
        })?;
        alone.extend(next..found);
        left += more.difference(found, fewer, part);
        total += squares;
        next = found + 1;
    }
    alone.extend(next..more.count);
    let lost: f64 = alone.iter().map(|&part| more.squares(part)).sum();
    let golden_squares = if lacking { total + lost } else { total };
    let relative = |squares: f64| (squares / golden_squares).sqrt();
    let tiles = name == "pixel_values" && dimension == 0;
    let (mistake, what) = if tiles { (Mistake::MissingTiles, "tile") } else { (Mistake::MissingRows, "row") };
    let verb = if lacking { "lacks" } else { "has, and the golden run has not," };
    let plural = if alone.len() == 1 { "" } else { "s" };
    let mut text = format!("it {verb} {what}{plural} {} of {}", list(&alone), more.count);
    if tiles
        && alone == [more.count - 1]
        && let Some((columns, rows)) = thumbnail(more)
    {
        text.push_str(&format!(", the thumbnail, which is the others, {columns} by {rows}, made smaller"));
    }
    let diagnosis = Diagnosis { mistake, text, before: relative(lost), after: relative(left) };
    (diagnosis.after < diagnosis.before).then_some(diagnosis)
}

/// The columns and rows of the tiles that the last one is made of.
fn thumbnail(tiles: &Parts<'_>) -> Option<(usize, usize)> {
    let &[count, 3, height, width] = tiles.view.shape() else { return None };
    let last = count.checked_sub(1).filter(|&others| others > 0)?;
    let grids = (1..=last).filter(|columns| last % columns == 0).map(|columns| (columns, last / columns));
    let distance = |(columns, rows): (usize, usize)| {
        let (mut differences, mut squares) = (0.0, 0.0);
        for at in tiles.sample() {
            let (channel, y, x) = (at / (height * width), at / width % height, at % width);
            // Each pixel stands for so many of the whole picture's.
            let mut sum = 0.0;
            for (down, right) in (0..rows).flat_map(|down| (0..columns).map(move |right| (down, right))) {
                let (y, x) = (y * rows + down, x * columns + right);
                let tile = y / height * columns + x / width;
                sum += tiles.value(tile, (channel * height + y % height) * width + x % width);
            }
            let value = tiles.value(last, at);
            differences += (value - sum / (rows * columns) as f64).powi(2);
            squares += value * value;
        }
        (differences / squares.max(f64::MIN_POSITIVE)).sqrt()
    };
    grids
        .map(|grid| (distance(grid), grid))
        .filter(|(left, _)| *left < LIKE)
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|found| found.1)
}

fn list(numbers: &[usize]) -> String {
    match numbers {
        [first, .., last] if numbers.len() > 2 && last - first + 1 == numbers.len() => {
            format!("{first} to {last}")
        }
        _ => numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    }
}
