//! The pixels are rounded before they are normalised, and those of the golden run are not, or the other way round.

use golden::{Dtype, Dump};
use measure::metric::value_at;

use super::case::{Case, in_dtype};
use super::colours::{given_pixels, rows_per_channel};
use super::explanation::{Explanation, Value};
use super::kind::Diagnosis;
use super::layout::Layout;
use super::probe::Probe;
use super::roles::SiteRole;
use crate::entry::EntryReport;
use crate::names::Pairing;

/// CLIP's mean and standard deviation, by which C-RADIO normalises.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// What pixels may have been rounded to.
const ROUNDED: [Dtype; 2] = [Dtype::BFloat16, Dtype::Float16];

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "pixel_rounding",
    asks: |probe| probe.has_case(),
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "`pixel_values` cast to bfloat16 before the tower, and not by it",
};

/// In which dtypes `pixel_values` reached the tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PixelDtypes {
    /// In the golden run.
    pub(crate) golden: Dtype,
    /// In the candidate's.
    pub(crate) candidate: Dtype,
}

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let (rounds, left) = rounding(probe.golden, probe.case.as_ref()?, &probe.layout)?;
    match rounds {
        PixelDtypes { golden: Dtype::Float32, candidate } => probe.explain(
            "the pixels are rounded to {} before they are normalised; the golden run's are not",
            vec![Value::Dtype(candidate)],
            left,
        ),
        PixelDtypes { golden, .. } => probe.explain(
            "the pixels are not rounded before they are normalised; the golden run's are, to {}",
            vec![Value::Dtype(golden)],
            left,
        ),
    }
}

/// In which dtypes the pixels of both sides reached the tower, if that is why their conditioners differ.
pub(crate) fn dtypes(golden: &Dump, pairing: &Pairing<'_>, entries: &[EntryReport]) -> Option<PixelDtypes> {
    let entry = entries
        .iter()
        .find(|entry| entry.site_role == Some(SiteRole::Conditioner) && !entry.is_bit_equal())?;
    let key = entry.entry.key();
    let (expected, found) = (pairing.golden(&key)?, pairing.candidate(&key)?);
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
