//! Runs that are taken up again: only the answers to the same requests are kept, and only a run's own files are written to.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::bundled::{self, copy_folder, nvl_reference, picture};
use super::run::{describe, requests, rows, run, said_by};

/// A request that says everything, and its pictures beside it.
fn everything() -> (TempDir, PathBuf, PathBuf) {
    let request = json!({"id": "all", "system": "Answer in one word.", "prompt": "<image> <video> What is it?",
        "images": ["a.png"], "videos": ["video"], "num_frames": 1, "max_new_tokens": 2, "temperature": 0.5, "top_k": 3,
        "top_p": 0.9, "repetition_penalty": 1.1, "seed": 7, "eos_token_ids": [490], "stop": ["never"], "logprobs": 1});
    let (dir, file) = requests(&[request]);
    std::fs::copy(picture("purple-square.png"), dir.path().join("a.png")).unwrap();
    std::fs::create_dir(dir.path().join("video")).unwrap();
    for (frame, file) in
        [("0.png", "purple-square.png"), ("1.png", "green-triangle-left-of-yellow-circle.png")]
    {
        std::fs::copy(picture(file), dir.path().join("video").join(frame)).unwrap();
    }
    let out = dir.path().join("out.jsonl");
    run(&file, &out).assert().success();
    (dir, file, out)
}

/// Runs again, which must refuse and change nothing, and gives what it says.
fn refused(file: &Path, out: &Path, more: &[&str]) -> String {
    let before = std::fs::read(out).unwrap();
    let said = said_by(run(file, out).args(more).assert().code(2));
    assert_eq!(std::fs::read(out).unwrap(), before, "{said}");
    said
}

#[test]
fn any_field_that_was_another_is_named() {
    let (dir, file, out) = everything();
    let request: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let changes = [
        ("system", json!("Answer in two words.")),
        ("prompt", json!("<image> <video> What is that?")),
        ("num_frames", json!(2)),
        ("max_new_tokens", json!(3)),
        ("temperature", json!(0.6)),
        ("top_k", json!(4)),
        ("top_p", json!(0.8)),
        ("repetition_penalty", json!(1.2)),
        ("seed", json!(8)),
        ("eos_token_ids", json!([491])),
        ("stop", json!(["ever"])),
        ("logprobs", json!(2)),
    ];
    let write = |request: &Value| std::fs::write(&file, format!("{request}\n")).unwrap();
    for (field, value) in changes {
        for changed in [value, Value::Null] {
            let mut other = request.clone();
            match changed {
                Value::Null => _ = other.as_object_mut().unwrap().remove(field),
                value => other[field] = value,
            }
            write(&other);
            let said = refused(&file, &out, &[]);
            let named = format!("line 1 of the requests (`all`): `{field}`: expected ");
            // Without a prompt it is no request, and that is the first difference.
            assert!(
                said.contains(&named) || (field == "prompt" && said.contains("`prompt`")),
                "{field}: {said}"
            );
            assert!(said.contains("hint: `--force` removes all answers"), "{said}");
        }
    }
    let mut turns = request.clone();
    turns["turns"] = json!([{"user": turns["prompt"].take()}]);
    write(&turns);
    assert!(refused(&file, &out, &[]).contains("`prompt`"));
    let mut renamed = request.clone();
    renamed["id"] = json!("another");
    write(&renamed);
    assert!(refused(&file, &out, &[]).contains("is `another`, and was `all` when it was answered"));

    write(&request);
    for (field, path) in [("images", "a.png"), ("videos", "video/0.png")] {
        let path = dir.path().join(path);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::copy(picture("red-circle-above-blue-square.png"), &path).unwrap();
        assert!(
            refused(&file, &out, &[]).contains(&format!("`{field}`: expected the one that was answered"))
        );
        std::fs::remove_file(&path).unwrap();
        assert!(refused(&file, &out, &[]).contains(&format!("`{field}`")));
        std::fs::write(&path, bytes).unwrap();
    }
    // As it was, whatever its file is called, with its defaults written out or not, it is done.
    let mut same = request.clone();
    same["turns"] = json!([]);
    std::fs::rename(dir.path().join("a.png"), dir.path().join("b.png")).unwrap();
    same["images"] = json!(["b.png"]);
    write(&same);
    let said = said_by(run(&file, &out).assert().success());
    assert!(said.contains("1 were done before"), "{said}");
}

#[test]
fn another_way_to_compute_is_named() {
    let (dir, file, out) = everything();
    let dumps = dir.path().join("dumps");
    for (field, more) in [
        ("dtype", &["--dtype", "float32"][..]),
        ("math", &["--math", "exact"]),
        ("attention", &["--attention", "eager"]),
        ("pixel_values_dtype", &["--pixel-values-dtype", "model"]),
        ("sites", &["--math", "fast", "--record", dumps.to_str().unwrap()]),
    ] {
        let said = refused(&file, &out, more);
        assert!(said.contains(&format!("line 1 of the requests (`all`): `{field}`: expected ")), "{said}");
    }
    assert!(!dumps.exists());
    // Another checkpoint, and the same one elsewhere.
    let (other, moved) = (dir.path().join("other"), dir.path().join("moved"));
    bundled::convert(&other, false);
    let with_model = |model: &Path| {
        let mut command = nvl_reference();
        command.args(["run", "--model"]).arg(model).arg(&file).arg(&out);
        command
    };
    let said = said_by(with_model(&other).assert().code(2));
    assert!(said.contains("`checkpoint`: expected the one that was answered"), "{said}");
    copy_folder(bundled::checkpoint(), &moved);
    with_model(&moved).assert().success();
    let template = moved.join("chat_template.jinja");
    std::fs::write(&template, format!("{} ", std::fs::read_to_string(&template).unwrap())).unwrap();
    with_model(&moved).assert().code(2);
    with_model(&dir.path().join("nowhere")).assert().code(2);
}

#[test]
fn rows_of_requests_that_are_gone_are_refused() {
    let (dir, file) = requests(&[describe("a"), describe("b")]);
    let out = dir.path().join("out.jsonl");
    run(&file, &out).assert().success();
    std::fs::write(&file, format!("{}\n", describe("a"))).unwrap();
    let said = refused(&file, &out, &[]);
    assert!(
        said.contains(
            "line 2 answers `b`, line 2 of the requests: expected a request of this run, found none"
        ),
        "{said}"
    );
    // A row of another shard's.
    std::fs::write(&file, format!("{}\n{}\n", describe("a"), describe("b"))).unwrap();
    assert!(refused(&file, &out, &["--shard", "1/2"]).contains("line 1 answers `a`"));
    // A line that another was put in front of.
    std::fs::write(&file, format!("\n{}\n{}\n", describe("a"), describe("b"))).unwrap();
    assert!(refused(&file, &out, &[]).contains("line 1 answers `a`"));
}

#[test]
fn force_begins_anew() {
    let (_dir, file, out) = everything();
    std::fs::write(&file, format!("{}\n", describe("a"))).unwrap();
    refused(&file, &out, &[]);
    run(&file, &out).arg("--force").assert().success();
    assert_eq!(
        rows(&out).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>(),
        ["a"]
    );
    // Damaged answers as well, but no other file.
    std::fs::write(&out, [&std::fs::read(&out).unwrap()[..], b"damaged\n"].concat()).unwrap();
    run(&file, &out).arg("--force").assert().success();
    assert_eq!(rows(&out).len(), 1);
    std::fs::write(&out, "notes of mine\n").unwrap();
    assert!(refused(&file, &out, &["--force"]).contains("line 1: expected a row of an earlier run"));
}

#[test]
fn only_what_begins_as_a_row_is_ever_cut() {
    let (dir, file) = requests(&[describe("a"), describe("b")]);
    let out = dir.path().join("out.jsonl");
    run(&file, &out).assert().success();
    let whole = std::fs::read(&out).unwrap();
    let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let requests = std::fs::read(&file).unwrap();
    let foreign: [&[u8]; 12] = [
        b"notes of mine, without an end",
        b"notes of mine\n",
        b"notes\nin two lines",
        b"\n",
        b"{",
        b"{\"line\":",
        b"{\"line\": 1, \"id\": \"a\"}",
        b"\x89PNG\r\n\x1a\n\0\0\0",
        b"\0\0\0\0",
        &requests,
        requests.trim_ascii_end(),
        br#"{"line":1,"id":"a","text":"of an earlier release"}"#,
    ];
    for bytes in foreign {
        for before in [&[][..], &whole[..first]] {
            let bytes = [before, bytes].concat();
            std::fs::write(&out, &bytes).unwrap();
            if bytes.trim_ascii().is_empty() || bytes == [&whole[..first], b"\n"].concat() {
                continue;
            }
            let said = refused(&file, &out, &[]);
            assert!(said.contains(": expected a row"), "{said}");
        }
    }
    // What is cut off of a row, wherever, is made anew; what is only without its line break is kept.
    for end in [first + 20, first + 100, whole.len() - 80, whole.len() - 2, whole.len() - 1] {
        std::fs::write(&out, &whole[..end]).unwrap();
        let said = said_by(run(&file, &out).assert().success());
        let done = if end == whole.len() - 1 { 2 } else { 1 };
        assert!(said.contains(&format!("{done} were done before")), "{end}: {said}");
        assert_eq!(rows(&out).len(), 2);
        assert_eq!(std::fs::read(&out).unwrap().last(), Some(&b'\n'));
    }
}

#[test]
fn requests_and_answers_are_never_one_file() {
    let (dir, file) = requests(&[describe("a")]);
    let bytes = std::fs::read(&file).unwrap();
    let (link, hard) = (dir.path().join("link.jsonl"), dir.path().join("hard.jsonl"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::fs::hard_link(&file, &hard).unwrap();
    let never = |requests: &Path, out: &Path| {
        for more in [&[][..], &["--force"]] {
            let said = refused(requests, out, more);
            assert!(said.contains("expected a file for answers, found the file of requests"), "{said}");
        }
    };
    for (requests, out) in [(&file, &file), (&file, &link), (&link, &file), (&file, &hard), (&hard, &link)] {
        never(requests, out);
    }
    // Without a line break at the end, and with nothing in it.
    for content in [bytes.trim_ascii_end(), &[]] {
        std::fs::write(&file, content).unwrap();
        never(&file, &file);
    }
}

#[test]
fn exchanged_arguments_are_refused() {
    let (dir, file) = requests(&[describe("a")]);
    let out = dir.path().join("out.jsonl");
    run(&file, &out).assert().success();
    let bytes = std::fs::read(&file).unwrap();
    for more in [&[][..], &["--force"]] {
        let said = refused(&out, &file, more);
        assert!(said.contains("out.jsonl: expected requests, found answers of an earlier run"), "{said}");
    }
    // Before there are answers.
    std::fs::write(&out, "").unwrap();
    let said = refused(&out, &file, &[]);
    assert!(said.contains("requests.jsonl: line 1: expected a row of an earlier run"), "{said}");
    std::fs::remove_file(&out).unwrap();
    refused(&out, &file, &["--force"]);
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}

#[test]
fn what_is_no_file_is_not_written_to() {
    let (dir, file) = requests(&[describe("a")]);
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for out in [pipe.as_path(), dir.path(), Path::new("/dev/null")] {
        let said = said_by(run(&file, out).assert().code(2));
        assert!(said.contains("found a folder, a pipe or a device"), "{said}");
    }
    let said = said_by(run(&pipe, &dir.path().join("out.jsonl")).assert().code(2));
    assert!(said.contains("pipe: expected a regular file, found a pipe"), "{said}");
    assert!(!dir.path().join("out.jsonl").exists());
}

/// A generator of numbers that does the same every time.
fn numbers() -> impl FnMut(usize) -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

#[test]
fn damaged_answers_are_refused_by_their_line() {
    use reference::run::Outcomes;
    let (dir, file) = requests(&[describe("a"), json!({"id": "b"}), describe("c")]);
    let out = dir.path().join("out.jsonl");
    run(&file, &out).assert().code(1);
    let whole = std::fs::read(&out).unwrap();
    let mut next = numbers();
    let mut cut = 0;
    for attempt in 0..500 {
        let mut bytes = whole.clone();
        let at = next(bytes.len());
        match attempt % 4 {
            0 => bytes[at] ^= 1 << next(8),
            1 => _ = bytes.remove(at),
            2 => bytes.insert(at, whole[next(whole.len())]),
            _ => {
                let end = (at + 1 + next(40)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
        if bytes == whole {
            continue;
        }
        std::fs::write(&out, &bytes).unwrap();
        // Another test's child has the lock of the last attempt, too, until it runs its program.
        let opened = loop {
            match Outcomes::open(&out, &file, false) {
                Err(error) if error.to_string().ends_with("another run is writing to it") => {
                    std::thread::yield_now();
                }
                opened => break opened,
            }
        };
        match opened {
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains(": line "), "{said}");
                assert_eq!(std::fs::read(&out).unwrap(), bytes, "{said}");
            }
            // What is left are whole rows; the last one may be gone, or have got back its line break.
            Ok(_) => {
                let left = std::fs::read(&out).unwrap();
                let rest = whole.strip_prefix(left.as_slice());
                let blank =
                    String::from_utf8(left.clone()).unwrap().replace("\n\n", "\n").trim_start().as_bytes()
                        == whole;
                assert!(
                    blank || rest.is_some_and(|rest| rest.iter().filter(|&&byte| byte == b'\n').count() <= 1)
                );
                cut += 1;
            }
        }
    }
    assert!(cut < 50, "{cut}");
}
