//! Prompt and answer, and the logits that chose it.

use serde::Serialize;

use super::number::Number;
use crate::answer::{AnswerReport, Comparison, IdDifference, Skipped, TextDifference};
use crate::logits::{LogitsReport, TOP};

#[derive(Serialize)]
pub(super) struct AnswerJson<'a> {
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

impl<'a> AnswerJson<'a> {
    pub(super) fn of(answer: &'a AnswerReport) -> Self {
        AnswerJson {
            prompt: text(&answer.prompt),
            generated_ids: comparison(&answer.generated_ids, IdsJson::of),
            text: text(&answer.text),
            logits: answer.logits.as_ref().map(LogitsJson::of),
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
                Skipped::Relation => "relation",
                Skipped::NothingGenerated => "nothing_generated",
                Skipped::Sampled => "sampled",
            };
            ("ignored", Some(reason), None)
        }
    };
    ComparisonJson { verdict, reason, difference }
}
