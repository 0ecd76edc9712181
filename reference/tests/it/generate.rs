//! Answers from the picture and the text up.

use golden::Dump;
use serde_json::Value;

use super::bundled::{checkpoint, golden, nvl_reference, picture};
use super::fixtures;

fn generate(args: &[&str]) -> assert_cmd::Command {
    let mut command = nvl_reference();
    command.args(["generate", "--max-new-tokens", "12", "--model"]).arg(checkpoint()).args(args);
    command
}

#[test]
fn answers_a_question_about_a_picture_as_the_golden_does() {
    generate(&["--prompt", "Describe this image."])
        .arg("--image")
        .arg(picture("red-circle-above-blue-square.png"))
        .assert()
        .success()
        .stdout("a red circle above a blue square\n");
}

#[test]
fn answers_without_a_picture() {
    generate(&["--prompt", "How many shapes are there?", "--dtype", "float32"])
        .assert()
        .success()
        .stdout("one\n");
}

#[test]
fn a_recording_of_a_request_is_the_golden_of_that_request() {
    let dir = tempfile::tempdir().unwrap();
    let (out, history) = (dir.path().join("dump"), dir.path().join("history.json"));
    std::fs::write(
        &history,
        r#"[{"user": "<image>\nDescribe this image.", "assistant": "a purple square"}]"#,
    )
    .unwrap();
    generate(&[
        "--prompt",
        "<image>\nWhat color is the circle?",
        "--system",
        "Answer in one word.",
        "--threads",
        "1",
        "--attention",
        "eager",
        "--attn-weights",
    ])
    .arg("--history")
    .arg(&history)
    .arg("--image")
    .arg(picture("purple-square.png"))
    .arg("--image")
    .arg(picture("red-circle-above-blue-square.png"))
    .arg("--record")
    .arg(&out)
    .assert()
    .success()
    .stdout("blue\n");
    let actual = Dump::open(&out).unwrap();
    let expected = Dump::open(golden("shapes-history-bfloat16")).unwrap();
    actual.verify().unwrap();
    assert_eq!(actual.manifest().request, expected.manifest().request);
    assert_eq!(actual.manifest().prompt, expected.manifest().prompt);
    assert_eq!(actual.manifest().generated_ids, expected.manifest().generated_ids);
    let names = |dump: &Dump| dump.entries().iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&actual), names(&expected));
    for input in ["pixel_values", "input_ids"] {
        assert_eq!(actual.entry(input).unwrap().sha256, expected.entry(input).unwrap().sha256, "{input}");
    }
}

#[test]
fn chosen_sites_are_recorded_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("dump");
    generate(&[
        "--prompt",
        "How many shapes are there?",
        "--sites",
        "*.mlp",
        "--sites",
        "inputs_embeds",
        "--record",
    ])
    .arg(&out)
    .assert()
    .success();
    let names: Vec<_> = Dump::open(&out).unwrap().entries().iter().map(|entry| entry.name.clone()).collect();
    let layers = (0..4).map(|layer| format!("language_model.model.layers.{layer}.mlp"));
    assert_eq!(names, ["inputs_embeds".to_owned()].into_iter().chain(layers).collect::<Vec<_>>());
}

#[test]
fn json_has_the_ids_and_the_reason_of_the_end() {
    let ask = |tokens: &str| -> Value {
        let assert = nvl_reference()
            .args([
                "generate",
                "--json",
                "--prompt",
                "Describe this image.",
                "--max-new-tokens",
                tokens,
                "--model",
            ])
            .arg(checkpoint())
            .arg("--image")
            .arg(picture("green-triangle-left-of-yellow-circle.png"))
            .assert()
            .success();
        serde_json::from_slice(&assert.get_output().stdout).unwrap()
    };
    let whole = ask("12");
    let golden = Dump::open(golden("shapes-wide-bfloat16")).unwrap();
    let ids: Vec<i64> = serde_json::from_value(whole["generated_ids"].clone()).unwrap();
    assert_eq!(Some(ids), golden.manifest().generated_ids.clone());
    assert_eq!((&whole["finish_reason"], &whole["tiles"]), (&"stop".into(), &serde_json::json!([3])));
    let cut = ask("2");
    assert_eq!((&cut["finish_reason"], &cut["generated_tokens"]), (&"length".into(), &2.into()));
}

#[test]
fn any_of_several_tokens_ends_the_answer() {
    let answer = |ids: &[i64]| -> Value {
        let ids: Vec<String> = ids.iter().map(|id| format!("--eos-token-id={id}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let assert = generate(&["--json", "--prompt", "Describe this image."])
            .args(ids)
            .arg("--image")
            .arg(picture("red-circle-above-blue-square.png"))
            .assert()
            .success();
        serde_json::from_slice(&assert.get_output().stdout).unwrap()
    };
    let ids: Vec<i64> = serde_json::from_value(answer(&[])["generated_ids"].clone()).unwrap();
    // "a red circle above": whichever of the two comes first.
    for end in [&[ids[3], ids[5]], &[ids[5], ids[3]]] {
        let ended = answer(end);
        assert_eq!(ended["generated_ids"], serde_json::json!(ids[..=3]));
        assert_eq!((&ended["finish_reason"], &ended["text"]), (&"stop".into(), &"a red circle".into()));
    }
    let last = *ids.last().unwrap();
    assert_eq!(answer(&[last])["text"], "a red circle above a blue square");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_an_answer_without_a_dump() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("dump");
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("nvl-reference"))
        .args(["generate", "--prompt", "Describe this image.", "--temperature", "50"])
        // No token of this vocabulary ends it: it goes on for minutes.
        .args(["--eos-token-id", "0", "--max-new-tokens", "100000", "--model"])
        .arg(checkpoint())
        .arg("--record")
        .arg(&out)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Its first words say that it listens.
    let mut first = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_seed_draws_the_same_tokens_again() {
    let ask = |seed: &str| {
        let assert = generate(&["--prompt", "Describe this image.", "--temperature", "5", "--seed", seed])
            .assert()
            .success();
        String::from_utf8(assert.get_output().stdout.clone()).unwrap()
    };
    assert_eq!(ask("1"), ask("1"));
    assert_ne!(ask("1"), ask("2"));
}

#[test]
fn the_converted_tokenizer_is_the_source_s() {
    let read = |dir: &std::path::Path| std::fs::read(dir.join("tokenizer.json")).unwrap();
    assert_eq!(read(checkpoint()), read(&fixtures::path("checkpoints/shapes")));
}

#[test]
fn a_stop_string_ends_the_answer_in_front_of_it() {
    generate(&["--prompt", "Describe this image.", "--stop", "nothing", "--stop", " above"])
        .arg("--image")
        .arg(picture("red-circle-above-blue-square.png"))
        .assert()
        .success()
        .stdout("a red circle\n");
}

#[test]
fn a_benchmark_counts_what_it_measured() {
    let assert = nvl_reference()
        .args([
            "bench",
            "--json",
            "--runs",
            "1",
            "--prompt-tokens",
            "5",
            "--new-tokens",
            "3",
            "--tiles",
            "2",
            "--model",
        ])
        .arg(checkpoint())
        .assert()
        .success();
    let report: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    // Two tiles of 16 tokens; bfloat16 weights of 4 layers, the last norm and lm_head.
    let layer = 2 * 128 * (4 + 2) * 32 + 3 * 128 * 352 + 2 * 128;
    assert_eq!((&report["prompt_tokens"], &report["decoded_tokens"]), (&37.into(), &3.into()));
    assert_eq!(report["weight_bytes_per_token"], 2 * (4 * layer + 128 + 512 * 128));
    for time in ["vision_secs", "prefill_secs", "decode_secs_per_token", "memory_gb_per_sec"] {
        assert!(report[time].as_f64().unwrap() > 0.0, "{time}");
    }
}
