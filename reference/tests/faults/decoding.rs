//! Mistakes of decoding: the prefill stays as it is, and the first entry that differs is where the mistake begins.

use std::collections::BTreeSet;

use golden::Dump;
use reference::mistakes::{self as bank, Mistake};

use crate::runs::{self, F32};

/// The positions at which keys or values differ.
enum Positions {
    /// These, counted from the end below zero.
    At(&'static [i64]),
    All,
    /// There are fewer of them.
    Fewer,
}

/// A mistake, the first entry that it changes, and what it changes in the keys and values of that layer and step.
struct Expected {
    mistake: Mistake,
    first: &'static str,
    layer: usize,
    step: u64,
    keys: Positions,
    values: Positions,
}

fn all() -> Vec<Expected> {
    use Positions::{All, At, Fewer};
    const COS: [&str; 3] = [
        "language_model.model.rotary_emb.cos@1",
        "language_model.model.rotary_emb.cos@2",
        "language_model.model.rotary_emb.cos@3",
    ];
    const FIRST: &str = "language_model.model.layers.0.self_attn.o_proj@1";
    const SECOND: &str = "language_model.model.layers.0.self_attn.o_proj@2";
    const LAYER_1: &str = "language_model.model.layers.1.self_attn.o_proj@2";
    let expected =
        |mistake, first, (layer, step), keys, values| Expected { mistake, first, layer, step, keys, values };
    let none = At(&[]);
    let last = || At(&[-1]);
    vec![
        expected(bank::POSITION_STANDS, COS[0], (0, 1), last(), At(&[])),
        expected(bank::POSITION_ONE_AHEAD, COS[0], (0, 1), last(), At(&[])),
        expected(bank::POSITION_STUCK, COS[1], (0, 2), last(), At(&[])),
        expected(bank::POSITION_RESTARTS, COS[0], (0, 1), last(), At(&[])),
        expected(bank::POSITION_SLIPS, COS[2], (0, 3), last(), At(&[])),
        expected(bank::CACHE_OVERWRITES, FIRST, (0, 1), Fewer, Fewer),
        expected(bank::CACHE_KEEPS_ONE, SECOND, (0, 2), Fewer, Fewer),
        expected(bank::CACHE_FORGETS, FIRST, (0, 1), At(&[0]), At(&[0])),
        expected(bank::CACHE_REPEATS, FIRST, (0, 1), last(), last()),
        expected(bank::CACHE_ROLLED, LAYER_1, (1, 2), All, All),
        expected(bank::CACHE_STALE, LAYER_1, (1, 2), At(&[4, 5, 6, 7]), At(&[4, 5, 6, 7])),
        expected(bank::CACHE_WRONG_SLOT, FIRST, (0, 1), At(&[-2, -1]), At(&[-2, -1])),
        expected(bank::CACHE_DTYPE, FIRST, (0, 1), last(), last()),
        expected(bank::CACHE_WINDOW, FIRST, (0, 1), At(&[]), none),
        expected(bank::DECODED_KEYS_NOT_ROTATED, FIRST, (0, 1), last(), At(&[])),
        expected(bank::DECODED_KEYS_ROTATED_TWICE, FIRST, (0, 1), last(), At(&[])),
    ]
}

/// What is wrong with the positions at which two caches differ.
fn problem(right: &Dump, wrong: &Dump, key: &str, expected: &Positions) -> Option<String> {
    let (entry, other) = (right.entry(key)?, wrong.entry(key)?);
    if let Positions::Fewer = expected {
        return (other.shape[2] >= entry.shape[2]).then(|| format!("{key}: {:?}", other.shape));
    }
    if other.shape != entry.shape {
        return Some(format!("{key}: {:?} instead of {:?}", other.shape, entry.shape));
    }
    let (positions, width) = (entry.shape[2], entry.shape[3] * 4);
    let (one, two) = (right.require(key).ok()?, wrong.require(key).ok()?);
    let rows = one.data().chunks_exact(width).zip(two.data().chunks_exact(width)).enumerate();
    let differing: BTreeSet<i64> =
        rows.filter(|(_, (one, two))| one != two).map(|(row, _)| (row % positions) as i64).collect();
    let expected: BTreeSet<i64> = match expected {
        Positions::At(at) => at.iter().map(|&at| if at < 0 { at + positions as i64 } else { at }).collect(),
        Positions::All | Positions::Fewer => (0..positions as i64).collect(),
    };
    (differing != expected).then(|| format!("{key}: expected {expected:?}, found {differing:?}"))
}

pub fn problems() -> Vec<String> {
    runs::prepare();
    let folder = tempfile::tempdir().unwrap();
    let golden = Dump::open(runs::golden(F32)).unwrap();
    let run = |name: &str, mistakes: &[Mistake]| {
        let out = folder.path().join(name);
        runs::decode_with(runs::checkpoint(), &golden, mistakes, &out);
        Dump::open(out).unwrap()
    };
    let right = run("right", &[]);
    assert_eq!(right.entries().last().unwrap().name, "step_logits");
    let mut problems = Vec::new();
    for Expected { mistake, first, layer, step, keys, values } in all() {
        let wrong = run(mistake.name, &[mistake]);
        let differs = |key: &str| {
            let (one, two) = (right.entry(key).unwrap(), wrong.entry(key).unwrap());
            one.sha256 != two.sha256
        };
        let found = right.entries().iter().map(|entry| entry.key()).find(|key| differs(key));
        if found.as_deref() != Some(first) {
            problems.push(format!("{}: expected {first}, found {found:?}", mistake.name));
        }
        for (kind, expected) in [("keys", keys), ("values", values)] {
            let key = format!("past_key_values.{layer}.{kind}@{step}");
            problems.extend(
                problem(&right, &wrong, &key, &expected).map(|found| format!("{}: {found}", mistake.name)),
            );
        }
    }
    problems
}

/// The names that are in the table.
pub fn names() -> Vec<&'static str> {
    all().iter().map(|expected| expected.mistake.name).collect()
}
