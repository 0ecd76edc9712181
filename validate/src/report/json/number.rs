//! Numbers and reasons as JSON has them.

use measure::tolerance::Verdict;
use serde::{Serialize, Serializer};

use crate::report::sentences;

/// A number that JSON may lack: NaN and the infinities are the strings `NaN`, `Infinity` and `-Infinity`.
#[derive(Clone, Copy)]
pub(super) struct Number(pub(super) f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_finite() => serializer.serialize_f64(value),
            value if value.is_nan() => serializer.serialize_str("NaN"),
            value if value > 0.0 => serializer.serialize_str("Infinity"),
            _ => serializer.serialize_str("-Infinity"),
        }
    }
}

/// Why an entry is not judged or does not pass.
pub(super) fn reason(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Pass => None,
        Verdict::Ignored { reason } => Some(reason.clone()),
        Verdict::Fail(failure) => Some(sentences::failure(failure)),
    }
}
