//! Files of a checkpoint, a dump or a user that are damaged, endless, or ask for everything.

use std::path::{Path, PathBuf};

use golden::Dump;
use reference::prompt::{AnswerStream, Tokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::bundled::{checkpoint, copy_folder, copy_of_checkpoint, golden, nvl_reference, picture};
use super::fixtures;
use super::run::{describe, requests, rows, said_by};

fn generate(model: &Path, more: &[&str]) -> assert_cmd::Command {
    let mut command = nvl_reference();
    command
        .args(["generate", "--prompt", "Describe this image.", "--max-new-tokens", "3", "--model"])
        .arg(model);
    command.arg("--image").arg(picture("purple-square.png")).args(more);
    command
}

/// Sets the first number in a row of a bfloat16 tensor of the checkpoint.
fn set_first_of_row(model: &Path, tensor: &str, row: usize, bits: u16) {
    let path = model.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    assert_eq!(header[tensor]["dtype"], "BF16");
    let width = header[tensor]["shape"].as_array().unwrap().last().unwrap().as_u64().unwrap() as usize;
    let begin = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    let at = 8 + header_bytes + begin + 2 * width * row;
    bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn logits_that_are_not_finite_are_an_error_with_their_step() {
    let (dir, model) = copy_of_checkpoint();
    set_first_of_row(&model, "language_model.model.norm.weight", 0, 0x7fc0);
    let expected =
        "the logits of step 1: expected 512 finite numbers, found 512 that are not, the first of them NaN";
    let said = said_by(generate(&model, &[]).assert().code(2).stdout(""));
    assert!(said.contains(expected) && said.contains("hint: a weight that is not finite"), "{said}");
    generate(&model, &["--temperature", "1", "--top-p", "0.5", "--json"]).assert().code(2).stdout("");

    let out = dir.path().join("replay");
    let mut replay = nvl_reference();
    replay
        .arg("replay")
        .arg("--model")
        .arg(&model)
        .arg(golden("shapes-text-float32"))
        .arg("--record")
        .arg(&out);
    let said = said_by(replay.assert().code(2));
    assert!(said.contains(expected), "{said}");
    assert!(!out.exists());

    let (requests_dir, file) = requests(&[describe("a"), json!({"id": "b"})]);
    let answers = requests_dir.path().join("out.jsonl");
    nvl_reference().args(["run", "--model"]).arg(&model).arg(&file).arg(&answers).assert().code(1);
    let rows = rows(&answers);
    assert!(rows[0]["error"].as_str().unwrap().starts_with(expected), "{}", rows[0]);
    assert_eq!(rows.len(), 2);
}

#[test]
fn a_step_after_the_first_is_named_too() {
    // The embedding of the answer's second token is infinite: the third step, which is given it, is the first that sees it.
    let (_dir, model) = copy_of_checkpoint();
    let assert = generate(&model, &["--json"]).assert().success();
    let answer: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    let second = answer["generated_ids"][1].as_u64().unwrap() as usize;
    set_first_of_row(&model, "language_model.model.embed_tokens.weight", second, 0x7f80);
    let said = said_by(generate(&model, &[]).assert().code(2));
    assert!(said.contains("the logits of step 3: expected 512 finite numbers"), "{said}");
}

/// A copy of a golden with another number of threads in its manifest.
fn golden_of_threads(threads: u64) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("golden");
    copy_folder(&golden("shapes-text-float32"), &copy);
    let path = copy.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["producer"]["threads"] = threads.into();
    std::fs::write(&path, manifest.to_string()).unwrap();
    (dir, copy)
}

#[test]
fn a_dump_of_any_number_of_threads_is_replayed_and_told() {
    for (threads, used) in [(100_000, 1024), (u64::MAX, 1024), (0, 1)] {
        let (dir, golden) = golden_of_threads(threads);
        let out = dir.path().join("out");
        let mut replay = nvl_reference();
        replay.arg("replay").arg("--model").arg(checkpoint()).arg(&golden).arg("--record").arg(&out);
        let said = said_by(replay.assert().success());
        let expected = format!(
            "warning: `producer.threads`: expected 1 to 1024, found {threads}: this run has {used}, and sums may differ"
        );
        assert!(said.contains(&expected), "{said}");
        assert_eq!(Dump::open(&out).unwrap().manifest().producer.threads, Some(used));
    }
    let (dir, golden) = golden_of_threads(100_000);
    let mut replay = nvl_reference();
    replay.args(["replay", "--threads", "2", "--model"]).arg(checkpoint()).arg(&golden);
    let said = said_by(replay.arg("--record").arg(dir.path().join("out")).assert().success());
    assert!(!said.contains("producer.threads"), "{said}");
}

#[test]
fn pipes_and_devices_in_place_of_files_are_refused_and_nothing_waits() {
    let (dir, model) = copy_of_checkpoint();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        let (path, kept) = (model.join(name), dir.path().join(name));
        std::fs::rename(&path, &kept).unwrap();
        for make in [&["mkfifo"][..], &["ln", "-s", "/dev/zero"]] {
            assert!(
                std::process::Command::new(make[0]).args(&make[1..]).arg(&path).status().unwrap().success()
            );
            let said = said_by(generate(&model, &[]).assert().code(2));
            assert!(said.contains(name) && said.contains("expected a regular file, found a "), "{said}");
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::rename(&kept, &path).unwrap();
    }
    let said = said_by(generate(&model, &["--history", "/dev/zero"]).assert().code(2));
    assert!(said.contains("expected a regular file, found a device"), "{said}");
    let pipe = dir.path().join("video.mp4");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let said = said_by(generate(&model, &["--video", pipe.to_str().unwrap()]).assert().code(2));
    assert!(said.contains("video.mp4") && said.contains("expected a regular file, found a pipe"), "{said}");
}

/// A generator of numbers that does the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// Every value of a document, as a path.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => {
            // Of a vocabulary a few say as much as all.
            for (key, value) in map.iter().take(12) {
                paths(value, &format!("{path}/{}", escaped(key)), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate().take(4) {
                paths(value, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// What a value may become.
fn strange(numbers: &mut Numbers) -> Value {
    let kinds = [
        json!(null),
        json!(-1),
        json!(0),
        json!(4_294_967_295_u32),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("\u{fffd}"),
        json!("<image>"),
        json!([]),
        json!({}),
        json!(true),
        json!([[0, 0], ["a"]]),
        json!({"type": "BPE", "vocab": {}, "merges": []}),
        json!({"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}),
        json!({"type": "Unigram", "unk_id": 7, "vocab": [["a", -1.0]]}),
        json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
               "max_input_chars_per_word": 0, "vocab": {}}),
        json!({"type": "WordLevel", "vocab": {}, "unk_token": ""}),
        json!({"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": ""}),
        json!({"type": "Replace", "pattern": {"String": ""}, "content": "aaaa"}),
        json!({"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": true}),
        json!({"type": "Split", "pattern": {"String": ""}, "behavior": "MergedWithNext", "invert": false}),
        json!({"type": "Strip", "content": " ", "start": 18446744073709551615_u64, "stop": 18446744073709551615_u64}),
        json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true}),
        json!({"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}),
        json!({"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": true}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Sequence", "normalizers": [], "pretokenizers": [], "decoders": [], "processors": []}),
    ];
    kinds[numbers.below(kinds.len())].clone()
}

#[test]
fn a_damaged_tokenizer_never_panics_and_its_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let source = fixtures::path("checkpoints/shapes");
    std::fs::copy(source.join("tokenizer_config.json"), dir.path().join("tokenizer_config.json")).unwrap();
    let text = std::fs::read_to_string(source.join("tokenizer.json")).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    let mut places = Vec::new();
    paths(&whole, "", &mut places);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut refused = 0;
    for attempt in 0..400 {
        let damaged = if attempt % 4 == 0 {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..3 {
                let at = numbers.below(bytes.len());
                bytes[at] = b"0\"{}[],:-x"[numbers.below(10)];
            }
            bytes
        } else {
            let mut document = whole.clone();
            for _ in 0..=numbers.below(2) {
                let place = &places[1 + numbers.below(places.len() - 1)];
                let value = strange(&mut numbers);
                if let Some(there) = document.pointer_mut(place) {
                    *there = value;
                }
            }
            document.to_string().into_bytes()
        };
        std::fs::write(dir.path().join("tokenizer.json"), &damaged).unwrap();
        let used = Tokenizer::load(dir.path()).and_then(|tokenizer| {
            let ids =
                tokenizer.encode("<|begin_of_text|>A question about <image>, na\u{ef}ve \u{1f600}?\n")?;
            tokenizer.answer(&ids)?;
            let mut stream = AnswerStream::new(&tokenizer);
            for id in ids.into_iter().chain([0, 7, 490, 511]) {
                stream.push(id)?;
            }
            stream.finish()
        });
        if let Err(error) = used {
            let said = error.to_string();
            assert!(said.contains("tokenizer") && !said.contains('\n'), "{said}");
            refused += 1;
        }
    }
    assert!(refused > 50, "{refused}");
}
