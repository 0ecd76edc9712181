//! What two sketches tell of the difference of their tensors.

use std::borrow::Cow;

use super::short::folded;
use super::{ALGORITHM, Sketch};

impl Sketch {
    /// Whether two sketches were drawn from the same seed, so that they tell of each other.
    pub fn is_comparable(&self, other: &Sketch) -> bool {
        self.seed == other.seed
    }

    /// The projection, folded if that of the other sketch is short.
    fn projection_for(&self, other: &Sketch) -> Cow<'_, [f64]> {
        if self.algorithm == ALGORITHM && other.algorithm != ALGORITHM {
            Cow::Owned(folded(&self.projection.0, self.seed))
        } else {
            Cow::Borrowed(&self.projection.0)
        }
    }

    /// Whether NaN and infinities are at the same places, infinities with the same sign.
    pub fn has_same_non_finite(&self, other: &Sketch) -> bool {
        (self.nan, self.inf, &self.non_finite) == (other.nan, other.inf, &other.non_finite)
    }

    /// An estimate of ‖other − self‖: of the length of the difference of both tensors.
    ///
    /// Elements that are finite on one side only count as they are. NaN if a projection left the range of `f64`;
    /// `None` if the sketches are not comparable.
    pub fn difference_l2(&self, other: &Sketch) -> Option<f64> {
        if !self.is_comparable(other) {
            return None;
        }
        let (from, to) = (self.projection_for(other), other.projection_for(self));
        let pairs = || from.iter().zip(to.iter()).map(|(from, to)| to - from);
        let largest = pairs().fold(0.0_f64, |largest, value| {
            // Unlike `f64::max`, this keeps NaN.
            if value.abs() <= largest { largest } else { value.abs() }
        });
        if largest == 0.0 {
            return Some(0.0);
        }
        if !largest.is_finite() {
            return Some(f64::NAN);
        }
        let squares: f64 = pairs().map(|value| (value / largest) * (value / largest)).sum();
        Some(largest * squares.sqrt())
    }

    /// An estimate of ‖other − self‖ / ‖self‖: zero if nothing differs, infinite if this tensor is zero and the other
    /// is not, NaN if a number left the range of `f64`.
    ///
    /// For any two tensors the estimate is within 25 % of the true number in more than 95 % of all seeds.
    pub fn relative_l2(&self, other: &Sketch) -> Option<f64> {
        let difference = self.difference_l2(other)?;
        let length = self.l2.unwrap_or(f64::NAN);
        Some(if difference == 0.0 { 0.0 } else { difference / length })
    }

    /// An estimate of the cosine of the angle between both tensors: one if nothing differs, zero if one is zero.
    ///
    /// It comes from both lengths, which are known, and from that of the difference: what it is off from one is within
    /// some 40 % of the true number where the difference is small.
    pub fn cosine(&self, other: &Sketch) -> Option<f64> {
        let difference = self.difference_l2(other)?;
        let (from, to) = (self.l2.unwrap_or(f64::NAN), other.l2.unwrap_or(f64::NAN));
        Some(if difference == 0.0 {
            1.0
        } else if from == 0.0 || to == 0.0 {
            0.0
        } else {
            // Of the law of cosines, with every length relative to the first: cos = (1 + t² − d²) / 2t.
            let (to, difference) = (to / from, difference / from);
            ((1.0 + to * to - difference * difference) / (2.0 * to)).clamp(-1.0, 1.0)
        })
    }
}
