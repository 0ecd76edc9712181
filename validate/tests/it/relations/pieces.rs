//! A prompt in pieces.

use validate::{Fact, Relation};

use super::runs::{LOGITS, Run, slice};
use super::{NORM, assert_equal_but, compare, facts, first, largest, not_compared, refusal};

fn is_weights(key: &str) -> bool {
    key.ends_with("attn_weights")
}

#[test]
fn pieces_make_the_prompt_and_steps_follow_them() {
    let plain = Run::text();
    let report = compare(&plain, &plain.in_pieces(&[7, 16, 1]), Relation::Chunked).unwrap();
    let compared = assert_equal_but(&report, is_weights);
    // Each of four layers has weights of the prefill; those of the decoding step have all keys.
    assert_eq!(compared, plain.items.len() - 4);
    let pieces = Fact::Pieces(vec![(0, 0..7), (1, 7..23), (2, 23..24)]);
    let facts = facts(&report);
    assert_eq!(facts[..2], [&pieces, &Fact::Decoding { first: 3 }]);
    let Fact::LastPiece { names } = facts[2] else { panic!("{facts:?}") };
    assert_eq!(*names, [LOGITS, "past_key_values.0.keys"]);
    let Fact::NotComparable { reason, names } = facts[3] else { panic!("{facts:?}") };
    assert_eq!((reason.as_str(), names.len()), ("its keys grow from piece to piece", 4));
    assert_eq!(not_compared(&report)[0].1, "not comparable: its keys grow from piece to piece");
}

#[test]
fn one_piece_has_everything() {
    let plain = Run::text();
    let report = compare(&plain, &plain.in_pieces(&[24]), Relation::Chunked).unwrap();
    assert_eq!(assert_equal_but(&report, |_| false), plain.items.len());
}

#[test]
fn a_wrong_row_of_a_piece_is_found_at_its_token() {
    let plain = Run::text();
    let mut pieces = plain.in_pieces(&[7, 16, 1]);
    pieces.change(NORM, 1, |tensor| (0..128).for_each(|at| tensor.set(3 * 128 + at, 9.0)));
    let report = compare(&plain, &pieces, Relation::Chunked).unwrap();
    assert_eq!((first(&report).entry.name.as_str(), &largest(&report)[..2]), (NORM, &[0, 10][..]));
    assert!(first(&report).origin.is_fresh());
    let places = format!("{:?}", report.findings.unwrap().places);
    assert!(places.contains("Text { index: 10 }"), "{places}");
    assert_eq!(report.entries.iter().filter(|entry| entry.is_failure()).count(), 1);
}

#[test]
fn wrong_positions_of_a_piece_are_found_in_the_angles() {
    // The second piece counts from zero again.
    let plain = Run::text();
    let cos = "language_model.model.rotary_emb.cos";
    let from_zero = slice(&plain.get(cos), 1, 0..17);
    let mut pieces = plain.in_pieces(&[7, 17]);
    pieces.change(cos, 1, |tensor| tensor.data = from_zero.data);
    let report = compare(&plain, &pieces, Relation::Chunked).unwrap();
    assert_eq!(first(&report).entry.name, cos);
    let rows = &first(&report).measurement.as_ref().unwrap().rows;
    let off: Vec<usize> = (0..24).filter(|&row| rows[row].relative > 0.0).collect();
    assert_eq!(off, (7..24).collect::<Vec<_>>());
}

#[test]
fn a_wrong_decoding_step_and_a_wrong_cache_are_found() {
    let plain = Run::text();
    let mut pieces = plain.in_pieces(&[12, 12]);
    pieces.change("past_key_values.0.keys", 2, |tensor| tensor.set(32 * 24 + 5, 4.0));
    let report = compare(&plain, &pieces, Relation::Chunked).unwrap();
    assert_eq!(first(&report).entry.key(), "past_key_values.0.keys@1");
    assert_eq!(largest(&report), [0, 0, 24, 5]);
}

#[test]
fn the_last_piece_may_be_padded() {
    let plain = Run::bundled("shapes-text-float32");
    let mut pieces = plain.in_pieces(&[16, 8]);
    for item in pieces.items.iter_mut().filter(|item| item.step == 1) {
        if item.tensor.shape.get(1) == Some(&8) {
            item.tensor = super::runs::pad(&item.tensor, 1, [0, 8], 1);
        }
    }
    let report = compare(&plain, &pieces, Relation::Chunked).unwrap();
    assert_equal_but(&report, is_weights);
    let padding = Fact::Padding { step: 1, columns: vec![8..16; 1] };
    assert!(facts(&report).contains(&&padding), "{:?}", facts(&report));
}

#[test]
fn pieces_that_are_not_the_prompt_are_refused() {
    let plain = Run::text();
    let whole = plain.in_pieces(&[8, 8, 8]);
    let without = |step: u64| {
        let left = whole.map(|item| {
            let step = if item.step > step { item.step - 1 } else { item.step };
            vec![(step, super::runs::copy(&item.tensor))]
        });
        let items = whole.items.iter().zip(left.items).filter(|(item, _)| item.step != step);
        Run { head: left.head, items: items.map(|(_, item)| item).collect() }
    };
    let expected = "relation `chunked`: expected passes whose `input_ids` are, one after the other, the 24 tokens of the \
                    plain run, found ";
    let refused =
        |run: &Run| refusal(&plain, run, Relation::Chunked).strip_prefix(expected).unwrap().to_owned();
    // The decoding step follows where the piece is missing.
    assert_eq!(refused(&without(1)), "3 passes (8 + 8 + 1 tokens), of which the first 8 tokens agree");
    let none = whole.map(|item| match item.tensor.name.as_str() {
        "input_ids" => Vec::new(),
        _ => vec![(item.step, super::runs::copy(&item.tensor))],
    });
    assert_eq!(refused(&none), "none");
}

#[test]
fn an_entry_that_a_piece_lacks_is_named() {
    let plain = Run::text();
    let mut pieces = plain.in_pieces(&[8, 16]);
    pieces.items.retain(|item| !(item.tensor.name == NORM && item.step == 1));
    let report = compare(&plain, &pieces, Relation::Chunked).unwrap();
    let reason = "not comparable: step 1 of the candidate has no such entry";
    assert!(not_compared(&report).contains(&(NORM.to_owned(), reason.to_owned())));
    pieces.items.retain(|item| item.tensor.name != NORM);
    let report = compare(&plain, &pieces, Relation::Chunked).unwrap();
    assert!(!report.passes());
    assert_eq!(first(&report).entry.name, NORM);
}
