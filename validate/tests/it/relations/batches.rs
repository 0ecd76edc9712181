//! A request in a batch of others.

use golden::{Dtype, Role};
use validate::{Fact, Relation};

use super::runs::{Item, Run, TOKENS, cat, copy, garbage, pad};
use super::{NORM, assert_equal_but, compare, facts, first, largest, refusal};
use crate::dumps::Tensor;

const LOGITS: &str = "logits_processor";

fn is_logits(key: &str) -> bool {
    key == "step_logits"
}

#[test]
fn a_padded_request_is_found_wherever_the_padding_is() {
    let plain = Run::text();
    for (row, of, [left, right]) in
        [(0, 2, [9, 0]), (2, 3, [0, 9]), (1, 3, [0, 0]), (1, 2, [4, 5]), (0, 24, [3, 0])]
    {
        let report = compare(&plain, &plain.padded(row, of, [left, right]), Relation::Batched).unwrap();
        assert_eq!(assert_equal_but(&report, is_logits), plain.items.len() - 1, "{row} {left} {right}");
        let facts = facts(&report);
        assert_eq!(facts[0], &Fact::Sequence { row, of });
        let columns = [0..left, left + TOKENS..left + TOKENS + right];
        let columns: Vec<_> = columns.into_iter().filter(|columns| !columns.is_empty()).collect();
        let padding = Fact::Padding { step: 0, columns: columns.clone() };
        assert_eq!(facts.contains(&&padding), !columns.is_empty(), "{facts:?}");
    }
}

#[test]
fn padding_alone_is_no_batch() {
    let plain = Run::text();
    let report = compare(&plain, &plain.padded(0, 1, [8, 0]), Relation::Batched).unwrap();
    assert_eq!(assert_equal_but(&report, |_| false), plain.items.len(), "the answer is the request's");
}

#[test]
fn an_error_is_at_the_token_of_the_request_and_another_requests_is_none() {
    let plain = Run::text();
    let mut batch = plain.padded(1, 2, [9, 0]);
    let row = (9 + TOKENS) * 128;
    batch.change(NORM, 0, |tensor| tensor.set(3 * 128, 50.0));
    assert!(compare(&plain, &batch, Relation::Batched).unwrap().passes());
    batch.change(NORM, 0, |tensor| tensor.set(row + (9 + 5) * 128 + 2, 50.0));
    let report = compare(&plain, &batch, Relation::Batched).unwrap();
    assert_eq!((first(&report).entry.name.as_str(), largest(&report)), (NORM, vec![0, 5, 2]));
}

#[test]
fn a_request_that_stands_twice_is_compared_once() {
    let plain = Run::text();
    let batch = plain.map(|item| {
        let other = garbage(&item.tensor, 3);
        let rows = [&other, &item.tensor, &item.tensor];
        vec![(item.step, if item.tensor.name == "step_logits" { copy(&item.tensor) } else { cat(&rows, 0) })]
    });
    let report = compare(&plain, &batch, Relation::Batched).unwrap();
    assert_equal_but(&report, is_logits);
    assert_eq!(facts(&report)[..2], [&Fact::Sequence { row: 1, of: 3 }, &Fact::Several { count: 2 }]);
}

#[test]
fn a_request_that_is_not_there_is_refused() {
    let plain = Run::text();
    let mut batch = plain.padded(1, 2, [9, 0]);
    batch.change("input_ids", 0, |ids| ids.set(33 + 9 + 20, 3.0));
    assert_eq!(
        refusal(&plain, &batch, Relation::Batched),
        "relation `batched`: expected the 24 tokens of the plain run in a row of `input_ids`, found [2, 33] without them: the \
         first 20 of them stand in row 1 from token 9 on"
    );
}

#[test]
fn the_mask_tells_a_request_from_one_that_begins_like_it() {
    let plain = Run::bundled("shapes-text-float32");
    // The first sequence goes on where the request ends; the second is the request.
    let mut batch = plain.padded(1, 2, [0, 6]);
    let ids = plain.get("input_ids");
    batch.change("input_ids", 0, |tensor| {
        (0..TOKENS).for_each(|at| tensor.set(at, ids.get(at)));
        (TOKENS..30).for_each(|at| tensor.set(at, 77.0));
    });
    let report = compare(&plain, &batch, Relation::Batched).unwrap();
    let several = Fact::Several { count: 2 };
    assert_eq!(facts(&report)[1], &several, "one id behind it may be padding");
    let data = (0..60).map(|at| u8::from(at < 30 + TOKENS)).collect();
    let mask = Tensor { name: "attention_mask".to_owned(), dtype: Dtype::Bool, shape: vec![2, 30], data };
    batch.items.insert(1, Item { step: 0, role: Role::Input, module: String::new(), tensor: mask });
    let mut plain = plain;
    let data = vec![1; TOKENS];
    let mask = Tensor { name: "attention_mask".to_owned(), dtype: Dtype::Bool, shape: vec![1, TOKENS], data };
    plain.items.insert(1, Item { step: 0, role: Role::Input, module: String::new(), tensor: mask });
    let report = compare(&plain, &batch, Relation::Batched).unwrap();
    assert_equal_but(&report, is_logits);
    assert_eq!(facts(&report)[0], &Fact::Sequence { row: 1, of: 2 });
    assert!(!facts(&report).contains(&&several));
}

/// A request of vLLM's, packed behind and before others; with positions if wanted.
fn packed(plain: &Run, [before, behind]: [usize; 2], positions: bool) -> Run {
    let mut number = 0;
    let mut run = plain.map(|item| {
        number += 1;
        let tensor = &item.tensor;
        vec![(
            0,
            match tensor.name.as_str() {
                "step_logits" => copy(tensor),
                LOGITS => cat(&[&garbage(tensor, 1), tensor, &garbage(tensor, 2)], 0),
                "input_ids" => ids(tensor, before, behind),
                _ => pad(tensor, 0, [before, behind], number),
            },
        )]
    });
    if positions {
        let of = |count: usize| (0..count as i32).flat_map(i32::to_le_bytes);
        let data = of(before).chain(of(TOKENS)).chain(of(behind)).collect();
        let shape = vec![before + TOKENS + behind];
        let tensor = Tensor { name: "positions".to_owned(), dtype: Dtype::Int32, shape, data };
        run.items.insert(1, Item { step: 0, role: Role::Input, module: String::new(), tensor });
    }
    run
}

/// Ids of other requests around those of one.
fn ids(tensor: &Tensor, before: usize, behind: usize) -> Tensor {
    let others = |count: usize| (0..count as i32).flat_map(|id| (id + 3).to_le_bytes());
    let data = others(before).chain(tensor.data.iter().copied()).chain(others(behind)).collect();
    Tensor { name: tensor.name.clone(), dtype: tensor.dtype, shape: vec![before + TOKENS + behind], data }
}

fn vllm() -> Run {
    Run::bundled("../ports/vllm-llama-float32")
}

#[test]
fn a_packed_request_is_found_at_any_offset() {
    let plain = vllm();
    for [before, behind] in [[5, 30], [17, 2], [24, 24]] {
        let report = compare(&plain, &packed(&plain, [before, behind], true), Relation::Batched).unwrap();
        // Only the candidate has positions, which are no entry of the plain run.
        let extra: Vec<&str> = report
            .entries
            .iter()
            .filter(|entry| !entry.is_bit_equal())
            .map(|entry| entry.entry.name.as_str())
            .collect();
        assert_eq!(extra, ["step_logits", "positions"]);
        let others = Fact::Others { columns: vec![0..before, before + TOKENS..before + TOKENS + behind] };
        assert_eq!(facts(&report)[0], &others);
    }
}

#[test]
fn of_which_packed_request_a_row_is_only_positions_or_bounds_tell() {
    let mut plain = vllm();
    plain.items.retain(|item| item.tensor.name != "step_logits");
    let report = compare(&plain, &packed(&plain, [9, 5], false), Relation::Batched).unwrap();
    assert_equal_but(&report, |key| key == LOGITS);
    let reason = facts(&report).into_iter().find_map(|fact| match fact {
        Fact::NotComparable { reason, names } if names == &[LOGITS] => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(
        reason,
        Some("its shapes [1, 512] and [3, 512] do not belong together by 24 tokens and [1, 38]")
    );
}

#[test]
fn a_wrong_token_of_a_packed_request_is_found() {
    let plain = vllm();
    let site = "model.layers.2.mlp.down_proj";
    let mut batch = packed(&plain, [9, 5], false);
    batch.change(site, 0, |tensor| (0..128).for_each(|at| tensor.set((9 + 23) * 128 + at, 3.0)));
    let report = compare(&plain, &batch, Relation::Batched).unwrap();
    let found = report.entries.iter().find(|entry| entry.is_failure() && !entry.is_unpaired()).unwrap();
    let largest = found.measurement.as_ref().unwrap().largest.as_ref().unwrap();
    assert_eq!((found.entry.name.as_str(), largest.index[0]), (site, 23));
}
