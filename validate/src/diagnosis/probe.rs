//! What a diagnosis is given: a site that both dumps have, and what is around it.

use std::sync::OnceLock;

use golden::{Dump, TensorView};
use measure::origin::Step;

use super::attention_core::Variant;
use super::case::Case;
use super::explanation::{Explanation, Value};
use super::layout::Layout;
use super::roles::SiteRole;
use crate::entry::EntryReport;
use crate::names::Pairing;

/// The site of an error.
pub(crate) struct Probe<'a> {
    pub(super) golden: &'a Dump,
    pub(super) pairing: &'a Pairing<'a>,
    /// All entries of the comparison.
    pub(super) entries: &'a [EntryReport],
    pub(super) entry: &'a EntryReport,
    /// The golden tensor and the candidate's, in the golden layout.
    pub(super) tensors: [TensorView<'a>; 2],
    /// Both row by row; `None` where their shapes differ.
    pub(super) case: Option<Case<'a>>,
    pub(super) layout: Layout,
    /// The ways to compute an attention that the diagnoses know, each with the name of its diagnosis.
    pub(super) variants: Vec<(&'static str, &'static Variant)>,
    /// The best of them: they are tried together, and once.
    pub(super) attention: OnceLock<Option<(&'static str, Explanation)>>,
}

impl Probe<'_> {
    /// What the site is for.
    pub(super) fn role(&self) -> Option<SiteRole> {
        self.entry.site_role
    }

    pub(super) fn has_case(&self) -> bool {
        self.case.is_some()
    }

    pub(super) fn is_step(&self, step: Step) -> bool {
        self.entry.origin.step == step
    }

    /// The entries that the module computes from.
    pub(super) fn inputs(&self) -> Vec<&EntryReport> {
        self.entry.origin.inputs.iter().map(|&input| &self.entries[input]).collect()
    }

    /// An explanation, if what it leaves of the error is explained by rounding.
    pub(super) fn explain(
        &self,
        pattern: &'static str,
        values: Vec<Value>,
        after: f64,
    ) -> Option<Explanation> {
        let case = self.case.as_ref()?;
        case.explains(after).then(|| self.tested(pattern, values, after))
    }

    /// An explanation that the diagnosis itself has tested.
    pub(super) fn tested(&self, pattern: &'static str, values: Vec<Value>, after: f64) -> Explanation {
        let before = self.case.as_ref().map_or(f64::INFINITY, |case| case.error);
        Explanation { pattern, values, before, after }
    }
}
