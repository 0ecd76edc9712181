//! Compares what was asked as text and what was answered.

use golden::{Dump, Manifest};

use crate::logits::{self, Gap, LogitsReport};
use measure::tolerance::AnswerPolicy;

/// The prompt, the generated ids and the text of two dumps, compared.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerReport {
    /// The prompt's text.
    pub prompt: Comparison<TextDifference>,
    /// The generated token ids.
    pub generated_ids: Comparison<IdDifference>,
    /// The answer's text.
    pub text: Comparison<TextDifference>,
    /// The logits that chose each token, if both dumps have them in full; they are told and decide nothing.
    pub logits: Option<LogitsReport>,
}

/// How one of them compares.
#[derive(Debug, Clone, PartialEq)]
pub enum Comparison<Difference> {
    /// Both are equal.
    Equal,
    /// They are not compared.
    Skipped(Skipped),
    /// The golden dump has it and the candidate does not.
    Missing,
    /// They differ.
    Differs(Difference),
}

impl<Difference> Comparison<Difference> {
    /// Whether it speaks against the candidate.
    pub fn is_failure(&self) -> bool {
        matches!(self, Comparison::Missing | Comparison::Differs(_))
    }
}

/// Why something is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// The golden dump has none.
    NotInGolden,
    /// The policy says so.
    Policy,
    /// The map of names says so: the engine has none.
    Names,
    /// With a relation: the tokens are aligned by their ids, or the answer is one of several requests'.
    Relation,
    /// The candidate says that it generated nothing: its `request.max_new_tokens` is 0.
    NothingGenerated,
    /// At least one side drew its tokens by chance.
    Sampled,
}

/// Where two texts part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextDifference {
    /// The number of characters that both begin with.
    pub position: usize,
    /// The golden text.
    pub golden: String,
    /// The candidate's.
    pub candidate: String,
}

/// Where two sequences of token ids part.
#[derive(Debug, Clone, PartialEq)]
pub struct IdDifference {
    /// The number of ids that both begin with.
    pub position: usize,
    /// The golden ids.
    pub golden: Vec<i64>,
    /// The candidate's.
    pub candidate: Vec<i64>,
    /// How far apart both ids are in logits, if the golden run kept them.
    pub gap: Option<Gap>,
    /// The texts of both ids where they part, the golden one first, as far as they are known.
    pub texts: [Option<String>; 2],
}

impl IdDifference {
    /// What the golden run chose where they part; `None` if it had ended.
    pub fn expected(&self) -> Option<i64> {
        self.golden.get(self.position).copied()
    }

    /// What the candidate chose there; `None` if it had ended.
    pub fn found(&self) -> Option<i64> {
        self.candidate.get(self.position).copied()
    }
}

/// Whether a run says that it generated nothing, and so has no answer and no logits of one.
pub(crate) fn generated_nothing(manifest: &Manifest) -> bool {
    manifest.request.as_ref().is_some_and(|request| request.max_new_tokens == Some(0))
}

/// Compares the texts and ids of two dumps; `left` is what a map of names or a relation leaves to compare, with the reason for the
/// rest.
pub(crate) fn compare(
    golden: &Dump,
    candidate: &Dump,
    policy: AnswerPolicy,
    left: Option<(AnswerPolicy, Skipped)>,
) -> AnswerReport {
    let (from, to) = (golden.manifest(), candidate.manifest());
    let sampled = |manifest: &Manifest| manifest.request.as_ref().is_some_and(|r| r.do_sample == Some(true));
    let no_answer = if generated_nothing(to) {
        Some(Skipped::NothingGenerated)
    } else if sampled(from) || sampled(to) {
        Some(Skipped::Sampled)
    } else {
        None
    };
    let (left, left_out) = left.unwrap_or((AnswerPolicy::default(), Skipped::Names));
    let skipped = |by_policy: bool, is_left: bool, reason: Option<Skipped>| match (by_policy, is_left) {
        (false, _) => Some(Skipped::Policy),
        (true, false) => Some(left_out),
        (true, true) => reason,
    };
    let text = |from: &String, to: &String| TextDifference {
        position: from.chars().zip(to.chars()).take_while(|(a, b)| a == b).count(),
        golden: from.clone(),
        candidate: to.clone(),
    };
    let ids = |from: &Vec<i64>, to: &Vec<i64>| {
        let position = agreeing(from, to);
        let parted = from.get(position).zip(to.get(position));
        let gap = parted.and_then(|(&g, &c)| logits::gap(golden, candidate, position, g, c));
        IdDifference { position, golden: from.clone(), candidate: to.clone(), gap, texts: [None, None] }
    };
    let parted = from.generated_ids.as_ref().zip(to.generated_ids.as_ref()).and_then(|(from, to)| {
        let position = agreeing(from, to);
        (position < from.len().min(to.len())).then_some(position)
    });
    AnswerReport {
        logits: logits::compare(golden, candidate, parted),
        prompt: pair(&from.prompt, &to.prompt, skipped(policy.prompt, left.prompt, None), text),
        generated_ids: pair(
            &from.generated_ids,
            &to.generated_ids,
            skipped(policy.generated_ids, left.generated_ids, no_answer),
            ids,
        ),
        text: pair(&from.text, &to.text, skipped(policy.text, left.text, no_answer), text),
    }
}

/// How many ids are the same from the first on.
fn agreeing(from: &[i64], to: &[i64]) -> usize {
    from.iter().zip(to).take_while(|(a, b)| a == b).count()
}

fn pair<T: PartialEq, Difference>(
    golden: &Option<T>,
    candidate: &Option<T>,
    skipped: Option<Skipped>,
    difference: impl FnOnce(&T, &T) -> Difference,
) -> Comparison<Difference> {
    match (skipped, golden, candidate) {
        (Some(reason), _, _) => Comparison::Skipped(reason),
        (None, None, _) => Comparison::Skipped(Skipped::NotInGolden),
        (None, Some(_), None) => Comparison::Missing,
        (None, Some(golden), Some(candidate)) if golden == candidate => Comparison::Equal,
        (None, Some(golden), Some(candidate)) => Comparison::Differs(difference(golden, candidate)),
    }
}
