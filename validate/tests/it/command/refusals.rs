//! What cannot be judged, or is used wrongly.

use std::fs;

use insta::assert_snapshot;

use super::{NAME, diff, run, spoil};
use crate::dumps::{Candidate, bundled};

#[test]
fn bytes_that_are_not_those_recorded_cannot_be_judged() {
    let candidate = Candidate::copied(NAME);
    spoil(&candidate, "mlp1.1");
    let run = diff(&candidate, &[]);
    assert_eq!((run.status, run.stdout.as_str()), (2, ""));
    let error = &run.stderr;
    assert!(error.contains("`candidate/tensors.safetensors`: tensor `mlp1.1`: expected SHA-256"), "{error}");
    assert!(error.contains("\nhint: "), "{error}");
    let run = diff(&candidate, &["--no-verify"]);
    assert_eq!(run.status, 1, "without the hashes it is a difference like any other");
    assert!(run.stdout.contains("first divergence: mlp1.1 (Linear, order 40)"), "{}", run.stdout);
    assert!(run.stdout.contains("the recorded hashes were not checked"), "{}", run.stdout);
}

#[test]
fn a_truncated_file_cannot_be_judged() {
    let candidate = Candidate::copied(NAME);
    let file = candidate.path().join("tensors.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    let run = diff(&candidate, &[]);
    assert_eq!((run.status, run.stdout.as_str()), (2, ""));
    assert_snapshot!(run.stderr, @r#"
    error: `candidate/tensors.safetensors`: expected a complete safetensors file, found 2040164 bytes: incomplete metadata, file not fully covered
    hint: the dump was copied incompletely: copy it again, or record it again
    "#);
}

#[test]
fn what_is_no_dump_cannot_be_judged() {
    for arguments in [&["diff", NAME, "images"][..], &["diff", "images", NAME], &["show", "images"]] {
        let run = run(arguments);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""));
        assert!(run.stderr.contains("error: `images/manifest.json` cannot be read"), "{}", run.stderr);
        assert!(run.stderr.contains("hint: a dump is a folder"), "{}", run.stderr);
    }
}

#[test]
fn a_policy_that_is_none_cannot_be_applied() {
    let candidate = Candidate::copied(NAME);
    let policy = candidate.folder.path().join("policy.toml");
    let with = |text: Option<&str>| {
        if let Some(text) = text {
            fs::write(&policy, text).unwrap();
        }
        let mut run = diff(&candidate, &["--policy", policy.to_str().unwrap()]);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""));
        run.stderr = run.stderr.replace(policy.to_str().unwrap(), "policy.toml");
        run.stderr
    };
    let messages = [
        with(None),
        with(Some("version = 1\nunpaird = true\n")),
        with(Some("version = 1\n[[rules]]\nsites = [\"a[\"]\n")),
        with(Some("version = 1\n[defaults.float32]\nrelative_l2 = -1.0\n")),
    ];
    assert_snapshot!(messages.join("\n"), @r#"
    error: policy `policy.toml` cannot be read: No such file or directory (os error 2)

    error: policy `policy.toml`: TOML parse error at line 2, column 1: unknown field `unpaird`, expected one of `version`, `preset`, `unpaired`, `fresh`, `answer`, `defaults`, `rules`
    hint: `docs/tolerances.md` describes policy files

    error: policy `policy.toml`: field `rules[0].sites`: expected a glob, found `a[`: error parsing glob 'a[': unclosed character class; missing ']'
    hint: `docs/tolerances.md` describes policy files

    error: policy `policy.toml`: field `defaults.float32.relative_l2`: expected a number not below zero, found -1
    hint: `docs/tolerances.md` describes policy files
    "#);
}

#[test]
fn a_report_that_cannot_be_written_is_not_a_verdict() {
    let candidate = Candidate::copied(NAME);
    let file = candidate.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let run = diff(&candidate, &["--out", file.to_str().unwrap()]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("cannot be written"), "{}", run.stderr);
}

#[test]
fn wrong_usage_has_status_2() {
    for arguments in [&[][..], &["diff", NAME], &["diff", NAME, NAME, "--format", "xml"], &["dif"]] {
        let run = run(arguments);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!run.stderr.is_empty());
    }
}

#[test]
fn a_closed_pipe_does_not_change_the_verdict() {
    let path = |name: &str| bundled(name).to_str().unwrap().to_owned();
    let command = format!(
        "set -o pipefail; '{}' diff --all '{}' '{}' | true",
        env!("CARGO_BIN_EXE_nvl-validate"),
        path(NAME),
        path(NAME)
    );
    let output = std::process::Command::new("bash").args(["-c", &command]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}
