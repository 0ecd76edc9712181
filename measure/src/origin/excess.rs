//! What of an error neither rounding nor the inputs explain.

use super::inherited::inherited;
use super::rounding::Own;
use super::site::Source;
use crate::compared::Compared;
use crate::metric::Measurement;
use crate::tolerance::{Excess, Metric};

/// How many times the true error its estimate is at most, in 95 % of cases and more.
const ESTIMATE: f64 = 1.25;

/// What an error is beyond its limit by, if it is.
///
/// A row's limit is its own rounding plus what its inputs' rows pass on, grown by a bounded factor; the whole tensor's
/// is its own rounding plus what all rows pass on.
pub(super) fn excess(
    compared: &Compared<'_>,
    measurement: &Measurement,
    own: &Own,
    sources: &[(&Compared<'_>, Source)],
    median: f64,
) -> Option<Excess> {
    let relative_l2 = measurement.relative_l2?;
    if measurement.rows.is_empty() {
        return None;
    }
    let inherited = inherited(compared, measurement.rows.len(), sources);
    let (mut passed_on, mut worst) = (0.0, None::<(f64, Excess)>);
    for (row, (error, inherited)) in measurement.rows.iter().zip(inherited).enumerate() {
        let (length, difference) = (f64::from(error.golden), f64::from(error.difference));
        let grown = own.growth * inherited * length.max(median);
        passed_on += grown * grown;
        let scale = length.max(own.unit * median);
        let limit = own.row * scale + grown;
        if difference <= limit || scale == 0.0 && difference.is_finite() {
            continue;
        }
        let beyond = difference / limit;
        if worst.is_none_or(|(so_far, _)| beyond > so_far) {
            let excess = Excess {
                metric: Metric::RowRelativeL2,
                row: Some(row),
                limit: limit / scale,
                found: difference / scale,
            };
            worst = Some((beyond, excess));
        }
    }
    let limit = own.whole + passed_on.sqrt();
    if relative_l2 > limit {
        let row = worst.and_then(|(_, excess)| excess.row);
        return Some(Excess { metric: Metric::RelativeL2, row, limit, found: relative_l2 });
    }
    worst.map(|(_, excess)| excess)
}

/// What an estimated error is beyond its limit by, if it is beyond it by more than the estimate can be off.
pub(super) fn excess_of_estimate(measurement: &Measurement, own: &Own) -> Option<Excess> {
    let (limit, found) = (ESTIMATE * own.whole, measurement.relative_l2?);
    // Not the other way round, since NaN is beyond every limit.
    let within = found <= limit;
    (!within).then_some(Excess { metric: Metric::RelativeL2, row: None, limit, found })
}
