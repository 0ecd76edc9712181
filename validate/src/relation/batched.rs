//! One request in a batch of others, padded or packed.

use std::ops::Range;

use super::alignment::{AlignedStep, Alignment, Pass};
use super::decoding::{Step, decoding};
use super::fact::Fact;
use super::sides::Sides;
use super::tokens::{Given, steps_of};
use crate::error::Result;

/// Where the request may stand.
struct Found {
    row: usize,
    start: usize,
    /// What speaks for it, the strongest first: mask or bounds agree, what is around it is padding, positions agree.
    speaks: [bool; 3],
}

/// Finds the request by its ids.
pub(super) fn align(sides: &Sides<'_>) -> Result<Alignment> {
    let prompt = sides.prompt()?;
    let tokens = prompt.width;
    let expected = || format!("the {tokens} tokens of the plain run in a row of `input_ids`");
    let Some(given) = Given::of(sides.candidate, 0) else {
        return Err(sides.refusal(expected(), "no `input_ids`".to_owned()));
    };
    let mut found = places(&prompt, &given);
    let best = found.iter().map(|place| place.speaks).max();
    found.retain(|place| Some(place.speaks) == best);
    let Some(&Found { row, start, .. }) = found.first() else {
        return Err(sides.refusal(
            expected(),
            format!("[{}, {}] without them: {}", given.batch, given.width, nearest(&prompt.ids, &given)),
        ));
    };
    let columns = start..start + tokens;
    let packed = packed(&given, &columns);
    let mut facts = Vec::new();
    if given.batch > 1 {
        facts.push(Fact::Sequence { row, of: given.batch });
    }
    if found.len() > 1 {
        facts.push(Fact::Several { count: found.len() });
    }
    let around = around(&columns, given.width);
    let is_padding = is_padding(&given, row, &columns);
    if !around.is_empty() {
        let columns = around;
        facts.push(if is_padding { Fact::Padding { step: 0, columns } } else { Fact::Others { columns } });
    }
    let pass = Pass {
        step: 0,
        batch: given.batch,
        width: given.width,
        row,
        columns: columns.clone(),
        tokens: 0..tokens,
        keys: vec![columns; 1],
        keys_of: given.width,
        packed,
    };
    let others = given.batch > 1 || !is_padding;
    let mut steps = vec![AlignedStep { step: 0, tokens, keys: tokens, passes: vec![pass.clone()] }];
    let of_candidate = steps_of(sides.candidate);
    for step in decoding(sides, tokens) {
        if of_candidate.contains(&step.step) {
            match decoded(sides, &pass, &step) {
                Ok(passes) => steps.push(AlignedStep { passes, ..step.aligned() }),
                Err(of) => facts.push(Fact::Lost { step: step.step, of }),
            }
        }
    }
    Ok(Alignment { relation: sides.relation, tokens, steps, facts, others })
}

/// Every place where the ids are those of the prompt.
fn places(prompt: &Given, given: &Given) -> Vec<Found> {
    let mut found = Vec::new();
    let bounds = given.bounds();
    for row in 0..given.batch {
        for (start, ids) in given.row(row).windows(prompt.width).enumerate() {
            if ids != prompt.ids {
                continue;
            }
            let columns = start..start + prompt.width;
            let by_mask = given
                .mask(row)
                .is_some_and(|mask| mask.iter().enumerate().all(|(at, &real)| real == columns.contains(&at)));
            let by_bounds = bounds
                .as_ref()
                .is_some_and(|bounds| bounds.windows(2).any(|pair| pair == [columns.start, columns.end]));
            let positions = given.positions(row).map(|positions| &positions[columns.clone()]);
            let by_positions = positions.is_some_and(|positions| match prompt.positions(0) {
                Some(expected) => positions == expected,
                None => positions.iter().zip(0..).all(|(&found, expected)| found == expected),
            });
            let padding = is_padding(given, row, &columns);
            found.push(Found { row, start, speaks: [by_mask || by_bounds, padding, by_positions] });
        }
    }
    found
}

/// What of a sequence is not the request.
fn around(columns: &Range<usize>, width: usize) -> Vec<Range<usize>> {
    [0..columns.start, columns.end..width].into_iter().filter(|part| !part.is_empty()).collect()
}

/// Whether all that is not the request in its sequence is padding: by the mask, else if it is one id.
fn is_padding(given: &Given, row: usize, columns: &Range<usize>) -> bool {
    let mut others = (0..given.width).filter(|at| !columns.contains(at));
    match given.mask(row) {
        Some(mask) => others.all(|at| !mask[at]),
        None => {
            let ids: Vec<i64> = others.map(|at| given.row(row)[at]).collect();
            ids.iter().all(|id| id == &ids[0])
        }
    }
}

/// Which of the packed requests it is, of how many.
fn packed(given: &Given, columns: &Range<usize>) -> Option<(usize, usize)> {
    let bounds = given.bounds()?;
    let place = bounds.iter().position(|&bound| bound == columns.start)?;
    (bounds.get(place + 1) == Some(&columns.end) && bounds.len() > 2).then_some((place, bounds.len() - 1))
}

/// The pass of a decoding step; where the request's tokens cannot be told from others, their number.
fn decoded(sides: &Sides<'_>, prompt: &Pass, step: &Step) -> Result<Vec<Pass>, usize> {
    let given = Given::of(sides.candidate, step.step);
    let (batch, width) =
        given.as_ref().map_or((prompt.batch, step.tokens), |given| (given.batch, given.width));
    let decoded = step.keys - prompt.tokens.len();
    let pass = |row: usize, columns: Range<usize>| {
        let keys_of = prompt.keys_of + decoded;
        let mut keys = prompt.keys.clone();
        match keys.last_mut() {
            // Nothing lies between the prompt and what was decoded behind it.
            Some(last) if last.end == prompt.keys_of => last.end = keys_of,
            _ => keys.push(prompt.keys_of..keys_of),
        }
        let tokens = 0..step.tokens;
        vec![Pass { step: step.step, batch, width, row, columns, tokens, keys, keys_of, packed: None }]
    };
    if batch == prompt.batch && width == step.tokens {
        return Ok(pass(prompt.row, 0..width));
    }
    // One token of each request, side by side.
    if let Some((place, _)) = prompt.packed.filter(|&(_, of)| batch == 1 && of == width && step.tokens == 1) {
        return Ok(pass(0, place..place + 1));
    }
    let given = given.filter(|given| given.batch == 1).ok_or(batch * width)?;
    let ids = step.ids.as_ref().ok_or(width)?;
    let places: Vec<usize> = given
        .ids
        .windows(ids.len())
        .enumerate()
        .filter(|(_, other)| other == ids)
        .map(|(at, _)| at)
        .collect();
    match places[..] {
        [one] => Ok(pass(0, one..one + ids.len())),
        _ => Err(width),
    }
}

/// The row that begins most like the request does, in words.
fn nearest(ids: &[i64], given: &Given) -> String {
    let longest = (0..given.batch).flat_map(|row| (0..given.width).map(move |start| (row, start)));
    let agreeing = |&(row, start): &(usize, usize)| {
        given.row(row)[start..].iter().zip(ids).take_while(|(a, b)| a == b).count()
    };
    match longest
        .map(|place| (agreeing(&place), place))
        .max_by_key(|&(count, (row, start))| (count, std::cmp::Reverse(row), std::cmp::Reverse(start)))
    {
        Some((count, (row, start))) if count > 0 => {
            format!("the first {count} of them stand in row {row} from token {start} on")
        }
        _ => "not even the first of them".to_owned(),
    }
}
