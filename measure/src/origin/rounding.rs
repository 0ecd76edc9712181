//! What rounding explains: how far two right implementations of one step can be apart, and how an error of the inputs
//! grows on the way through.

use golden::{Dtype, Entry, Role};

use crate::compared::Compared;
use crate::model::Step;
use crate::tolerance::{Bounds, Policy, Tolerance};

/// What a step may add of its own, and how much it may enlarge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Own {
    /// Of the whole tensor, relative to its length.
    pub(super) whole: f64,
    /// Of a row, relative to its length.
    pub(super) row: f64,
    /// By how much the inputs' relative error may grow.
    pub(super) growth: f64,
    /// The unit roundoff: a row shorter than this part of the median row is measured as if it were so long.
    pub(super) unit: f64,
}

impl Own {
    /// The same, or what an entry is held to if that is more.
    pub(super) fn at_least(self, tolerance: &Tolerance) -> Own {
        let Tolerance::Bounds(bounds) = tolerance else { return self };
        let whole = self.whole.max(bounds.relative_l2.unwrap_or(0.0));
        Own { whole, row: self.row.max(bounds.row_relative_l2.unwrap_or(0.0)), ..self }
    }
}

/// How far two right results of one operation are apart, in unit roundoffs, if one of them rounds twice more on the way.
const SINGLE: f64 = 0.8;

/// The same of an operation that rounds several times.
const SEVERAL: f64 = 1.0;

/// The same of a short chain of operations, each of which rounds.
const CHAIN: f64 = 2.0;

/// The same of an attention core. One implementation rounds queries, keys, scores, weights and the weighted sum; another
/// keeps them in float32 in a fused kernel. A score is large, and so is its error.
const ATTENTION: f64 = 4.0;

/// How many times as far as the whole tensor a row may be off: each of its elements by one unit in the last place.
const ROW: f64 = 2.5;

/// What a sum of products adds, in unit roundoffs of the dtype that it is accumulated in. It is a little more than √k for the
/// longest sums of the 8B (k = 14,336), whatever their order.
const ACCUMULATION: f64 = 160.0;

/// How many times an error of the inputs may grow through an operation that is linear or nearly so.
const GROWTH: f64 = 4.0;

/// The same through a softmax, or through an activation function where it is steep.
const STEEP_GROWTH: f64 = 16.0;

/// Below so many elements, the mean square of the differences is that of a sample, and spreads: a step of decoding has one row.
const FEW: usize = 512;

/// By how many times the inverse root of their number. Of squares whose deviation is 1.4 times their mean, as those of normal
/// numbers, the root of the mean of N has a deviation of 0.7/√N; this is four times that.
const SPREAD: f64 = 2.8;

/// Whether a dtype has fewer digits than another.
pub fn rounds_more(dtype: Dtype, than: Dtype) -> bool {
    dtype.unit_roundoff() > than.unit_roundoff()
}

/// What a step of an entry may add and enlarge, given the golden run's dtype.
///
/// What a policy allows more than the built-in one widens this in proportion.
pub(super) fn own(compared: &Compared<'_>, step: Step, built_in: &Policy, run: Option<Dtype>) -> Own {
    let unit = unit_of(compared.entry, run);
    let bounds = match *compared.tolerance {
        Tolerance::Bounds(bounds) => bounds,
        Tolerance::Exact | Tolerance::Ignored { .. } => Bounds::default(),
    };
    let built_in = built_in.tolerance(compared.entry, run);
    let built_in = match built_in {
        Tolerance::Bounds(bounds) => bounds.relative_l2.unwrap_or(0.0),
        Tolerance::Exact | Tolerance::Ignored { .. } => 0.0,
    };
    let flat = bounds.relative_l2.unwrap_or(built_in);
    let widened = if built_in > 0.0 { (flat / built_in).max(1.0) } else { 1.0 };
    if matches!(step, Step::Input | Step::Unknown) {
        let row = bounds.row_relative_l2.unwrap_or(ROW * flat);
        return Own { whole: flat, row, growth: STEEP_GROWTH, unit };
    }
    let whole = widened * of_step(step, unit) * spread(compared.entry);
    let steep = matches!(step, Step::Activation | Step::Chain | Step::Attention);
    let growth = if steep { STEEP_GROWTH } else { GROWTH };
    Own { whole, row: ROW * whole, growth, unit }
}

/// The bounds for the whole tensor and its worst row that no noise is taken to be below: what rounding explains.
pub(crate) fn least_bounds(entry: &Entry, step: Step, run: Option<Dtype>) -> (f64, f64) {
    let whole = of_step(step, unit_of(entry, run)) * spread(entry);
    (whole, ROW * whole)
}

/// How many times as far as many elements a few may be off.
fn spread(entry: &Entry) -> f64 {
    let elements: usize = entry.shape.iter().product();
    if (1..FEW).contains(&elements) { 1.0 + SPREAD / (elements as f64).sqrt() } else { 1.0 }
}

/// The unit roundoff of an entry or of the run, whichever is larger.
fn unit_of(entry: &Entry, run: Option<Dtype>) -> f64 {
    let run = run.filter(|_| entry.role != Role::Input).and_then(Dtype::unit_roundoff).unwrap_or(0.0);
    entry.dtype.unit_roundoff().unwrap_or(0.0).max(run)
}

fn of_step(step: Step, unit: f64) -> f64 {
    let factor = match step {
        Step::Single | Step::Activation => SINGLE,
        Step::Several | Step::Unknown => SEVERAL,
        Step::Chain => CHAIN,
        Step::Attention => ATTENTION,
        // Given as it is.
        Step::Input => 0.0,
    };
    factor * unit + ACCUMULATION * unit.min(0.5_f64.powi(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_roundoffs_are_those_of_the_formats() {
        assert_eq!(Dtype::Float32.unit_roundoff(), Some(f64::from(f32::EPSILON) / 2.0));
        assert_eq!(Dtype::Float64.unit_roundoff(), Some(f64::EPSILON / 2.0));
        assert_eq!(Dtype::BFloat16.unit_roundoff(), Some(half::bf16::EPSILON.to_f64() / 2.0));
        assert_eq!(Dtype::Float16.unit_roundoff(), Some(half::f16::EPSILON.to_f64() / 2.0));
        assert_eq!(Dtype::Int64.unit_roundoff(), None);
    }

    /// Two sums on a grid of step one, one of them from parts that were rounded to the grid before.
    #[test]
    fn two_roundings_more_explain_what_a_single_step_may_add() {
        // A fixed linear congruential sequence is random enough for a mean.
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 24)
        };
        let (mut differences, mut squares) = (0.0, 0.0);
        for _ in 0..200_000 {
            // Logarithmically uniform, as the leading digits of measured numbers are.
            let value = 2.0_f64.powf(8.0 + random());
            let extra = (random() - 0.5) + (random() - 0.5);
            let step = value.log2().floor().exp2() / 128.0;
            let round = |x: f64| (x / step).round() * step;
            let difference = round(value + extra * step) - round(value);
            differences += difference * difference;
            squares += value * value;
        }
        let relative: f64 = (differences / squares).sqrt() / Dtype::BFloat16.unit_roundoff().unwrap();
        assert!((0.7..SINGLE).contains(&relative), "{relative}");
    }
}
