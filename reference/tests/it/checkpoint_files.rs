//! Files of a checkpoint's folder that are not what its conversion wrote.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::bundled::{copy_of_checkpoint, nvl_reference, picture};

fn preprocess(model: &Path) -> std::process::Output {
    let out = tempfile::tempdir().unwrap();
    nvl_reference()
        .args(["preprocess", "--prompt", "What is it?", "--image"])
        .arg(picture("purple-square.png"))
        .arg("--model")
        .arg(model)
        .arg("--out")
        .arg(out.path().join("dump"))
        .output()
        .unwrap()
}

#[test]
fn a_template_that_the_ledger_does_not_have_is_told() {
    let (_dir, model) = copy_of_checkpoint();
    let output = preprocess(&model);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let path = model.join("conversion.json");
    let mut ledger: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let files = ledger["files"].as_array_mut().unwrap();
    let before = files.len();
    files.retain(|file| file["name"] != "chat_template.jinja");
    assert_eq!(files.len(), before - 1);
    fs::write(&path, ledger.to_string()).unwrap();
    let output = preprocess(&model);
    assert_eq!(output.status.code(), Some(0));
    let template = model.join("chat_template.jinja");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!(
            "warning: `{}` is not in the checkpoint's ledger: it was put there later\n",
            template.display()
        )
    );
}

#[test]
fn a_pointer_of_git_lfs_is_named_with_what_to_do() {
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"] {
        let (_dir, model) = copy_of_checkpoint();
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 17209920\n";
        fs::write(model.join(name), pointer).unwrap();
        let output = preprocess(&model);
        assert_eq!(output.status.code(), Some(2), "{name}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("{name}`: expected ")), "{said}");
        assert!(
            said.contains("found a Git LFS pointer to a file of 17209920 bytes\nhint: `git lfs pull`"),
            "{said}"
        );
    }
}

#[test]
fn a_nan_that_no_prompt_needs_is_read_over() {
    let (_dir, model) = copy_of_checkpoint();
    let path = model.join("tokenizer_config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen('{', "{\"loss\": NaN,", 1)).unwrap();
    assert_eq!(preprocess(&model).status.code(), Some(0));
    fs::write(&path, text.replacen('{', "{\"unk_token\": NaN,", 1)).unwrap();
    let output = preprocess(&model);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.ends_with("tokenizer_config.json`: `unk_token`: expected a token, found `NaN`\n"), "{said}");
}
