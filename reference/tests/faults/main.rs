//! The proof of the comparison: mistakes that people make when they port the model, planted one at a time, are found where
//! they are and called what they are; and changes that are none pass. `docs/faults.md` is the table of both.
//!
//! The mistakes are planted in the model's computation, from the bank of `reference::mistakes`, or in the converted checkpoint.

// Functions outside a `#[test]` are tests as well: a failed `unwrap` is the assertion.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use reference::mistakes as bank;

mod decoding;
mod edit;
mod harmless;
mod isolation;
mod mistakes;
mod plant;
mod planted;
mod runs;
mod table;

/// All that does not hold, a line each.
fn assert_none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_mistake_is_found_where_it_is_and_called_what_it_is() {
    let found = mistakes::outcomes();
    assert!(found.len() >= 25, "{}", found.len());
    assert_none(found.iter().flat_map(mistakes::Outcome::problems).collect());
}

#[test]
fn the_table_has_every_mistake_of_the_bank() {
    let planted: Vec<&str> = planted::all().iter().map(|planted| planted.what).collect();
    let missing = bank::ALL.iter().filter(|mistake| !planted.contains(&mistake.what));
    let missing: Vec<&str> = missing.map(|mistake| mistake.name).collect();
    // These are harmless.
    assert_eq!(missing, ["norm-cast-last", "softmax-in-dtype", "bias-apart"]);
}

#[test]
fn mistakes_of_decoding_leave_the_prefill_and_begin_where_they_are() {
    assert_eq!(decoding::names(), bank::DECODING.map(|mistake| mistake.name));
    assert_none(decoding::problems());
}

#[test]
fn mistakes_inside_an_attention_are_told_in_every_run() {
    assert_none(mistakes::problems_in_other_runs());
}

#[test]
fn every_harmless_change_passes() {
    let found = harmless::outcomes();
    assert!(found.len() >= 25, "{}", found.len());
    assert_none(found.iter().flat_map(harmless::Outcome::problems).collect());
}

#[test]
fn the_table_is_that_of_this_run() {
    table::check(&table::render(mistakes::outcomes(), harmless::outcomes()));
}
