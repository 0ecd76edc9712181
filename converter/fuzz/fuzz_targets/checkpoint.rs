//! Any bytes as one of a checkpoint's files, the index and the configuration among them: an answer, never a panic.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use converter::Conversion;
use converter::plan::PlanOptions;
use converter::source::Location;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/fixtures/checkpoints/shapes");
const FILES: [&str; 6] = [
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors.index.json",
    "modeling.py",
];

/// A copy of the bundled checkpoint, one file of which is replaced each time.
static CHECKPOINT: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = TempDir::new().unwrap();
    for entry in fs::read_dir(BUNDLED).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
});

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    let name = FILES[usize::from(which) % FILES.len()];
    let path = CHECKPOINT.path().join(name);
    let before = fs::read(&path).ok();
    fs::write(&path, bytes).unwrap();
    let location = Location::parse(CHECKPOINT.path().to_str().unwrap());
    let options = PlanOptions::KEEP;
    if let Err(error) = Conversion::prepare(location, Default::default(), options) {
        assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
    }
    match before {
        Some(before) => fs::write(&path, before).unwrap(),
        None => fs::remove_file(&path).unwrap(),
    }
    assert!(Path::new(BUNDLED).is_dir());
});
