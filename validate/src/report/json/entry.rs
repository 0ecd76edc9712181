//! One entry: what it is held to, how far it is off, and where that comes from.

use std::borrow::Cow;

use golden::Role;
use serde::Serialize;

use super::number::{Number, reason};
use crate::entry::EntryReport;
use crate::result::DiffReport;
use measure::metric::{Difference, Measurement, NonFinite};
use measure::tolerance::{Excess, Failure, Metric, Tolerance, Verdict};

#[derive(Serialize)]
struct LevelJson {
    relative_l2: Number,
    row_relative_l2: Option<Number>,
}

#[derive(Serialize)]
pub(super) struct EntryJson<'a> {
    order: u64,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
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
    inputs: Vec<Cow<'a, str>>,
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

impl<'a> EntryJson<'a> {
    pub(super) fn of(whole: &'a DiffReport, report: &'a EntryReport) -> Self {
        let entry = &report.entry;
        let origin = &report.origin;
        EntryJson {
            order: entry.order,
            name: &entry.name,
            step: Some(entry.step).filter(|&step| step > 0),
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
                inputs: origin.inputs.iter().map(|&input| whole.entries[input].entry.key()).collect(),
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
                compared_shape: &report.compared_shape,
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
