//! Whether an entry is what it should be.

use golden::Dtype;

use super::bounds::{Metric, Tolerance};
use crate::metric::Measurement;

/// Whether an entry is what it should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Within its tolerance.
    Pass,
    /// Not judged, for the reason given in the policy or by the candidate.
    Ignored {
        /// The reason.
        reason: String,
    },
    /// Not a pass.
    Fail(Failure),
}

/// Why an entry does not pass.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The candidate has no entry of the name.
    Missing,
    /// The golden dump has no entry of the name.
    Extra,
    /// The dtypes differ.
    Dtype {
        /// The golden's.
        expected: Dtype,
        /// The candidate's.
        found: Dtype,
    },
    /// The shapes differ.
    Shape {
        /// The golden's.
        expected: Vec<usize>,
        /// The candidate's.
        found: Vec<usize>,
    },
    /// NaN or infinities are not at the same places on both sides.
    NonFinite {
        /// How many places disagree; `None` if sketches do not tell.
        mismatches: Option<usize>,
    },
    /// Bits differ where none may.
    Unequal {
        /// How many elements differ; `None` if sketches do not tell.
        differing: Option<usize>,
        /// Of how many.
        elements: usize,
    },
    /// A metric is beyond its limit.
    Exceeded {
        /// The metric.
        metric: Metric,
        /// Its limit.
        limit: f64,
        /// Its value.
        found: f64,
    },
    /// The module made an error that neither rounding nor its inputs explain, though every limit holds.
    Fresh(Excess),
}

/// An error that neither rounding nor the inputs explain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Excess {
    /// [`Metric::RelativeL2`], or [`Metric::RowRelativeL2`] if only rows are off.
    pub metric: Metric,
    /// The row that is furthest beyond its limit, as an index among the rows.
    pub row: Option<usize>,
    /// What the module's own rounding and its inputs explain.
    pub limit: f64,
    /// What is there. Of a row this is relative to the row's own length.
    pub found: f64,
}

/// Judges a measurement.
pub fn judge(measurement: &Measurement, tolerance: &Tolerance) -> Verdict {
    let bounds = match tolerance {
        Tolerance::Ignored { reason } => return Verdict::Ignored { reason: reason.clone() },
        _ if measurement.bit_equal => return Verdict::Pass,
        Tolerance::Exact => {
            let Measurement { differing, elements, .. } = *measurement;
            return Verdict::Fail(Failure::Unequal { differing, elements });
        }
        Tolerance::Bounds(bounds) => bounds,
    };
    if measurement.non_finite_mismatches > 0 {
        let mismatches = (!measurement.estimated).then_some(measurement.non_finite_mismatches);
        return Verdict::Fail(Failure::NonFinite { mismatches });
    }
    let exceeded = bounds.limits().find_map(|(metric, limit)| {
        let found = metric.of(measurement)?;
        (!metric.allows(found, limit)).then_some(Failure::Exceeded { metric, limit, found })
    });
    exceeded.map_or(Verdict::Pass, Verdict::Fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Difference, NonFinite};
    use crate::tolerance::Bounds;

    fn measurement() -> Measurement {
        let difference = Difference { index: vec![0], golden: 1.0, candidate: 1.5 };
        Measurement {
            elements: 10,
            estimated: false,
            bit_equal: false,
            differing: Some(1),
            first: Some(difference.clone()),
            largest: Some(difference),
            relative_l2: Some(0.01),
            row_relative_l2: Some(0.02),
            rows: Vec::new(),
            cosine: Some(0.99),
            max_ulps: Some(7),
            golden: NonFinite::default(),
            candidate: NonFinite::default(),
            non_finite_mismatches: 0,
            first_non_finite_mismatch: None,
        }
    }

    #[test]
    fn each_limit_alone_passes_at_its_value_and_fails_beyond_it() {
        let none = Bounds::default();
        let cases = [
            (
                Metric::RelativeL2,
                Bounds { relative_l2: Some(0.01), ..none },
                Bounds { relative_l2: Some(0.0099), ..none },
            ),
            (
                Metric::RowRelativeL2,
                Bounds { row_relative_l2: Some(0.02), ..none },
                Bounds { row_relative_l2: Some(0.0199), ..none },
            ),
            (Metric::MaxAbs, Bounds { max_abs: Some(0.5), ..none }, Bounds { max_abs: Some(0.4), ..none }),
            (Metric::MaxUlps, Bounds { max_ulps: Some(7), ..none }, Bounds { max_ulps: Some(6), ..none }),
            (Metric::Cosine, Bounds { cosine: Some(0.99), ..none }, Bounds { cosine: Some(0.991), ..none }),
        ];
        for (expected, within, beyond) in cases {
            assert_eq!(judge(&measurement(), &Tolerance::Bounds(within)), Verdict::Pass, "{expected:?}");
            match judge(&measurement(), &Tolerance::Bounds(beyond)) {
                Verdict::Fail(Failure::Exceeded { metric, .. }) => assert_eq!(metric, expected),
                other => panic!("{expected:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn nan_is_within_no_limit() {
        let bounds = Tolerance::Bounds(Bounds { relative_l2: Some(f64::INFINITY), ..Bounds::default() });
        let spoiled = Measurement { relative_l2: Some(f64::NAN), ..measurement() };
        assert!(matches!(judge(&spoiled, &bounds), Verdict::Fail(Failure::Exceeded { .. })));
    }

    #[test]
    fn a_non_finite_mismatch_fails_within_every_limit() {
        let spoiled = Measurement { non_finite_mismatches: 1, ..measurement() };
        let verdict = judge(&spoiled, &Tolerance::Bounds(Bounds::default()));
        assert_eq!(verdict, Verdict::Fail(Failure::NonFinite { mismatches: Some(1) }));
    }

    #[test]
    fn exact_means_every_bit() {
        assert_eq!(
            judge(&measurement(), &Tolerance::Exact),
            Verdict::Fail(Failure::Unequal { differing: Some(1), elements: 10 })
        );
        let equal = Measurement { bit_equal: true, differing: Some(0), ..measurement() };
        assert_eq!(judge(&equal, &Tolerance::Exact), Verdict::Pass);
    }
}
