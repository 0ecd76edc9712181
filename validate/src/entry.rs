//! What a comparison found of one entry.

use golden::Entry;
use measure::metric::Measurement;
use measure::model::SiteRole;
use measure::noise::Level;
use measure::origin::Origin;
use measure::tolerance::{Failure, Tolerance, Verdict};

use crate::names::Counterpart;

/// Why the weights of an attention may be missing on a side, where neither policy nor map has a reason of its own.
pub(crate) const OTHER_ATTENTION: &str = "not every attention returns its weights";

/// What was found of one entry.
#[derive(Debug, Clone)]
pub struct EntryReport {
    /// The entry: the golden one, or the candidate's if the golden dump has none. Its shape is that of the part that is
    /// compared, where a map leaves some of it out; with a relation it is whole.
    pub entry: Entry,
    /// The shape of the part that was compared.
    pub compared_shape: Vec<usize>,
    /// What its site is for, where the model's file says so or the data flow tells.
    pub site_role: Option<SiteRole>,
    /// Whether the golden dump has none, so that the entry and its order are the candidate's.
    pub only_candidate: bool,
    /// What it is held to.
    pub tolerance: Tolerance,
    /// How far it is off; `None` if one side lacks it, or its shapes or kinds of dtype differ.
    pub measurement: Option<Measurement>,
    /// The judgement.
    pub verdict: Verdict,
    /// Whether the module made the error or passed it on.
    pub origin: Origin,
    /// How far right runs are off at this site, where some were given.
    pub noise: Option<Level>,
    /// What stands for it in the candidate's dump; `None` if nothing does.
    pub counterpart: Option<Counterpart>,
}

impl EntryReport {
    /// Whether the entry is not a pass.
    pub fn is_failure(&self) -> bool {
        matches!(self.verdict, Verdict::Fail(_))
    }

    /// Whether one side lacks the entry.
    pub fn is_unpaired(&self) -> bool {
        matches!(self.verdict, Verdict::Fail(Failure::Missing | Failure::Extra))
    }

    /// Whether one side lacks the entry as its attention returns no weights, which is no fault.
    pub fn is_other_attention(&self) -> bool {
        matches!(&self.verdict, Verdict::Ignored { reason } if reason == OTHER_ATTENTION)
    }

    /// Whether the bytes are equal.
    pub fn is_bit_equal(&self) -> bool {
        self.measurement.as_ref().is_some_and(|measurement| measurement.bit_equal)
    }
}
