//! The position embeddings were resized with the other value of `align_corners`.

use measure::metric::value_at;

use super::case::Case;
use super::explanation::{Explanation, Value};
use super::kind::Diagnosis;
use super::layout::Layout;
use super::probe::Probe;
use super::roles::SiteRole;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "align_corners",
    asks,
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "positions resized without `align_corners`",
};

/// How well the change must be the predicted one: the cosine of the angle between both.
const SIMILARITY: f64 = 0.7;

/// By which part the predicted change must lessen the error.
const LEFT: f64 = 0.75;

fn asks(probe: &Probe<'_>) -> bool {
    probe.has_case() && probe.role() == Some(SiteRole::Positioned)
}

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let inputs = probe.inputs();
    let embedded = probe.golden.get(&inputs.first()?.entry.key())?;
    if embedded.shape().last() != Some(&case.columns) {
        return None;
    }
    let before = |row: usize, column: usize| value_at(&embedded, row * case.columns + column);
    let (after, nearer) = other_align_corners(case, &probe.layout, before)?;
    let (golden, candidate) = if nearer { ("true", "false") } else { ("false", "true") };
    let pattern =
        "the position embeddings changed as they do if they are resized with `align_corners` {} and not {}";
    Some(probe.tested(pattern, vec![Value::Name(candidate), Value::Name(golden)], after))
}

/// Whether the candidate resized its position embeddings with the other value of `align_corners`, as far as the patches'
/// own positions tell: what is left of the error then, and whether the candidate's is the one without.
///
/// The positions are the difference of the embeddings before and after they were added. With aligned corners the first
/// and last position are the table's own; without, all are sampled nearer to the middle by half a step. The change
/// that this makes is predicted from the golden positions, interpolated between neighbours.
fn other_align_corners(
    case: &Case<'_>,
    layout: &Layout,
    before: impl Fn(usize, usize) -> f64,
) -> Option<(f64, bool)> {
    let &Layout::Tiles { tiles, prefix, side } = layout else { return None };
    if side < 4 {
        return None;
    }
    let tokens = prefix + side * side;
    let patches = side * side;
    let columns = case.columns;
    // The mean over some tiles, since each is rounded on its own.
    let tiles = tiles.min(4);
    let mean = |of: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        let mut sum = vec![0.0; patches * columns];
        for tile in 0..tiles {
            for (index, sum) in sum.iter_mut().enumerate() {
                let (patch, column) = (index / columns, index % columns);
                let embedded = before(tile * patches + patch, column);
                *sum += (of(tile * tokens + prefix + patch, column) - embedded) / tiles as f64;
            }
        }
        sum
    };
    let golden = mean(&|row, column| case.golden(row, column));
    let candidate = mean(&|row, column| case.candidate(row, column));
    let middle = (side - 1) as f64 / 2.0;
    let best = [true, false].map(|nearer| {
        let at = |place: usize| {
            let from_middle = place as f64 - middle;
            let moved = if nearer { -from_middle / side as f64 } else { from_middle / (side - 1) as f64 };
            (place as f64 + moved).clamp(0.0, (side - 1) as f64)
        };
        let (mut product, mut predicted_squares, mut changed_squares, mut left) = (0.0, 0.0, 0.0, 0.0);
        for patch in 0..patches {
            let (row, column) = (at(patch / side), at(patch % side));
            let corners = [row.floor() as usize, column.floor() as usize].map(|at| at.min(side - 2));
            let parts = [row - corners[0] as f64, column - corners[1] as f64];
            for channel in 0..columns {
                let value = |down: usize, right: usize| {
                    golden[((corners[0] + down) * side + corners[1] + right) * columns + channel]
                };
                let top = value(0, 0) * (1.0 - parts[1]) + value(0, 1) * parts[1];
                let bottom = value(1, 0) * (1.0 - parts[1]) + value(1, 1) * parts[1];
                let own = golden[patch * columns + channel];
                let predicted = top * (1.0 - parts[0]) + bottom * parts[0] - own;
                let changed = candidate[patch * columns + channel] - own;
                product += predicted * changed;
                predicted_squares += predicted * predicted;
                changed_squares += changed * changed;
                left += (changed - predicted) * (changed - predicted);
            }
        }
        let similarity = product / (predicted_squares * changed_squares).sqrt();
        (similarity, (left / changed_squares).sqrt(), nearer)
    });
    let (similarity, left, nearer) = best.into_iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
    (similarity > SIMILARITY && left < LEFT).then_some((left * case.error, nearer))
}
