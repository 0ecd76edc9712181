//! Any bytes as a dump: the manifest's length in four bytes, the manifest, the tensors.
#![no_main]

#[path = "../check.rs"]
mod check;

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().expect("a folder for the dumps"));
        check::check(folder.path(), bytes);
    });
});
