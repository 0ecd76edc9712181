//! Runs of many requests: killed, resumed, sharded, with bad lines among them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use golden::Dump;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::bundled::{checkpoint, golden, nvl_reference, picture};

/// A folder with a file of requests.
pub fn requests(lines: &[Value]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("requests.jsonl");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, text).unwrap();
    (dir, file)
}

pub fn rows(file: &Path) -> Vec<Value> {
    std::fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn run(requests: &Path, out: &Path) -> assert_cmd::Command {
    let mut command = nvl_reference();
    command.args(["run", "--model"]).arg(checkpoint()).arg(requests).arg(out);
    command
}

/// What a command says on stderr.
pub fn said_by(assert: assert_cmd::assert::Assert) -> String {
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

pub fn describe(id: &str) -> Value {
    json!({"id": id, "prompt": "Describe this image.", "max_new_tokens": 12,
           "images": [picture("red-circle-above-blue-square.png")]})
}

#[test]
fn each_request_has_its_row_and_a_bad_one_its_error() {
    let history = json!({"id": "history", "system": "Answer in one word.", "max_new_tokens": 12, "logprobs": 1,
        "turns": [{"user": "<image>\nDescribe this image.", "assistant": "a purple square"},
                  {"user": "<image>\nWhat color is the circle?"}],
        "images": [picture("purple-square.png"), picture("red-circle-above-blue-square.png")]});
    let (dir, file) = requests(&[
        describe("first"),
        json!({"id": "lost", "prompt": "x", "images": ["nowhere.png"]}),
        json!(["no request"]),
        json!({"prompt": "x", "temprature": 1}),
        history,
    ]);
    let out = dir.path().join("out.jsonl");
    run(&file, &out).arg("--record").arg(dir.path().join("dumps")).assert().code(1);
    let rows = rows(&out);
    assert_eq!(rows.iter().map(|row| row["line"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(
        (&rows[0]["id"], &rows[0]["text"]),
        (&json!("first"), &json!("a red circle above a blue square"))
    );
    let nowhere = dir.path().join("nowhere.png");
    assert!(rows[1]["error"].as_str().unwrap().contains(nowhere.to_str().unwrap()), "{}", rows[1]);
    assert!(rows[2]["error"].as_str().unwrap().starts_with("line 3: expected a request"), "{}", rows[2]);
    assert!(rows[3]["error"].as_str().unwrap().contains("unknown field `temprature`"), "{}", rows[3]);

    let expected = Dump::open(golden("shapes-history-bfloat16")).unwrap();
    let history = &rows[4];
    assert_eq!(history["generated_ids"], json!(expected.manifest().generated_ids));
    assert_eq!(history["input_ids_sha256"], json!(expected.entry("input_ids").unwrap().sha256));
    assert_eq!(
        history["logprobs"].as_array().unwrap().len(),
        history["generated_ids"].as_array().unwrap().len()
    );
    assert_eq!(history["logprobs"][0]["top"][0][0], history["generated_ids"][0]);
    let dump = Dump::open(dir.path().join("dumps/000005-history")).unwrap();
    dump.verify().unwrap();
    assert_eq!(dump.manifest().request, expected.manifest().request);
    // Nobody asked for the weights of its attention, which the golden has.
    let names = |dump: &Dump| -> Vec<String> {
        let names = dump.entries().iter().map(|entry| entry.name.clone());
        names.filter(|name| !name.ends_with(".attn_weights")).collect()
    };
    assert_eq!(names(&dump), names(&expected));
    assert_eq!(dump.entries().len(), names(&dump).len());
}

#[test]
fn a_finished_run_does_nothing_more_and_keeps_its_verdict() {
    let (dir, file) = requests(&[describe("a"), json!({"id": "b"})]);
    let out = dir.path().join("out.jsonl");
    run(&file, &out).assert().code(1);
    let before = std::fs::read(&out).unwrap();
    let said = said_by(run(&file, &out).assert().code(1));
    assert!(said.contains("0 answered, 1 could not be, 2 were done before"), "{said}");
    assert_eq!(std::fs::read(&out).unwrap(), before);
}

#[test]
fn a_killed_run_is_taken_up_without_doing_or_losing_a_request() {
    let ids: Vec<String> = (0..24).map(|index| format!("request-{index}")).collect();
    let (dir, file) = requests(&ids.iter().map(|id| describe(id)).collect::<Vec<_>>());
    let out = dir.path().join("out.jsonl");
    let mut kills = 0;
    for attempt in 0_u64.. {
        assert!(attempt < 200, "the run never ends");
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("nvl-reference"))
            .args(["run", "--threads", "1", "--model"])
            .args([checkpoint(), file.as_path(), out.as_path()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Later and later, so that every run but the first few gets to some requests.
        std::thread::sleep(Duration::from_millis(200 + 53 * attempt));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 0, "no run was killed");
    let rows = rows(&out);
    assert_eq!(rows.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    assert!(rows.iter().all(|row| row["text"] == "a red circle above a blue square"));
}

#[test]
fn one_signal_ends_a_run_within_its_request() {
    // No token of the tokenizer's ends the second answer: it goes on for thousands.
    let long = json!({"id": "long", "prompt": "Describe.", "max_new_tokens": 20_000, "eos_token_ids": [511]});
    let (dir, file) = requests(&[describe("short"), long]);
    let out = dir.path().join("out.jsonl");
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("nvl-reference"))
        .args(["run", "--model"])
        .args([checkpoint(), file.as_path(), out.as_path()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while std::fs::read_to_string(&out).map_or(0, |text| text.lines().count()) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it had answered");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    // The request under way has no row, and is answered when the run is taken up again.
    assert_eq!(rows(&out).iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>(), ["short"]);
}

#[test]
fn a_row_that_was_cut_off_is_made_anew() {
    let (dir, file) = requests(&[describe("a"), describe("b")]);
    let out = dir.path().join("out.jsonl");
    run(&file, &out).assert().success();
    let whole = rows(&out);
    let bytes = std::fs::read(&out).unwrap();
    std::fs::write(&out, &bytes[..bytes.len() - 20]).unwrap();
    run(&file, &out).assert().success();
    let again = rows(&out);
    let answers =
        |rows: &[Value]| rows.iter().map(|row| (row["id"].clone(), row["text"].clone())).collect::<Vec<_>>();
    assert_eq!(answers(&again), answers(&whole));
}

#[test]
fn shards_share_the_requests() {
    let ids = ["a", "b", "c", "d", "e"];
    let (dir, file) = requests(&ids.map(describe));
    let mut found = Vec::new();
    for (shard, expected) in [("0/2", vec![1, 3, 5]), ("1/2", vec![2, 4])] {
        let out = dir.path().join(format!("out-{}.jsonl", &shard[..1]));
        run(&file, &out).args(["--shard", shard]).assert().success();
        let lines: Vec<_> = rows(&out).iter().map(|row| row["line"].as_u64().unwrap()).collect();
        assert_eq!(lines, expected);
        found.extend(lines);
    }
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3, 4, 5]);
}

#[test]
fn two_requests_of_one_name_are_refused() {
    let (dir, file) = requests(&[describe("a"), describe("b"), describe("a")]);
    let said = said_by(run(&file, &dir.path().join("out.jsonl")).assert().code(2));
    assert!(said.contains("line 3: expected a unique id, found that of line 1: `a`"), "{said}");
}

#[test]
fn a_line_that_cannot_be_read_costs_no_other() {
    let (dir, file) = requests(&[]);
    let out = dir.path().join("out.jsonl");
    let (first, last) = (describe("first").to_string(), describe("last").to_string());
    let bytes =
        [b"\xef\xbb\xbf", first.as_bytes(), b"\n{\"prompt\": \"caf\xe9\"}\n", last.as_bytes()].concat();
    std::fs::write(&file, bytes).unwrap();
    run(&file, &out).assert().code(1);
    let rows = rows(&out);
    assert_eq!((&rows[0]["id"], &rows[2]["id"]), (&json!("first"), &json!("last")));
    assert_eq!(rows[0]["text"], rows[2]["text"]);
    assert_eq!(rows[1]["error"], "line 2, byte 16: expected UTF-8, found 0xe9: the file may be in Latin-1");
}

#[cfg(target_os = "linux")]
#[test]
fn a_request_that_memory_has_no_room_for_costs_no_other() {
    let long = "word ".repeat(25_000);
    let (dir, file) =
        requests(&[json!({"id": "long", "prompt": long, "max_new_tokens": 1}), describe("short")]);
    let out = dir.path().join("out.jsonl");
    // As many as this leave no room for the scores of eager attention, whatever the machine.
    let mut command = Command::new("prlimit");
    command.arg(format!("--as={}", 24_u64 << 30)).arg(assert_cmd::cargo::cargo_bin("nvl-reference"));
    command.args(["run", "--math", "exact", "--model"]).args([checkpoint(), &file, &out]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = rows(&out);
    let said = rows[0]["error"].as_str().unwrap();
    assert!(said.starts_with("the scores of eager attention would take "), "{said}");
    assert!(rows[0]["hint"].as_str().unwrap().contains("--attention sdpa"));
    assert_eq!(rows[1]["text"], "a red circle above a blue square");
}
