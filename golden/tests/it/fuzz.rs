//! The fuzz target `dump` as a plain loop: changed dumps, always the same ones.

#[path = "../../fuzz/check.rs"]
mod check;

use std::fs;
use std::path::Path;

use golden::sketch::word;
use golden::{DumpWriter, NewEntry, Role};

use crate::folders::{head, push_small};

/// How many changed dumps are read; `NVL_FUZZ_CASES` asks for another number.
const CASES: u64 = 3000;

/// What readers of numbers, names and JSON stumble over.
const PIECES: [&str; 22] = [
    "18446744073709551615",
    "9223372036854775808",
    "4294967296",
    "-1",
    "0",
    "1e999",
    "1e-999",
    "0.1",
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "[[[[[[[[[[[[[[[[",
    "float64",
    "bool",
    "__metadata__",
    "../x",
    "\u{feff}",
];

#[test]
fn any_change_of_a_dump_is_refused_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = seeds(folder.path());
    let target = folder.path().join("changed");
    fs::create_dir(&target).unwrap();
    let cases = std::env::var("NVL_FUZZ_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let mut read = 0;
    for case in 0..cases {
        let mut words = (0..).map(|n| word(case, n) as usize);
        let mut next = |below: usize| words.next().unwrap() % below.max(1);
        let mut bytes = seeds[next(seeds.len())].clone();
        for _ in 0..=next(4) {
            change(&mut bytes, &mut next);
        }
        read += u64::from(check::check(&target, &bytes));
    }
    assert!(read > 0 && read < cases, "{read} of {cases} could be read");
}

/// A dump in full, and one with a sketch, each as the target takes it.
fn seeds(folder: &Path) -> Vec<Vec<u8>> {
    let full = folder.join("full");
    let mut writer = DumpWriter::create(&full).unwrap();
    push_small(&mut writer);
    writer.finish(head()).unwrap();
    let sketched = folder.join("sketched");
    let mut writer = DumpWriter::create(&sketched).unwrap();
    let data: Vec<u8> = (0..600).flat_map(|at| (at as f32).to_le_bytes()).collect();
    writer
        .push_entry(
            NewEntry::new("s", Role::Activation, "Linear"),
            golden::Dtype::Float32,
            &[600],
            &data,
            Some(7),
        )
        .unwrap();
    push_small(&mut writer);
    writer.finish(head()).unwrap();
    let seed = |dump: &Path| {
        let [manifest, tensors] =
            ["manifest.json", "tensors.safetensors"].map(|name| fs::read(dump.join(name)).unwrap());
        [&(manifest.len() as u32).to_le_bytes()[..], &manifest, &tensors].concat()
    };
    vec![seed(&full), seed(&sketched)]
}

fn change(bytes: &mut Vec<u8>, next: &mut impl FnMut(usize) -> usize) {
    let at = next(bytes.len());
    let end = (at + next(24)).min(bytes.len());
    match next(6) {
        0 => bytes[at] ^= 1 << next(8),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        3 => bytes.truncate(at.max(1)),
        // Numbers are what most of it is about.
        4 => {
            let digits = bytes[at..].iter().position(u8::is_ascii_digit).map_or(at, |digit| at + digit);
            let length = bytes[digits..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            bytes.splice(digits..digits + length, PIECES[next(PIECES.len())].bytes());
        }
        _ => {
            bytes.splice(at..end, PIECES[next(PIECES.len())].bytes());
        }
    }
}
