//! Made or passed on.

use crate::model::Step;
use crate::tolerance::Excess;

/// Where an entry's error comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Made or passed on.
    pub kind: OriginKind,
    /// What the module does.
    pub step: Step,
    /// The indices of the entries that the module computes from.
    pub inputs: Vec<usize>,
    /// What the module's own rounding explains, relative to the length of the tensor; `None` where nothing was compared.
    pub rounding: Option<f64>,
    /// By what an error is beyond what rounding and the inputs explain.
    pub excess: Option<Excess>,
}

/// Made here or passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginKind {
    /// There is no error.
    Equal,
    /// The inputs are equal, and rounding explains the error.
    Rounding,
    /// The inputs differ, and their error with some rounding explains the output's.
    Inherited,
    /// The module made the error: neither its inputs nor rounding explain it.
    Fresh,
    /// It cannot be determined: one side lacks the entry, or has it in another shape or dtype.
    Unknown,
}

impl OriginKind {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            OriginKind::Equal => "equal",
            OriginKind::Rounding => "rounding",
            OriginKind::Inherited => "inherited",
            OriginKind::Fresh => "fresh",
            OriginKind::Unknown => "unknown",
        }
    }
}

impl Origin {
    pub(super) fn of(kind: OriginKind, step: Step, inputs: Vec<usize>) -> Self {
        Origin { kind, step, inputs, rounding: None, excess: None }
    }

    /// Whether the module made the error.
    pub fn is_fresh(&self) -> bool {
        self.kind == OriginKind::Fresh
    }
}
