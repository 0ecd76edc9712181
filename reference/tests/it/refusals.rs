//! Requests that cannot be answered: exit status 2, one sentence, nothing on stdout, nothing left behind.

use super::bundled::{checkpoint, golden, nvl_reference, picture};
use super::fixtures;

/// What a command says on stderr when it exits with 2 and prints nothing.
fn refusal(command: &mut assert_cmd::Command) -> String {
    let assert = command.assert().code(2).stdout("");
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

fn generate(args: &[&str]) -> assert_cmd::Command {
    let mut command = nvl_reference();
    command.arg("generate").arg("--model").arg(checkpoint()).args(args);
    command
}

#[test]
fn pictures_and_placeholders_must_be_as_many() {
    let mut command = generate(&["--prompt", "<image> and <image>", "--image"]);
    let said = refusal(command.arg(picture("purple-square.png")));
    assert!(said.contains("2 `<image>`") && said.contains("expected 1"), "{said}");
}

#[test]
fn a_context_that_is_too_small_is_refused_before_the_work() {
    let said =
        refusal(&mut generate(&["--prompt", "How many shapes are there?", "--max-new-tokens", "131072"]));
    assert_eq!(
        said,
        "error: the prompt has 24 tokens and 131072 more were asked for: the model's context is 131072 tokens\n\
         hint: ask for at most `--max-new-tokens 131048`\n"
    );
}

#[test]
fn settings_out_of_range_are_refused() {
    for (setting, value) in [
        ("temperature", "-1"),
        ("temperature", "NaN"),
        ("top_k", "0"),
        ("top_p", "0"),
        ("top_p", "1.5"),
        ("repetition_penalty", "0"),
    ] {
        let said =
            refusal(&mut generate(&["--prompt", "x", &format!("--{}={value}", setting.replace('_', "-"))]));
        let found = format!("found {value}\n");
        assert!(
            said.starts_with(&format!("error: `{setting}`: expected ")) && said.ends_with(&found),
            "{said}"
        );
    }
    let said = refusal(&mut generate(&["--prompt", "x", "--max-new-tokens", "0"]));
    assert_eq!(said, "error: `max_new_tokens`: expected at least 1, found 0\n");
    let said = refusal(&mut generate(&["--prompt", "x", "--eos-token-id", "512"]));
    assert_eq!(said, "error: `eos_token_ids`: expected ids of tokens, found 512, which none has\n");
}

#[test]
fn a_gpu_that_is_not_there_is_refused() {
    let said = refusal(&mut generate(&["--prompt", "x", "--device", "cuda:63"]));
    assert!(said.starts_with("error: device `cuda:63`: libtorch sees "), "{said}");
}

#[test]
fn a_source_checkpoint_is_not_a_normalized_one() {
    let mut command = nvl_reference();
    command.args(["generate", "--prompt", "x", "--model"]).arg(fixtures::path("checkpoints/shapes"));
    let said = refusal(&mut command);
    assert!(said.contains("config.json") && said.contains("hint: `nvl-convert convert`"), "{said}");
}

#[test]
fn a_malformed_history_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.json");
    std::fs::write(&file, r#"[{"user": "a question"}]"#).unwrap();
    let said = refusal(generate(&["--prompt", "x", "--history"]).arg(&file));
    assert!(said.contains("history.json: expected a list of turns") && said.contains("assistant"), "{said}");
}

#[test]
fn a_damaged_golden_is_refused_by_the_name_of_its_entry() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("golden");
    std::fs::create_dir(&copy).unwrap();
    for file in ["manifest.json", "tensors.safetensors"] {
        std::fs::copy(golden("shapes-text-float32").join(file), copy.join(file)).unwrap();
    }
    let file = copy.join("tensors.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let out = dir.path().join("replay");
    let mut command = nvl_reference();
    command.args(["replay", "--model"]).arg(checkpoint()).arg(&copy).arg("--record").arg(&out);
    let said = refusal(&mut command);
    assert!(said.contains("step_logits"), "{said}");
    assert!(!out.exists());
}

#[test]
fn a_failure_leaves_no_dump_behind() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("dump");
    let mut command = generate(&["--prompt", "<image>", "--record"]);
    refusal(command.arg(&out));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_library_describes_the_command_line() {
    let command = reference::arguments::command();
    assert_eq!(command.get_name(), "nvl-reference");
    let names: Vec<&str> = command.get_subcommands().map(|command| command.get_name()).collect();
    assert_eq!(names, ["generate", "run", "preprocess", "bench", "replay", "isolate", "completions", "man"]);
    command.debug_assert();
}

/// A stdout that takes nothing is told; one whose reader has seen enough is no failure.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_printed_is_no_panic() {
    let replay = |out: &std::path::Path| {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("nvl-reference"));
        command.arg("replay").arg("--model").arg(checkpoint()).arg(golden("shapes-text-float32"));
        command.arg("--record").arg(out).stderr(std::process::Stdio::piped());
        command
    };
    let folder = tempfile::tempdir().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = replay(&folder.path().join("full")).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "error: writing the answer: No space left on device (os error 28)\n");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = replay(&folder.path().join("closed")).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
