//! The end of a prompt, whose beginning came from a cache.

use validate::{Fact, Relation};

use super::runs::{Run, TOKENS};
use super::{NORM, assert_equal_but, compare, facts, first, largest, refusal};

#[test]
fn the_end_of_a_prompt_is_compared_with_its_tokens() {
    let plain = Run::text();
    for cached in [0, 1, 16, TOKENS - 1] {
        let report = compare(&plain, &plain.end_from(cached), Relation::PrefixCache).unwrap();
        assert_eq!(assert_equal_but(&report, |_| false), plain.items.len(), "{cached}");
        assert_eq!(facts(&report)[0], &Fact::Cached(0..cached));
        let norm = report.entries.iter().find(|entry| entry.entry.name == NORM).unwrap();
        assert_eq!(norm.compared_shape, [1, TOKENS - cached, 128]);
        assert_eq!(norm.entry.shape, [1, TOKENS, 128]);
    }
}

#[test]
fn rows_are_counted_as_the_plain_run_counts_them() {
    let plain = Run::text();
    for (cached, token) in [(16, 20), (TOKENS - 1, TOKENS - 1)] {
        let mut end = plain.end_from(cached);
        end.change(NORM, 0, |tensor| (0..128).for_each(|at| tensor.set((token - cached) * 128 + at, 9.0)));
        let report = compare(&plain, &end, Relation::PrefixCache).unwrap();
        let found = first(&report);
        assert_eq!((found.entry.name.as_str(), &largest(&report)[..2]), (NORM, &[0, token][..]));
        let measurement = found.measurement.as_ref().unwrap();
        assert!(measurement.relative_l2.unwrap() > 0.3, "cached tokens are not counted: {measurement:?}");
        let rows = &measurement.rows;
        let off: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].relative > 0.0).collect();
        assert_eq!((rows.len(), off), (TOKENS, vec![token]));
        let places = format!("{:?}", report.findings.as_ref().unwrap().places);
        // Of the only token that was compared there is no place to tell.
        assert_eq!(places.contains(&format!("index: {token}")), cached == 16, "{places}");
    }
}

#[test]
fn a_cache_that_was_filled_wrongly_is_found_at_its_position() {
    let plain = Run::text();
    let mut end = plain.end_from(16);
    end.change("past_key_values.0.keys", 0, |tensor| tensor.set((24 + 3) * 32 + 7, 9.0));
    let report = compare(&plain, &end, Relation::PrefixCache).unwrap();
    assert_eq!(
        (first(&report).entry.name.as_str(), largest(&report)),
        ("past_key_values.0.keys", vec![0, 1, 3, 7])
    );
}

#[test]
fn tokens_that_do_not_end_the_prompt_are_refused() {
    let plain = Run::text();
    let mut end = plain.end_from(16);
    end.items.retain(|item| item.step == 0);
    end.change("input_ids", 0, |ids| ids.set(7, 3.0));
    assert_eq!(
        refusal(&plain, &end, Relation::PrefixCache),
        "relation `prefix-cache`: expected `input_ids` that are the last of the 24 tokens of the plain run, found 8 others"
    );
}
