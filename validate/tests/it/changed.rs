//! Dumps that somebody makes shorter while they are compared: an error in words, and no signal.

use std::fs::File;
use std::path::Path;

use golden::Dump;
use validate::{DiffOptions, Error, Noise, Policy, diff, names};

use crate::dumps::{Candidate, bundled};

const NAME: &str = "shapes-describe-bfloat16";

fn shorten(dump: &Path) {
    File::options().write(true).open(dump.join("tensors.safetensors")).unwrap().set_len(1 << 16).unwrap();
}

fn is_told<T: std::fmt::Debug>(result: Result<T, Error>, dump: &Path) {
    let error = result.unwrap_err();
    assert!(
        matches!(&error, Error::Dump(golden::Error::Changed { path, .. }) if path.starts_with(dump)),
        "{error}"
    );
    assert!(error.to_string().contains("found 65536 bytes where"), "{error}");
}

#[test]
fn a_dump_that_becomes_shorter_is_told_by_every_way_to_compare() {
    for verify in [true, false] {
        let candidate = Candidate::copied(NAME);
        let (golden, found) = (Dump::open(bundled(NAME)).unwrap(), Dump::open(candidate.path()).unwrap());
        shorten(&candidate.path());
        let policy = Policy::default();
        is_told(
            diff(&golden, &found, &DiffOptions { verify, ..DiffOptions::new(&policy) }),
            &candidate.path(),
        );
        is_told(
            diff(&found, &golden, &DiffOptions { verify, ..DiffOptions::new(&policy) }),
            &candidate.path(),
        );
        let noise = Noise::measure(&golden, &[found], 3.0, verify, &|_| {});
        is_told(noise.map_err(Error::from), &candidate.path());
    }
    let candidate = Candidate::copied(NAME);
    let (golden, found) = (Dump::open(bundled(NAME)).unwrap(), Dump::open(candidate.path()).unwrap());
    shorten(&candidate.path());
    is_told(names::propose(&golden, &found), &candidate.path());
}
