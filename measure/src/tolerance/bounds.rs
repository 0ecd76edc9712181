//! Limits of measured numbers.

use crate::metric::Measurement;

/// A measured number that can have a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// [`Measurement::relative_l2`]
    RelativeL2,
    /// [`Measurement::row_relative_l2`]
    RowRelativeL2,
    /// The magnitude of [`Measurement::largest`].
    MaxAbs,
    /// [`Measurement::max_ulps`]
    MaxUlps,
    /// [`Measurement::cosine`], the only one that must be *at least* its limit.
    Cosine,
}

impl Metric {
    /// The name in policies and reports.
    pub fn name(self) -> &'static str {
        match self {
            Metric::RelativeL2 => "relative_l2",
            Metric::RowRelativeL2 => "row_relative_l2",
            Metric::MaxAbs => "max_abs",
            Metric::MaxUlps => "max_ulps",
            Metric::Cosine => "cosine",
        }
    }

    /// Its value in a measurement; `None` where it has no meaning.
    pub fn of(self, measurement: &Measurement) -> Option<f64> {
        match self {
            Metric::RelativeL2 => measurement.relative_l2,
            Metric::RowRelativeL2 => measurement.row_relative_l2,
            Metric::MaxAbs => {
                let largest = measurement.largest.as_ref().map_or(0.0, |largest| largest.magnitude());
                (!measurement.estimated).then_some(largest)
            }
            Metric::MaxUlps => measurement.max_ulps.map(|ulps| ulps as f64),
            Metric::Cosine => measurement.cosine,
        }
    }

    /// Whether a value is within a limit; NaN never is.
    pub(super) fn allows(self, value: f64, limit: f64) -> bool {
        if self == Metric::Cosine { value >= limit } else { value <= limit }
    }
}

/// How much further than the whole tensor its worst row may be off, unless a policy says otherwise.
const ROW_FACTOR: f64 = 5.0;

/// Limits, all of which must hold; a metric without one is not judged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// For [`Metric::RelativeL2`].
    pub relative_l2: Option<f64>,
    /// For [`Metric::RowRelativeL2`].
    pub row_relative_l2: Option<f64>,
    /// For [`Metric::MaxAbs`].
    pub max_abs: Option<f64>,
    /// For [`Metric::MaxUlps`].
    pub max_ulps: Option<u64>,
    /// For [`Metric::Cosine`].
    pub cosine: Option<f64>,
}

impl Bounds {
    /// The metrics that have a limit, with it.
    pub fn limits(&self) -> impl Iterator<Item = (Metric, f64)> {
        [
            (Metric::RelativeL2, self.relative_l2),
            (Metric::RowRelativeL2, self.row_relative_l2),
            (Metric::MaxAbs, self.max_abs),
            (Metric::MaxUlps, self.max_ulps.map(|ulps| ulps as f64)),
            (Metric::Cosine, self.cosine),
        ]
        .into_iter()
        .filter_map(|(metric, limit)| Some((metric, limit?)))
    }

    /// The limits of another, where it has any, and else these.
    ///
    /// A limit for the whole tensor brings one for its rows with it, unless the other names that itself: else widening
    /// the one would leave the narrow other in force.
    pub(super) fn overridden_by(self, other: Bounds) -> Bounds {
        let row_relative_l2 = other.row_relative_l2.or(other.relative_l2.map(|limit| ROW_FACTOR * limit));
        Bounds {
            relative_l2: other.relative_l2.or(self.relative_l2),
            row_relative_l2: row_relative_l2.or(self.row_relative_l2),
            max_abs: other.max_abs.or(self.max_abs),
            max_ulps: other.max_ulps.or(self.max_ulps),
            cosine: other.cosine.or(self.cosine),
        }
    }
}

/// What an entry is held to.
#[derive(Debug, Clone, PartialEq)]
pub enum Tolerance {
    /// Every bit.
    Exact,
    /// Limits.
    Bounds(Bounds),
    /// Nothing, for the reason given in the policy.
    Ignored {
        /// The reason.
        reason: String,
    },
}
