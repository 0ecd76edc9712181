//! Files of a checkpoint in whose place something else stands.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use store::Content;

use crate::error::of_golden;

/// What a loader of the checkpoint reads, by the ends of the files' names.
const SUFFIXES: [&str; 5] = ["json", "safetensors", "jinja", "model", "py"];
/// Of larger files the beginning says enough.
const MAX_BYTES: u64 = 1 << 16;

/// Refuses a folder with a file that a pointer of Git LFS, or a web page, stands in the place of.
///
/// # Errors
/// `GoldenError`, which says what to do, for the first such file by name. A file that cannot be read is left to who needs it.
#[pyfunction]
pub(crate) fn refuse_stand_ins(py: Python<'_>, folder: PathBuf) -> PyResult<()> {
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let is_read = |path: &&PathBuf| {
        path.extension().and_then(|suffix| suffix.to_str()).is_some_and(|suffix| SUFFIXES.contains(&suffix))
    };
    match paths.iter().filter(is_read).find_map(|path| Some((path, stand_in(path)?))) {
        None => Ok(()),
        Some((path, content)) => {
            let path = path.clone();
            Err(of_golden(
                py,
                &golden::Error::Content { path, expected: "a file of the checkpoint", content },
            ))
        }
    }
}

fn stand_in(path: &Path) -> Option<Content> {
    let mut beginning = Vec::new();
    store::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut beginning).ok()?;
    Content::stand_in(&beginning)
}
