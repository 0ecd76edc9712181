//! The program: what it prints, and its exit status.

mod commands;
mod files;
mod refusals;
mod table;

use std::fs;

use assert_cmd::Command;

use crate::dumps::{Candidate, goldens};

const NAME: &str = "shapes-describe-bfloat16";

pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program in the folder of the bundled dumps.
pub fn run(arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_nvl-validate"))
        .current_dir(goldens())
        .env_remove("CLICOLOR_FORCE")
        .env_remove("COLUMNS")
        .args(arguments)
        .output()
        .unwrap();
    Run {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Compares a bundled dump with a candidate, whose folder is called `candidate` in the output.
fn diff(candidate: &Candidate, options: &[&str]) -> Run {
    let path = candidate.path();
    let path = path.to_str().unwrap();
    let mut run = run(&[&["diff", NAME, path], options].concat());
    for text in [&mut run.stdout, &mut run.stderr] {
        *text = text.replace(path, "candidate");
    }
    run
}

fn faulty() -> Candidate {
    Candidate::with(
        NAME,
        |head| head.generated_ids.as_mut().unwrap()[3] = 259,
        |_, tensor| {
            if tensor.name.starts_with("vision_model.radio_model.model.blocks.2.") {
                tensor.set(100, 32.0);
            }
            true
        },
    )
}

/// Makes the first value of a bfloat16 tensor large, on disk, without telling the manifest.
fn spoil(candidate: &Candidate, site: &str) {
    let file = candidate.path().join("tensors.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let dump = golden::Dump::open(candidate.path()).unwrap();
    let data = dump.get(site).unwrap().data().to_vec();
    let start = bytes.windows(data.len()).position(|window| window == data).unwrap();
    bytes[start..start + 2].copy_from_slice(&half::bf16::from_f32(1e6).to_le_bytes());
    fs::write(file, bytes).unwrap();
}
