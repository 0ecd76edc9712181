//! A prompt in pieces, or the end of one: passes whose tokens, one after the other, are the plain run's or its last.

use super::alignment::{AlignedStep, Alignment, Pass};
use super::decoding::decoding;
use super::fact::Fact;
use super::kind::Relation;
use super::sides::Sides;
use super::tokens::{Given, steps_of};
use crate::error::Result;

/// The candidate's passes, each with the number of its tokens that are no padding.
struct Pieces {
    passes: Vec<(u64, Given, usize)>,
    /// The first token of the plain run that they have.
    start: usize,
}

/// Aligns pieces that make the whole prompt (`chunked`) or its end (`prefix-cache`).
pub(super) fn align(sides: &Sides<'_>) -> Result<Alignment> {
    let prompt = sides.prompt()?;
    let tokens = prompt.width;
    let Pieces { passes, start } = pieces(sides, &prompt.ids)?;
    let mut facts = Vec::new();
    let mut aligned = Vec::new();
    let mut at = start;
    for (step, given, count) in &passes {
        aligned.push(Pass::alone(*step, given.width, at..at + count, at + count));
        if *count < given.width {
            facts.push(Fact::Padding { step: *step, columns: vec![*count..given.width; 1] });
        }
        at += count;
    }
    if sides.relation == Relation::PrefixCache {
        facts.insert(0, Fact::Cached(0..start));
    }
    if aligned.len() > 1 || sides.relation == Relation::Chunked {
        let pieces = aligned.iter().map(|pass| (pass.step, pass.tokens.clone())).collect();
        facts.insert(0, Fact::Pieces(pieces));
    }
    let last = aligned.last().map_or(0, |pass| pass.step);
    let mut steps = vec![AlignedStep { step: 0, tokens, keys: tokens, passes: aligned }];
    let of_candidate = steps_of(sides.candidate);
    for step in decoding(sides, tokens) {
        let number = last + step.step;
        if !of_candidate.contains(&number) {
            continue;
        }
        let width = Given::of(sides.candidate, number).map_or(step.tokens, |given| given.ids.len());
        if width != step.tokens {
            facts.push(Fact::Lost { step: number, of: width });
            continue;
        }
        let passes = vec![Pass::alone(number, width, 0..width, step.keys)];
        steps.push(AlignedStep { passes, ..step.aligned() });
    }
    if last > 0 && steps.len() > 1 {
        facts.push(Fact::Decoding { first: last + 1 });
    }
    Ok(Alignment { relation: sides.relation, tokens, steps, facts, others: false })
}

/// The candidate's first passes that together are the prompt or its end: as few as that takes.
fn pieces(sides: &Sides<'_>, prompt: &[i64]) -> Result<Pieces> {
    let whole = sides.relation == Relation::Chunked;
    let (mut joined, mut passes): (Vec<i64>, Vec<(u64, Given, usize)>) = (Vec::new(), Vec::new());
    for step in steps_of(sides.candidate) {
        let Some(given) = Given::of(sides.candidate, step) else { break };
        if given.batch != 1 {
            let expected = "`input_ids` of one sequence in each pass".to_owned();
            return Err(sides.refusal(expected, format!("[{}, {}]", given.batch, given.width)));
        }
        let count = unpadded(&given, whole.then(|| prompt.len().saturating_sub(joined.len())));
        joined.extend(&given.ids[..count]);
        passes.push((step, given, count));
        let Some(start) = prompt.len().checked_sub(joined.len()) else { break };
        if prompt[start..] == joined && !joined.is_empty() && (start == 0 || !whole) {
            return Ok(Pieces { passes, start });
        }
    }
    let expected = match (whole, prompt.len()) {
        (true, tokens) => {
            format!("passes whose `input_ids` are, one after the other, the {tokens} tokens of the plain run")
        }
        (false, tokens) => format!("`input_ids` that are the last of the {tokens} tokens of the plain run"),
    };
    let counts: Vec<String> = passes.iter().map(|(_, _, count)| count.to_string()).collect();
    let agreeing = joined.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    Err(sides.refusal(
        expected,
        match counts.as_slice() {
            [] => "none".to_owned(),
            [one] if !whole => format!("{one} others"),
            [one] => format!("{one} tokens, of which the first {agreeing} agree"),
            counts => {
                let (passes, tokens) = (counts.len(), counts.join(" + "));
                format!("{passes} passes ({tokens} tokens), of which the first {agreeing} tokens agree")
            }
        },
    ))
}

/// How many of a piece's tokens are no padding: by the mask; else, where so many are wanted and no more, what follows them is
/// padding if it is one id.
fn unpadded(given: &Given, wanted: Option<usize>) -> usize {
    if let Some(mask) = given.mask(0) {
        let real = mask.iter().take_while(|&&real| real).count();
        return if mask[real..].iter().any(|&real| real) { given.width } else { real };
    }
    match wanted {
        Some(wanted) if wanted < given.width && wanted > 0 => {
            let tail = &given.ids[wanted..];
            if tail.iter().all(|id| id == &tail[0]) { wanted } else { given.width }
        }
        _ => given.width,
    }
}
