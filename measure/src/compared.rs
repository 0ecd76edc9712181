//! An entry as it was compared, before anything is known of where its error comes from.

use golden::Entry;

use crate::metric::{Measurement, RowError};
use crate::tolerance::Tolerance;

/// An entry, and how far a candidate is from it.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// The golden entry.
    pub entry: &'a Entry,
    /// How far the candidate is off; `None` if one side lacks the entry, or has it in another shape or dtype.
    pub measurement: Option<&'a Measurement>,
    /// What it is held to.
    pub tolerance: &'a Tolerance,
    /// Whether it is held to the noise of right runs.
    pub by_noise: bool,
}

impl<'a> Compared<'a> {
    /// The error of each row; none where nothing differs, or nothing was measured row by row.
    pub(crate) fn rows(&self) -> &'a [RowError] {
        self.measurement.map_or(&[], |measurement| &measurement.rows)
    }
}
