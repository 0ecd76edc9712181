//! Sentences about prompt and answer.

use cli::counted;

use crate::answer::{Comparison, IdDifference, Skipped, TextDifference};
use crate::logits::{LogitsReport, StepReport, TOP};
use crate::report::numbers::{digits, short};
use crate::result::DiffReport;

/// How prompt and answer compare.
pub(in crate::report) fn answer(report: &DiffReport) -> Vec<String> {
    let answer = &report.answer;
    let mut lines =
        vec![text("prompt", &answer.prompt), ids(&answer.generated_ids), text("text", &answer.text)];
    lines.extend(answer.logits.as_ref().and_then(logits));
    lines
}

/// How the logits of the generated tokens compare; `None` if no step does.
pub(in crate::report) fn logits(logits: &LogitsReport) -> Option<String> {
    let agreements = TOP
        .iter()
        .enumerate()
        .map(|(place, k)| Some(format!("top {k} {}", percent(logits.agreement(place)?))));
    let agreements: Option<Vec<String>> = agreements.collect();
    let (worst, step) = logits.worst()?;
    let (count, mean) = (logits.steps.len(), logits.mean_kl_divergence()?);
    let steps = counted(count, "step");
    let equal = logits.steps.iter().all(|step| step.common == step.of && step.kl_divergence == 0.0);
    let mut text = if equal {
        format!("step logits: {steps}, the same probabilities")
    } else {
        format!(
            "step logits: {steps}, agreement {}; KL divergence {} on average, {} at most (position {worst})",
            agreements?.join(", "),
            short(mean),
            short(step.kl_divergence)
        )
    };
    if logits.left_out > 0 {
        text.push_str(&format!("; {} left out, because the ids before differ", logits.left_out));
    }
    Some(text)
}

/// A share in per cent, all of them only if it is.
pub(in crate::report) fn percent(share: f64) -> String {
    let tenths = (1000.0 * share).floor() / 10.0;
    format!("{tenths} %")
}

/// How many of the golden run's largest logits a step has among the candidate's: `10/10`.
pub(in crate::report) fn common(step: &StepReport) -> [String; TOP.len()] {
    std::array::from_fn(|place| format!("{}/{}", step.common[place], step.of[place]))
}

/// How two texts compare.
pub(in crate::report) fn text(name: &str, comparison: &Comparison<TextDifference>) -> String {
    match comparison {
        Comparison::Equal => format!("{name}: equal"),
        Comparison::Skipped(reason) => format!("{name}: not compared, {}", skipped(*reason)),
        Comparison::Missing => format!("{name}: expected one in the candidate's manifest, found none"),
        Comparison::Differs(difference) => {
            let [expected, found] = [&difference.golden, &difference.candidate].map(|text| {
                let tail: String = text.chars().skip(difference.position).take(24).collect();
                if tail.is_empty() { "its end".to_owned() } else { format!("{tail:?}") }
            });
            format!("{name}: at character {}: expected {expected}, found {found}", difference.position)
        }
    }
}

/// How much is shown of a text that parts from another: before the place, and from it on.
const HEAD: usize = 20;
const TAIL: usize = 44;

/// Both texts around the place where they part, which a bracket marks.
pub(in crate::report) fn text_lines(difference: &TextDifference) -> [String; 2] {
    let line = |name: &str, text: &str| {
        let all: Vec<char> = text.chars().collect();
        let (before, tail) = all.split_at(difference.position.min(all.len()));
        // From the place backwards, since what is nearest to it tells most.
        let (head, cut) = fitting(before.iter().rev().copied(), HEAD);
        let head: String = head.into_iter().rev().collect();
        let tail = shown(tail.iter().copied(), TAIL);
        let tail = if tail.is_empty() { "[end]".to_owned() } else { format!("[here]{tail}") };
        format!("{name:<10} {}{head}{tail}", if cut { "…" } else { "" })
    };
    [line("golden", &difference.golden), line("candidate", &difference.candidate)]
}

/// The beginning of a text as far as it fits, with image tokens in a row counted.
fn shown(text: impl Iterator<Item = char>, width: usize) -> String {
    let text: String = text.collect();
    let (shown, cut) = fitting(squeeze(&text).chars(), width);
    shown.concat() + if cut { "…" } else { "" }
}

/// The first characters, as they are shown, that fit a width, and whether there are more.
fn fitting(text: impl Iterator<Item = char>, width: usize) -> (Vec<String>, bool) {
    let (mut fitting, mut used) = (Vec::new(), 0);
    for c in text {
        let shown = if c == '\'' { c.to_string() } else { c.escape_debug().to_string() };
        used += shown.chars().count();
        if used > width {
            return (fitting, true);
        }
        fitting.push(shown);
    }
    (fitting, false)
}

/// A text whose hundreds of image tokens in a row are counted rather than shown.
pub(in crate::report) fn squeeze(text: &str) -> String {
    const TOKEN: &str = "<image>";
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(TOKEN) {
        out.push_str(&rest[..start]);
        let run = &rest[start..];
        let count = run.as_bytes().chunks(TOKEN.len()).take_while(|chunk| *chunk == TOKEN.as_bytes()).count();
        out.push_str(TOKEN);
        if count > 1 {
            out.push_str(&format!("×{count}"));
        }
        rest = &run[count * TOKEN.len()..];
    }
    out.push_str(rest);
    out
}

/// How two sequences of generated ids compare.
pub(in crate::report) fn ids(comparison: &Comparison<IdDifference>) -> String {
    match comparison {
        Comparison::Equal => "generated ids: equal".to_owned(),
        Comparison::Skipped(reason) => format!("generated ids: not compared, {}", skipped(*reason)),
        Comparison::Missing => {
            "generated ids: expected them in the candidate's manifest, found none".to_owned()
        }
        Comparison::Differs(difference) => {
            let [expected, found] = [difference.expected(), difference.found()];
            let id = |id: Option<i64>, text: &Option<String>| match (id, text) {
                (Some(id), Some(text)) => format!("{id} ({text:?})"),
                (Some(id), None) => id.to_string(),
                (None, _) => "the end".to_owned(),
            };
            let mut line = format!(
                "generated ids: at position {}: expected {}, found {}",
                difference.position,
                id(expected, &difference.texts[0]),
                id(found, &difference.texts[1])
            );
            if let Some(gap) = &difference.gap {
                line.push_str(&format!("; the golden logits preferred it by {}", digits(gap.golden)));
                line.push_str(&format!(" and have the other in place {}", gap.golden_rank));
                match gap.candidate {
                    Some(own) if own < 0.0 => {
                        line.push_str(&format!(", the candidate's preferred it too, by {}", digits(-own)));
                    }
                    Some(own) => {
                        line.push_str(&format!(", the candidate's preferred its own by {}", digits(own)));
                    }
                    None => (),
                }
            }
            line
        }
    }
}

/// The generated ids of both sides, position by position, as far as they need be shown.
pub(in crate::report) fn id_lines(difference: &IdDifference) -> [String; 2] {
    /// How many positions before the difference are shown, and how many in all.
    const BEFORE: usize = 4;
    const SHOWN: usize = 10;
    let start = difference.position.saturating_sub(BEFORE);
    let line = |name: &str, ids: &[i64]| {
        let mut line = format!("{name:<10}");
        if start > 0 {
            line.push_str(" …");
        }
        for (position, id) in ids.iter().enumerate().skip(start).take(SHOWN) {
            let mark = if position == difference.position { ["[", "]"] } else { ["", ""] };
            line.push_str(&format!(" {}{id}{}", mark[0], mark[1]));
        }
        if ids.len() > start + SHOWN {
            line.push_str(" …");
        } else if ids.len() <= difference.position {
            line.push_str(" [end]");
        }
        line
    };
    [line("golden", &difference.golden), line("candidate", &difference.candidate)]
}

fn skipped(reason: Skipped) -> &'static str {
    match reason {
        Skipped::NotInGolden => "the golden dump has none",
        Skipped::Policy => "the policy leaves it out",
        Skipped::Names => "the map of names leaves it out",
        Skipped::Relation => "the relation leaves it out",
        Skipped::NothingGenerated => "the candidate generated nothing",
        Skipped::Sampled => "the tokens were drawn by chance",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_texts_are_shown_around_the_place_where_they_part() {
        let difference = |golden: &str, candidate: &str| TextDifference {
            position: golden.chars().zip(candidate.chars()).take_while(|(a, b)| a == b).count(),
            golden: golden.to_owned(),
            candidate: candidate.to_owned(),
        };
        let images = "<image>".repeat(256);
        let parted = difference(
            &format!("<img>{images}</img>\nWhat is this?<|eot_id|><|start_header_id|>assistant"),
            &format!("<img>{images}<image></img>\nWhat is this?"),
        );
        assert_eq!(
            text_lines(&parted),
            [
                "golden     …mage><image><image><[here]/img>\\nWhat is this?<|eot_id|><|start_header…",
                "candidate  …mage><image><image><[here]image></img>\\nWhat is this?",
            ]
        );
        let ended = difference("It is red.", "It is red. And");
        assert_eq!(text_lines(&ended), ["golden     It is red.[end]", "candidate  It is red.[here] And"]);
        assert_eq!(
            text("text", &Comparison::Differs(ended)),
            "text: at character 10: expected its end, found \" And\""
        );
    }

    #[test]
    fn image_tokens_in_a_row_are_counted() {
        let prompt = "a<img><image><image><image></img>b <image> c";
        assert_eq!(squeeze(prompt), "a<img><image>×3</img>b <image> c");
    }
}
