//! The pixels are normalised once more, or not, or by another mean and deviation.

use measure::metric::value_at;

use super::case::Case;
use super::colours::{given_pixels, rows_per_channel};
use super::explanation::{Explanation, Value, best};
use super::kind::Diagnosis;
use super::probe::Probe;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "normalisation",
    asks: |probe| probe.has_case(),
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "ImageNet's mean and deviation, and not CLIP's",
};

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let per_channel = rows_per_channel(case, &probe.layout)?;
    let channel = |row: usize| row / per_channel % 3;
    // g = a · p + b in each channel, p the pixels: what the tower's own normalisation does.
    let given = given_pixels(probe.golden, case)?;
    let pixel = |row: usize, column: usize| value_at(&given, row * case.columns + column);
    let lines = lines_through(case, &pixel, &|row, column| case.golden(row, column), &channel);
    let twice = case.distance(|row, column| {
        let (factor, offset) = lines[channel(row)]?;
        Some((factor * case.golden(row, column) + offset, case.candidate(row, column)))
    });
    let not = case.distance(|row, column| Some((pixel(row, column), case.candidate(row, column))));
    let attempts = [("the pixels are normalised twice", twice), ("the pixels are not normalised", not)];
    let plain =
        best(attempts.into_iter().filter_map(|(pattern, after)| probe.explain(pattern, Vec::new(), after)));
    if plain.is_some() || case.entry_is_given() {
        return plain;
    }
    let other = lines_through(case, &pixel, &|row, column| case.candidate(row, column), &channel);
    let left = case.distance(|row, column| {
        let (factor, offset) = other[channel(row)]?;
        Some((factor * pixel(row, column) + offset, case.candidate(row, column)))
    });
    let [Some(red), Some(green), Some(blue)] = other[..] else { return None };
    let colours = [red, green, blue];
    let means = colours.map(|(factor, offset)| Value::Decimal(-offset / factor));
    let deviations = colours.map(|(factor, _)| Value::Decimal(1.0 / factor));
    let pattern = "the pixels are normalised by a mean of {}, {}, {} and a deviation of {}, {}, {}";
    probe.explain(pattern, means.into_iter().chain(deviations).collect(), left)
}

/// The line through the points of each colour: factor and offset; none where all its points are one.
fn lines_through(
    case: &Case<'_>,
    x: &dyn Fn(usize, usize) -> f64,
    y: &dyn Fn(usize, usize) -> f64,
    channel: &dyn Fn(usize) -> usize,
) -> Vec<Option<(f64, f64)>> {
    let line = |wanted: usize| {
        let (mut n, mut sum_x, mut sum_y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for row in case.sample().filter(|&row| channel(row) == wanted) {
            for column in 0..case.columns {
                let (x, y) = (x(row, column), y(row, column));
                n += 1.0;
                sum_x += x;
                sum_y += y;
                xx += x * x;
                xy += x * y;
            }
        }
        let spread = n * xx - sum_x * sum_x;
        (spread > 1e-9 * n * xx)
            .then(|| ((n * xy - sum_x * sum_y) / spread, (sum_y * xx - sum_x * xy) / spread))
    };
    (0..3).map(line).collect()
}
