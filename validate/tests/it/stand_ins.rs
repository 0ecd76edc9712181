//! Files in whose place something else stands.

use std::fs;

use golden::Dump;
use validate::{Error, NameMap, Policy, Tokens};

use crate::dumps::Candidate;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4096\n";

#[test]
fn a_pointer_of_git_lfs_is_named_wherever_a_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, POINTER).unwrap();
    for (error, expected) in [
        (Policy::read(&file).map(drop).map_err(Error::from), "a policy in TOML"),
        (NameMap::read(file.to_str().unwrap()).map(drop), "a name map in TOML"),
        (Tokens::read(&file).map(drop), "a tokenizer"),
    ] {
        let error = error.unwrap_err();
        let is_content = match &error {
            Error::Content { .. } => true,
            Error::Measure(error) => matches!(**error, measure::Error::Content { .. }),
            _ => false,
        };
        assert!(is_content, "{error:?}");
        let found = format!("`: expected {expected}, found a Git LFS pointer to a file of 4096 bytes");
        assert!(error.to_string().ends_with(&found), "{error}");
        assert!(error.hint().unwrap().starts_with("`git lfs pull`"));
    }
}

#[test]
fn a_dump_whose_files_were_not_fetched_is_told_so() {
    for file in ["manifest.json", "tensors.safetensors"] {
        let candidate = Candidate::copied("shapes-text-float32");
        fs::write(candidate.path().join(file), POINTER).unwrap();
        let error = Error::from(Dump::open(candidate.path()).unwrap_err());
        assert!(error.to_string().contains("found a Git LFS pointer to a file of 4096 bytes"), "{error}");
        assert!(error.hint().unwrap().starts_with("`git lfs pull`"));
    }
}
