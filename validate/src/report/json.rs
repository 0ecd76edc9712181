//! The report for machines: `diff-report`, version 1, which `docs/diff-report.md` describes.

use golden::Role;
use serde::{Serialize, Serializer};

use super::{Format, words};
use crate::answer::{Comparison, IdDifference, Skipped, TextDifference};
use crate::diagnosis::Diagnosis;
use crate::diff::{DiffReport, Divergence, EntryReport, Side};
use crate::logits::{LogitsReport, TOP};
use crate::metric::{Difference, Measurement, NonFinite};
use crate::origin::Excess;
use crate::tolerance::{Failure, Metric, Preset, Tolerance, Verdict};

/// Renders JSON.
pub(super) struct Json;

impl Format for Json {
    fn extension(&self) -> &'static str {
        "json"
    }

    fn render(&self, report: &DiffReport) -> String {
        // These types have string keys and no fallible parts, so the fallback is never taken.
        let mut text = serde_json::to_string_pretty(&Document::of(report)).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// A number that JSON may lack: NaN and the infinities are the strings `NaN`, `Infinity` and `-Infinity`.
#[derive(Clone, Copy)]
struct Number(f64);

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
    hashes_verified: bool,
    first_divergence: Option<DivergenceJson<'a>>,
    summary: SummaryJson<'a>,
    answer: AnswerJson<'a>,
    notes: Vec<String>,
    not_recorded: Vec<&'a str>,
    entries: Vec<EntryJson<'a>>,
}

#[derive(Serialize)]
struct NoiseJson {
    runs: Vec<String>,
    factor: Number,
}

#[derive(Serialize)]
struct LevelJson {
    relative_l2: Number,
    row_relative_l2: Option<Number>,
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
struct DivergenceJson<'a> {
    kind: &'static str,
    name: Option<&'a str>,
    order: Option<u64>,
    module: Option<&'a str>,
    reason: String,
    last_agreement: Option<&'a str>,
    places: Vec<&'a str>,
    diagnoses: Vec<DiagnosisJson<'a>>,
}

#[derive(Serialize)]
struct DiagnosisJson<'a> {
    mistake: &'static str,
    text: &'a str,
    before: Number,
    after: Number,
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
    name: &'a str,
    value: Option<Number>,
}

#[derive(Serialize)]
struct AnswerJson<'a> {
    prompt: ComparisonJson<TextJson<'a>>,
    generated_ids: ComparisonJson<IdsJson<'a>>,
    text: ComparisonJson<TextJson<'a>>,
    logits: Option<LogitsJson>,
}

#[derive(Serialize)]
struct LogitsJson {
    agreement: Option<TopJson<Number>>,
    mean_kl_divergence: Option<Number>,
    left_out: usize,
    steps: Vec<StepJson>,
}

/// Of the 1, 5 and 10 largest logits.
#[derive(Serialize)]
struct TopJson<T> {
    top_1: T,
    top_5: T,
    top_10: T,
}

#[derive(Serialize)]
struct StepJson {
    position: usize,
    common: TopJson<usize>,
    kl_divergence: Number,
}

#[derive(Serialize)]
struct ComparisonJson<Difference> {
    verdict: &'static str,
    reason: Option<&'static str>,
    difference: Option<Difference>,
}

#[derive(Serialize)]
struct TextJson<'a> {
    position: usize,
    golden: &'a str,
    candidate: &'a str,
}

#[derive(Serialize)]
struct IdsJson<'a> {
    position: usize,
    golden_margin: Option<Number>,
    golden_rank: Option<usize>,
    candidate_margin: Option<Number>,
    golden_text: Option<&'a str>,
    candidate_text: Option<&'a str>,
    positions: Vec<PositionJson>,
}

#[derive(Serialize)]
struct PositionJson {
    golden: Option<i64>,
    candidate: Option<i64>,
    equal: bool,
}

#[derive(Serialize)]
struct EntryJson<'a> {
    order: u64,
    name: &'a str,
    role: Role,
    module: &'a str,
    dtype: &'static str,
    shape: &'a [usize],
    verdict: &'static str,
    reason: Option<String>,
    failure: Option<FailureJson<'a>>,
    tolerance: ToleranceJson,
    measurement: Option<MeasurementJson<'a>>,
    origin: OriginJson<'a>,
    noise: Option<LevelJson>,
    counterpart: Option<CounterpartJson<'a>>,
}

#[derive(Serialize)]
struct CounterpartJson<'a> {
    tensors: &'a [String],
    rule: Option<RuleJson<'a>>,
    layout: &'a [String],
    compared_shape: &'a [usize],
}

#[derive(Serialize)]
struct RuleJson<'a> {
    map: &'a str,
    index: usize,
}

#[derive(Serialize)]
struct OriginJson<'a> {
    kind: &'static str,
    inputs: Vec<&'a str>,
    excess: Option<ExcessJson>,
}

#[derive(Serialize)]
struct ExcessJson {
    metric: &'static str,
    row: Option<usize>,
    limit: Number,
    found: Number,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum FailureJson<'a> {
    Missing,
    Extra,
    Dtype { expected: &'static str, found: &'static str },
    Shape { expected: &'a [usize], found: &'a [usize] },
    NonFinite { mismatches: Option<usize> },
    Unequal { differing: Option<usize>, elements: usize },
    Exceeded { metric: &'static str, limit: Number, found: Number },
    Fresh(ExcessJson),
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum ToleranceJson {
    Exact,
    Ignored,
    Bounds {
        relative_l2: Option<Number>,
        row_relative_l2: Option<Number>,
        max_abs: Option<Number>,
        max_ulps: Option<u64>,
        cosine: Option<Number>,
    },
}

#[derive(Serialize)]
struct MeasurementJson<'a> {
    elements: usize,
    estimated: bool,
    bit_equal: bool,
    differing: Option<usize>,
    relative_l2: Option<Number>,
    row_relative_l2: Option<Number>,
    max_abs: Option<Number>,
    max_ulps: Option<u64>,
    cosine: Option<Number>,
    first: Option<DifferenceJson<'a>>,
    largest: Option<DifferenceJson<'a>>,
    golden: NonFiniteJson,
    candidate: NonFiniteJson,
    non_finite_mismatches: Option<usize>,
    first_non_finite_mismatch: Option<DifferenceJson<'a>>,
}

#[derive(Serialize)]
struct DifferenceJson<'a> {
    index: &'a [usize],
    golden: Number,
    candidate: Number,
}

#[derive(Serialize)]
struct NonFiniteJson {
    nan: usize,
    inf: usize,
}

impl<'a> Document<'a> {
    fn of(report: &'a DiffReport) -> Self {
        let summary = report.summary();
        Document {
            format: "diff-report",
            version: 1,
            tool: Tool { name: "nvl-validate", version: env!("CARGO_PKG_VERSION"), commit: release::COMMIT },
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
                    name: &report.entries[index].entry.name,
                    value: report.entries[index].measurement.as_ref().and_then(|m| m.relative_l2).map(Number),
                }),
            },
            answer: AnswerJson {
                prompt: text(&report.answer.prompt),
                generated_ids: comparison(&report.answer.generated_ids, IdsJson::of),
                text: text(&report.answer.text),
                logits: report.answer.logits.as_ref().map(LogitsJson::of),
            },
            notes: report.notes.iter().map(|note| words::note(report, note)).collect(),
            not_recorded: report.not_recorded().map(|entry| entry.entry.name.as_str()).collect(),
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

impl<'a> DivergenceJson<'a> {
    fn of(report: &'a DiffReport, divergence: Divergence) -> Self {
        let answer = |kind, reason| DivergenceJson {
            kind,
            name: None,
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
                    ..answer("prompt", words::text("prompt", &report.answer.prompt))
                }
            }
            Divergence::GeneratedIds => answer("generated_ids", words::ids(&report.answer.generated_ids)),
            Divergence::Text => answer("text", words::text("text", &report.answer.text)),
            Divergence::Entry(index) => {
                let entry = &report.entries[index];
                let last = report.last_agreement_before(index);
                let findings = report.findings.as_ref().filter(|findings| findings.index == index);
                DivergenceJson {
                    kind: "entry",
                    name: Some(&entry.entry.name),
                    order: Some(entry.entry.order),
                    module: Some(&entry.entry.module),
                    reason: reason(&entry.verdict).unwrap_or_default(),
                    last_agreement: last.map(|last| last.entry.name.as_str()),
                    places: findings.iter().flat_map(|f| &f.places).map(String::as_str).collect(),
                    diagnoses: findings.iter().flat_map(|f| &f.diagnoses).map(DiagnosisJson::of).collect(),
                }
            }
        }
    }
}

impl<'a> DiagnosisJson<'a> {
    fn of(diagnosis: &'a Diagnosis) -> Self {
        DiagnosisJson {
            mistake: diagnosis.mistake.name(),
            text: &diagnosis.text,
            before: Number(diagnosis.before),
            after: Number(diagnosis.after),
        }
    }
}

impl<T> TopJson<T> {
    fn of([top_1, top_5, top_10]: [T; TOP.len()]) -> Self {
        TopJson { top_1, top_5, top_10 }
    }
}

impl LogitsJson {
    fn of(logits: &LogitsReport) -> Self {
        let agreement: Vec<f64> = (0..TOP.len()).filter_map(|place| logits.agreement(place)).collect();
        let agreement: Option<[f64; TOP.len()]> = agreement.try_into().ok();
        LogitsJson {
            agreement: agreement.map(|agreement| TopJson::of(agreement.map(Number))),
            mean_kl_divergence: logits.mean_kl_divergence().map(Number),
            left_out: logits.left_out,
            steps: logits
                .steps
                .iter()
                .enumerate()
                .map(|(position, step)| StepJson {
                    position,
                    common: TopJson::of(step.common),
                    kl_divergence: Number(step.kl_divergence),
                })
                .collect(),
        }
    }
}

impl<'a> IdsJson<'a> {
    fn of(difference: &'a IdDifference) -> Self {
        let (golden, candidate) = (&difference.golden, &difference.candidate);
        let positions = (0..golden.len().max(candidate.len())).map(|position| {
            let (golden, candidate) = (golden.get(position).copied(), candidate.get(position).copied());
            PositionJson { golden, candidate, equal: golden == candidate }
        });
        IdsJson {
            position: difference.position,
            golden_margin: difference.gap.map(|gap| Number(gap.golden)),
            golden_rank: difference.gap.map(|gap| gap.golden_rank),
            candidate_margin: difference.gap.and_then(|gap| gap.candidate).map(Number),
            golden_text: difference.texts[0].as_deref(),
            candidate_text: difference.texts[1].as_deref(),
            positions: positions.collect(),
        }
    }
}

impl<'a> EntryJson<'a> {
    fn of(whole: &'a DiffReport, report: &'a EntryReport) -> Self {
        let entry = &report.entry;
        let origin = &report.origin;
        EntryJson {
            order: entry.order,
            name: &entry.name,
            role: entry.role,
            module: &entry.module,
            dtype: entry.dtype.name(),
            shape: report
                .counterpart
                .as_ref()
                .map_or(&entry.shape, |counterpart| &counterpart.recorded_shape),
            verdict: match report.verdict {
                Verdict::Pass => "pass",
                Verdict::Ignored { .. } => "ignored",
                Verdict::Fail(_) => "fail",
            },
            reason: reason(&report.verdict),
            failure: match &report.verdict {
                Verdict::Fail(failure) => Some(FailureJson::of(failure)),
                _ => None,
            },
            tolerance: ToleranceJson::of(&report.tolerance),
            measurement: report.measurement.as_ref().map(MeasurementJson::of),
            origin: OriginJson {
                kind: origin.kind.name(),
                inputs: origin.inputs.iter().map(|&input| whole.entries[input].entry.name.as_str()).collect(),
                excess: origin.excess.as_ref().map(ExcessJson::of),
            },
            noise: report.noise.as_ref().map(|level| LevelJson {
                relative_l2: Number(level.relative_l2),
                row_relative_l2: level.row_relative_l2.map(Number),
            }),
            counterpart: report.counterpart.as_ref().map(|counterpart| CounterpartJson {
                tensors: &counterpart.tensors,
                rule: counterpart.rule.as_ref().map(|rule| RuleJson { map: &rule.map, index: rule.index }),
                layout: &counterpart.layout,
                compared_shape: &entry.shape,
            }),
        }
    }
}

impl ExcessJson {
    fn of(excess: &Excess) -> Self {
        ExcessJson {
            metric: excess.metric.name(),
            row: excess.row,
            limit: Number(excess.limit),
            found: Number(excess.found),
        }
    }
}

impl<'a> FailureJson<'a> {
    fn of(failure: &'a Failure) -> Self {
        match failure {
            Failure::Missing => FailureJson::Missing,
            Failure::Extra => FailureJson::Extra,
            Failure::Dtype { expected, found } => {
                FailureJson::Dtype { expected: expected.name(), found: found.name() }
            }
            Failure::Shape { expected, found } => FailureJson::Shape { expected, found },
            Failure::NonFinite { mismatches } => FailureJson::NonFinite { mismatches: *mismatches },
            Failure::Unequal { differing, elements } => {
                FailureJson::Unequal { differing: *differing, elements: *elements }
            }
            Failure::Exceeded { metric, limit, found } => {
                FailureJson::Exceeded { metric: metric.name(), limit: Number(*limit), found: Number(*found) }
            }
            Failure::Fresh(excess) => FailureJson::Fresh(ExcessJson::of(excess)),
        }
    }
}

impl ToleranceJson {
    fn of(tolerance: &Tolerance) -> Self {
        match tolerance {
            Tolerance::Exact => ToleranceJson::Exact,
            Tolerance::Ignored { .. } => ToleranceJson::Ignored,
            Tolerance::Bounds(bounds) => ToleranceJson::Bounds {
                relative_l2: bounds.relative_l2.map(Number),
                row_relative_l2: bounds.row_relative_l2.map(Number),
                max_abs: bounds.max_abs.map(Number),
                max_ulps: bounds.max_ulps,
                cosine: bounds.cosine.map(Number),
            },
        }
    }
}

impl<'a> MeasurementJson<'a> {
    fn of(measurement: &'a Measurement) -> Self {
        MeasurementJson {
            elements: measurement.elements,
            estimated: measurement.estimated,
            bit_equal: measurement.bit_equal,
            differing: measurement.differing,
            relative_l2: measurement.relative_l2.map(Number),
            row_relative_l2: measurement.row_relative_l2.map(Number),
            max_abs: Metric::MaxAbs.of(measurement).map(Number),
            max_ulps: measurement.max_ulps,
            cosine: measurement.cosine.map(Number),
            first: measurement.first.as_ref().map(DifferenceJson::of),
            largest: measurement.largest.as_ref().map(DifferenceJson::of),
            golden: NonFiniteJson::of(measurement.golden),
            candidate: NonFiniteJson::of(measurement.candidate),
            non_finite_mismatches: Some(measurement.non_finite_mismatches)
                .filter(|&mismatches| mismatches == 0 || !measurement.estimated),
            first_non_finite_mismatch: measurement.first_non_finite_mismatch.as_ref().map(DifferenceJson::of),
        }
    }
}

impl<'a> DifferenceJson<'a> {
    fn of(difference: &'a Difference) -> Self {
        DifferenceJson {
            index: &difference.index,
            golden: Number(difference.golden),
            candidate: Number(difference.candidate),
        }
    }
}

impl NonFiniteJson {
    fn of(counts: NonFinite) -> Self {
        NonFiniteJson { nan: counts.nan, inf: counts.inf }
    }
}

/// Why an entry is not judged or does not pass.
fn reason(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Pass => None,
        Verdict::Ignored { reason } => Some(reason.clone()),
        Verdict::Fail(failure) => Some(words::failure(failure)),
    }
}

fn text(of: &Comparison<TextDifference>) -> ComparisonJson<TextJson<'_>> {
    comparison(of, |difference| TextJson {
        position: difference.position,
        golden: &difference.golden,
        candidate: &difference.candidate,
    })
}

fn comparison<'a, D, J>(of: &'a Comparison<D>, json: impl FnOnce(&'a D) -> J) -> ComparisonJson<J> {
    let (verdict, reason, difference) = match of {
        Comparison::Equal => ("pass", None, None),
        Comparison::Missing => ("fail", Some("missing"), None),
        Comparison::Differs(difference) => ("fail", Some("differs"), Some(json(difference))),
        Comparison::Skipped(reason) => {
            let reason = match reason {
                Skipped::NotInGolden => "not_in_golden",
                Skipped::Policy => "policy",
                Skipped::Names => "names",
                Skipped::NothingGenerated => "nothing_generated",
                Skipped::Sampled => "sampled",
            };
            ("ignored", Some(reason), None)
        }
    };
    ComparisonJson { verdict, reason, difference }
}
