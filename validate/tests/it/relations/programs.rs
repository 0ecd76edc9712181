//! What the program says.

use serde_json::Value;

use super::NORM;
use super::runs::{Run, Written};
use crate::command::run;

fn diff(plain: &Written, candidate: &Written, options: &[&str]) -> (i32, String, String) {
    let [plain, candidate] = [plain, candidate].map(|run| run.dump.path().to_str().unwrap());
    let run = run(&[&["diff", plain, candidate], options].concat());
    (run.status, run.stdout, run.stderr)
}

#[test]
fn the_report_says_how_the_runs_belong_together() {
    let plain = Run::text();
    let (written, pieces) = (plain.write(), plain.in_pieces(&[7, 17]).write());
    let (status, text, _) = diff(&written, &pieces, &["--relation", "chunked"]);
    assert_eq!(status, 0, "{text}");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in [
        "relation chunked",
        "the candidate took the prompt in 2 pieces: tokens 0 to 6 in step 0, tokens 7 to 23 in step 1",
        "step 2 of the candidate is compared with step 1, and so on",
        "4 entries not comparable, `language_model.model.layers.0.self_attn.attn_weights`,",
        "its keys grow from piece to piece",
        "prompt: not compared, the relation leaves it out",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (_, json, _) = diff(&written, &pieces, &["--relation", "chunked", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let expected = serde_json::json!({ "name": "chunked", "tokens": 24, "steps": [
        { "step": 0, "candidate": [
            { "step": 0, "sequence": 0, "own": [0, 6], "tokens": [0, 6] },
            { "step": 1, "sequence": 0, "own": [0, 16], "tokens": [7, 23] },
        ] },
        { "step": 1, "candidate": [{ "step": 2, "sequence": 0, "own": [0, 0], "tokens": [0, 0] }] },
    ] });
    assert_eq!(json["relation"], expected);
    let schema = include_str!("../../../../docs/diff-report.schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    schema.validate(&json).unwrap();
}

#[test]
fn a_divergence_names_the_pieces_and_the_token() {
    let plain = Run::text();
    let mut end = plain.end_from(16);
    end.change(NORM, 0, |tensor| (0..128).for_each(|at| tensor.set(4 * 128 + at, 9.0)));
    let (status, text, _) = diff(&plain.write(), &end.write(), &["--relation", "prefix-cache"]);
    assert_eq!(status, 1);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in [
        "tokens 0 to 15 came from the cache and are not compared",
        &format!("first divergence: {NORM}"),
        "at [0, 20, ",
        &format!("in the candidate {NORM}: for tokens 16 to 23"),
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn what_cannot_be_aligned_is_no_verdict() {
    let plain = Run::text();
    let (written, end) = (plain.write(), plain.end_from(16).write());
    let (status, text, errors) = diff(&written, &end, &["--relation", "chunked"]);
    assert_eq!((status, text.as_str()), (2, ""));
    assert!(errors.contains("relation `chunked`: expected passes whose `input_ids` are"), "{errors}");
    assert!(errors.contains("docs/relations.md"), "{errors}");
    let (status, _, errors) =
        diff(&written, &end, &["--relation", "prefix-cache", "--names", "vllm-nemotron"]);
    assert_eq!(status, 2);
    assert!(errors.contains("expected a relation or a map of names, found both"), "{errors}");
}

#[test]
fn a_sketch_that_must_be_cut_is_named() {
    let plain = Run::text();
    let written = plain.write();
    let sketch = written.folder.path().join("sketch");
    let site = ["--sites", NORM];
    let made =
        run(&[&["sketch", written.dump.path().to_str().unwrap(), sketch.to_str().unwrap()], &site[..]]
            .concat());
    assert_eq!(made.status, 0, "{}", made.stderr);
    let pieces = plain.in_pieces(&[7, 17]).write();
    let paths = [&sketch, &pieces.dump.path().to_path_buf()].map(|path| path.to_str().unwrap().to_owned());
    let run = run(&["diff", &paths[0], &paths[1], "--relation", "chunked"]);
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("a sketch cannot be cut"), "{text}");
}
