//! The report for machines: `diff-report`, version 1, which `docs/diff-report.md` describes.

mod answer;
mod divergence;
mod entry;
mod number;
mod relation;

use std::borrow::Cow;

use serde::Serialize;

use super::format::Format;
use super::sentences;
use crate::result::{DiffReport, Side};
use answer::AnswerJson;
use divergence::DivergenceJson;
use entry::EntryJson;
use measure::tolerance::Preset;
use number::Number;
use relation::RelationJson;

/// JSON.
pub(super) const FORMAT: Format = Format {
    name: "json",
    extension: "json",
    is_report: |head| head.starts_with("{\n  \"format\": \"diff-report\""),
    render: |report, _| render(report),
};

fn render(report: &DiffReport) -> String {
    // These types have string keys and no fallible parts, so the fallback is never taken.
    let document = serde_json::to_string_pretty(&Document::of(report)).unwrap_or_default();
    cli::escape::json(&document) + "\n"
}

#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    version: u64,
    tool: Tool,
    verdict: &'static str,
    golden: SideJson<'a>,
    candidate: SideJson<'a>,
    preset: Option<&'static str>,
    policy: Option<String>,
    noise: Option<NoiseJson>,
    names: Option<&'a str>,
    data_flow: &'static str,
    relation: Option<RelationJson>,
    hashes_verified: bool,
    first_divergence: Option<DivergenceJson<'a>>,
    summary: SummaryJson<'a>,
    answer: AnswerJson<'a>,
    notes: Vec<String>,
    not_recorded: Vec<Cow<'a, str>>,
    entries: Vec<EntryJson<'a>>,
}

#[derive(Serialize)]
struct NoiseJson {
    runs: Vec<String>,
    factor: Number,
}

#[derive(Serialize)]
struct Tool {
    name: &'static str,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'static str>,
}

#[derive(Serialize)]
struct SideJson<'a> {
    path: String,
    producer: &'a str,
    dtype: &'a str,
    device: Option<&'a str>,
    checkpoint: Option<&'a str>,
    entries: usize,
}

#[derive(Serialize)]
struct SummaryJson<'a> {
    entries: usize,
    passed: usize,
    failed: usize,
    ignored: usize,
    bit_equal: usize,
    fresh: usize,
    worst_relative_l2: Option<WorstJson<'a>>,
}

#[derive(Serialize)]
struct WorstJson<'a> {
    name: Cow<'a, str>,
    value: Option<Number>,
}

impl<'a> Document<'a> {
    fn of(report: &'a DiffReport) -> Self {
        let summary = report.summary();
        Document {
            format: "diff-report",
            version: 1,
            tool: Tool { name: "nvl-validate", version: env!("CARGO_PKG_VERSION"), commit: cli::COMMIT },
            verdict: if report.passes() { "pass" } else { "fail" },
            golden: SideJson::of(&report.golden),
            candidate: SideJson::of(&report.candidate),
            preset: report.preset.map(Preset::name),
            policy: report.policy.as_ref().map(|path| path.display().to_string()),
            noise: report.noise.as_ref().map(|noise| NoiseJson {
                runs: noise.paths.iter().map(|path| path.display().to_string()).collect(),
                factor: Number(noise.factor),
            }),
            names: report.names.as_deref(),
            data_flow: report.data_flow.name(),
            relation: report.relation.as_ref().map(RelationJson::of),
            hashes_verified: report.verified,
            first_divergence: report
                .first_divergence()
                .map(|divergence| DivergenceJson::of(report, divergence)),
            summary: SummaryJson {
                entries: summary.entries,
                passed: summary.passed,
                failed: summary.failed,
                ignored: summary.ignored,
                bit_equal: summary.bit_equal,
                fresh: summary.fresh,
                worst_relative_l2: summary.worst_relative_l2.map(|index| WorstJson {
                    name: report.entries[index].entry.key(),
                    value: report.entries[index].measurement.as_ref().and_then(|m| m.relative_l2).map(Number),
                }),
            },
            answer: AnswerJson::of(&report.answer),
            notes: report.notes.iter().map(|note| sentences::note(report, note)).collect(),
            not_recorded: report.not_recorded().map(|entry| entry.entry.key()).collect(),
            entries: report.entries.iter().map(|entry| EntryJson::of(report, entry)).collect(),
        }
    }
}

impl<'a> SideJson<'a> {
    fn of(side: &'a Side) -> Self {
        SideJson {
            path: side.path.display().to_string(),
            producer: &side.producer,
            dtype: &side.dtype,
            device: side.device.as_deref(),
            checkpoint: side.checkpoint.as_deref(),
            entries: side.entries,
        }
    }
}
