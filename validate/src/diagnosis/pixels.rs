//! Mistakes in the pixels: the order of their colours, their normalisation, and when they are rounded.

use golden::{Dtype, Dump, TensorView};

use super::case::{Case, in_dtype};
use super::layout::Layout;
use super::mistakes::{Mistake, Test};
use crate::entry::EntryReport;
use crate::names::Pairing;
use measure::metric::value_at;

/// The site whose output tells when the pixels were rounded.
const CONDITIONER: &str = "vision_model.radio_model.input_conditioner";

/// CLIP's mean and standard deviation, by which C-RADIO normalises.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// What pixels may have been rounded to.
const ROUNDED: [Dtype; 2] = [Dtype::BFloat16, Dtype::Float16];

/// In which dtypes `pixel_values` reached the tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PixelDtypes {
    /// In the golden run.
    pub(crate) golden: Dtype,
    /// In the candidate's.
    pub(crate) candidate: Dtype,
}

impl PixelDtypes {
    fn text(self) -> String {
        match self {
            PixelDtypes { golden: Dtype::Float32, candidate } => {
                format!(
                    "the pixels are rounded to {candidate} before they are normalised; the golden run's are not"
                )
            }
            PixelDtypes { golden, .. } => {
                format!(
                    "the pixels are not rounded before they are normalised; the golden run's are, to {golden}"
                )
            }
        }
    }
}

/// In which dtypes the pixels of both sides reached the tower, if that is why their conditioners differ.
pub(crate) fn dtypes(golden: &Dump, pairing: &Pairing<'_>, entries: &[EntryReport]) -> Option<PixelDtypes> {
    let entry = entries.iter().find(|entry| entry.entry.name == CONDITIONER && !entry.is_bit_equal())?;
    let (expected, found) = (pairing.golden(CONDITIONER)?, pairing.candidate(CONDITIONER)?);
    let (expected, found) = (expected.view()?, found.view()?);
    if expected.shape() != found.shape() {
        return None;
    }
    let case = Case::new(expected, found, entry)?;
    rounding(golden, &case, &Layout::of(golden, &entry.entry)).map(|(dtypes, _)| dtypes)
}

/// Whether one side normalises rounded pixels and the other does not, and how far the candidate is from that.
///
/// One step in the last place of some elements is all that shows: mean and deviation must be known to the bit.
fn rounding(golden: &Dump, case: &Case<'_>, layout: &Layout) -> Option<(PixelDtypes, f64)> {
    let per_channel = rows_per_channel(case, layout)?;
    let given = given_pixels(golden, case)?;
    if given.dtype() != Dtype::Float32 || case.entry_is_given() {
        return None;
    }
    let pixel = |row: usize, column: usize| value_at(&given, row * case.columns + column) as f32;
    let bfloat16 = |value: f32| half::bf16::from_f32(value).to_f32();
    let statistics = [(MEAN, DEVIATION), (MEAN.map(bfloat16), DEVIATION.map(bfloat16))];
    for ((mean, deviation), lesser) in
        statistics.into_iter().flat_map(|statistics| ROUNDED.map(|lesser| (statistics, lesser)))
    {
        let normalised = |rounds: bool, row: usize, column: usize| {
            let (channel, pixel) = (row / per_channel % 3, pixel(row, column));
            let pixel = if rounds { in_dtype(lesser, pixel) as f32 } else { pixel };
            (pixel - mean[channel]) / deviation[channel]
        };
        for candidate_rounds in [true, false] {
            let right = case.distance(|row, column| {
                let expected = case.as_golden(normalised(!candidate_rounds, row, column));
                Some((expected, case.golden(row, column)))
            });
            let left = case.distance(|row, column| {
                let expected = case.as_candidate(normalised(candidate_rounds, row, column));
                Some((expected, case.candidate(row, column)))
            });
            if case.explains(right) && case.explains(left) {
                let (golden, candidate) =
                    if candidate_rounds { (Dtype::Float32, lesser) } else { (lesser, Dtype::Float32) };
                return Some((PixelDtypes { golden, candidate }, left));
            }
        }
    }
    None
}

/// Mistakes in the colours: their order, and their normalisation.
pub(super) fn test(golden: &Dump, case: &Case<'_>, layout: &Layout, test: Test<'_>) {
    let Some(per_channel) = rows_per_channel(case, layout) else { return };
    let channel = |row: usize| row / per_channel % 3;
    if let Some((rounds, left)) = rounding(golden, case, layout) {
        test(Mistake::PixelRounding, rounds.text(), left);
    }
    let reversed = |row: usize| row + (2 - channel(row)) * per_channel - channel(row) * per_channel;
    let after = case.moved(|row, column| (reversed(row), column));
    test(Mistake::ColourOrder, "red and blue are exchanged".to_owned(), after);

    // g = a · p + b in each channel, p the pixels: what the tower's own normalisation does.
    let Some(given) = given_pixels(golden, case) else { return };
    let pixel = |row: usize, column: usize| value_at(&given, row * case.columns + column);
    let lines = lines_through(case, &pixel, &|row, column| case.golden(row, column), &channel);
    let twice = case.distance(|row, column| {
        let (factor, offset) = lines[channel(row)]?;
        Some((factor * case.golden(row, column) + offset, case.candidate(row, column)))
    });
    test(Mistake::Normalisation, "the pixels are normalised twice".to_owned(), twice);
    let not = case.distance(|row, column| Some((pixel(row, column), case.candidate(row, column))));
    test(Mistake::Normalisation, "the pixels are not normalised".to_owned(), not);
    if case.explains(twice) || case.explains(not) || case.entry_is_given() {
        return;
    }
    let other = lines_through(case, &pixel, &|row, column| case.candidate(row, column), &channel);
    let left = case.distance(|row, column| {
        let (factor, offset) = other[channel(row)]?;
        Some((factor * pixel(row, column) + offset, case.candidate(row, column)))
    });
    if let [Some(red), Some(green), Some(blue)] = other[..] {
        let list = |of: fn((f64, f64)) -> f64| [red, green, blue].map(|line| rounded(of(line))).join(", ");
        let (mean, deviation) = (list(|(factor, offset)| -offset / factor), list(|(factor, _)| 1.0 / factor));
        let text = format!("the pixels are normalised by a mean of {mean} and a deviation of {deviation}");
        test(Mistake::Normalisation, text, left);
    }
}

/// How many rows each colour of a tile has, if the rows are pixels.
fn rows_per_channel(case: &Case<'_>, layout: &Layout) -> Option<usize> {
    let &Layout::Pixels { tiles } = layout else { return None };
    Some(case.rows / (3 * tiles.max(1))).filter(|&rows| rows > 0)
}

/// The pixels that the golden run was given, if there are as many as in the case.
fn given_pixels<'a>(golden: &'a Dump, case: &Case<'_>) -> Option<TensorView<'a>> {
    golden.get("pixel_values").filter(|given| given.len_elems() == case.rows * case.columns)
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

/// A number of three decimals.
fn rounded(value: f64) -> String {
    format!("{value:.3}")
}
