//! Only one side has some of the tiles.

use super::explanation::{Explanation, Value};
use super::kind::Diagnosis;
use super::lacking::{Parts, lacking};
use super::probe::Probe;
use super::roles::SiteRole;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "missing_tiles",
    asks,
    test,
    last: true,
    supersedes: &[],
    variants: &[],
    example: "no thumbnail",
};

/// How like a thumbnail must be to the tiles made smaller: most of what it shows must be theirs.
const LIKE: f64 = 0.25;

fn asks(probe: &Probe<'_>) -> bool {
    !probe.has_case() && probe.role() == Some(SiteRole::Pixels)
}

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let lacking = lacking(probe).filter(|lacking| lacking.dimension == 0)?;
    let mut values = lacking.values(["tile", "tiles"]);
    let mut pattern = "it {} {} {} of {}";
    if lacking.alone == [lacking.more.count - 1]
        && let Some((columns, rows)) = thumbnail(&lacking.more)
    {
        pattern = "it {} {} {} of {}, the thumbnail, which is the others, {} by {}, made smaller";
        values.extend([columns, rows].map(Value::Count));
    }
    Some(Explanation { pattern, values, before: lacking.before, after: lacking.after })
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
