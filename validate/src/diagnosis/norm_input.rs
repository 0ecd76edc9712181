//! What a norm was given, as the golden dump has it.

use golden::TensorView;
use measure::metric::value_at;

use super::probe::Probe;
use super::roles::norm;

/// Values that an epsilon has in practice.
pub(super) const EPSILONS: [f64; 9] = [1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1];

/// The most rows that each attempt is made on.
const ROWS: usize = 128;

/// Whether the site is a norm, and has rows enough for a fit.
pub(super) fn asks(probe: &Probe<'_>) -> bool {
    norm(probe.entry).is_some() && probe.case.as_ref().is_some_and(|case| case.rows >= 4)
}

/// Some rows of a norm's golden input.
pub(super) struct NormInput {
    /// Whether the norm divides by the root of the mean square, and subtracts no mean.
    pub(super) root_mean_square: bool,
    /// Which rows.
    pub(super) rows: Vec<usize>,
    /// Their numbers, without their mean where the norm subtracts it.
    pub(super) numbers: Vec<Vec<f64>>,
    /// The mean square of the numbers of each.
    pub(super) variances: Vec<f64>,
}

impl NormInput {
    /// Reads some rows; `None` where the golden dump does not have the input.
    pub(super) fn of(probe: &Probe<'_>) -> Option<Self> {
        let case = probe.case.as_ref()?;
        let root_mean_square = norm(probe.entry)?;
        let inputs = probe.inputs();
        let inputs: Vec<TensorView<'_>> =
            inputs.iter().map(|input| probe.golden.get(&input.entry.key())).collect::<Option<_>>()?;
        let rows: Vec<usize> = case.sample().step_by(case.rows.min(2048).div_ceil(ROWS).max(1)).collect();
        let numbers = rows.iter().map(|&row| {
            let mut numbers = given(&inputs, probe.entry.entry.shape.as_slice(), row)?;
            if !root_mean_square {
                let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
                numbers.iter_mut().for_each(|number| *number -= mean);
            }
            Some(numbers)
        });
        let numbers: Vec<Vec<f64>> = numbers.collect::<Option<_>>()?;
        let mean_square = |numbers: &Vec<f64>| {
            numbers.iter().map(|number| number * number).sum::<f64>() / numbers.len() as f64
        };
        let variances = numbers.iter().map(mean_square).collect();
        Some(NormInput { root_mean_square, rows, numbers, variances })
    }
}

/// The numbers that a row was normalised from: the sum of the inputs; four rows of the features' where pixel shuffle has
/// put them together.
fn given(inputs: &[TensorView<'_>], shape: &[usize], row: usize) -> Option<Vec<f64>> {
    let width = *shape.last()?;
    if inputs.iter().all(|input| input.shape() == shape) {
        let sum = |column: usize| inputs.iter().map(|input| value_at(input, row * width + column)).sum();
        return Some((0..width).map(sum).collect());
    }
    let ([input], &[tiles, tokens, _]) = (inputs, shape) else { return None };
    let &[input_tiles, input_tokens, input_width] = input.shape() else { return None };
    let side = input_tokens.isqrt();
    let shuffled = (tiles, 4 * tokens, width) == (input_tiles, input_tokens, 4 * input_width);
    if !shuffled || side * side != input_tokens || side % 2 != 0 {
        return None;
    }
    let (tile, token) = (row / tokens, row % tokens);
    let (top, left) = (token / (side / 2) * 2, token % (side / 2) * 2);
    let corners = [(0, 0), (0, 1), (1, 0), (1, 1)];
    let rows = corners.map(|(down, right)| tile * input_tokens + (top + down) * side + left + right);
    Some(
        rows.iter()
            .flat_map(|row| (0..input_width).map(move |column| value_at(input, row * input_width + column)))
            .collect(),
    )
}
