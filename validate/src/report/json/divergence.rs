//! The first divergence, with what was found there.

use std::borrow::Cow;

use serde::Serialize;

use super::number::{Number, reason};
use crate::diagnosis::Finding;
use crate::report::explanation::explanation;
use crate::report::place::place;
use crate::report::sentences;
use crate::result::{DiffReport, Divergence};

#[derive(Serialize)]
pub(super) struct DivergenceJson<'a> {
    kind: &'static str,
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    order: Option<u64>,
    module: Option<&'a str>,
    reason: String,
    last_agreement: Option<Cow<'a, str>>,
    places: Vec<String>,
    diagnoses: Vec<DiagnosisJson>,
}

#[derive(Serialize)]
struct DiagnosisJson {
    mistake: &'static str,
    text: String,
    before: Number,
    after: Number,
}

impl<'a> DivergenceJson<'a> {
    pub(super) fn of(report: &'a DiffReport, divergence: Divergence) -> Self {
        let answer = |kind, reason| DivergenceJson {
            kind,
            name: None,
            step: None,
            order: None,
            module: None,
            reason,
            last_agreement: None,
            places: Vec::new(),
            diagnoses: Vec::new(),
        };
        match divergence {
            Divergence::Prompt => {
                let found = report.findings.iter().flat_map(|findings| &findings.diagnoses);
                DivergenceJson {
                    diagnoses: found.map(DiagnosisJson::of).collect(),
                    ..answer("prompt", sentences::text("prompt", &report.answer.prompt))
                }
            }
            Divergence::GeneratedIds => answer("generated_ids", sentences::ids(&report.answer.generated_ids)),
            Divergence::Text => answer("text", sentences::text("text", &report.answer.text)),
            Divergence::Entry(index) => {
                let entry = &report.entries[index];
                let last = report.last_agreement_before(index);
                let findings = report.findings.as_ref().filter(|findings| findings.index == index);
                DivergenceJson {
                    kind: "entry",
                    name: Some(&entry.entry.name),
                    step: Some(entry.entry.step).filter(|&step| step > 0),
                    order: Some(entry.entry.order),
                    module: Some(&entry.entry.module),
                    reason: reason(&entry.verdict).unwrap_or_default(),
                    last_agreement: last.map(|last| last.entry.key()),
                    places: findings.iter().flat_map(|f| &f.places).map(place).collect(),
                    diagnoses: findings.iter().flat_map(|f| &f.diagnoses).map(DiagnosisJson::of).collect(),
                }
            }
        }
    }
}

impl DiagnosisJson {
    fn of(finding: &Finding) -> Self {
        DiagnosisJson {
            mistake: finding.kind.name(),
            text: explanation(&finding.explanation),
            before: Number(finding.explanation.before),
            after: Number(finding.explanation.after),
        }
    }
}
