//! The bundled checkpoint, converted once, and its goldens.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use converter::Conversion;
use converter::plan::PlanOptions;
use converter::resolve::Settings;
use converter::source::Location;
use converter::write::Unwatched;
use tempfile::TempDir;

use super::fixtures;

/// A bundled golden.
pub fn golden(name: &str) -> PathBuf {
    fixtures::path("goldens").join(name)
}

/// A bundled picture.
pub fn picture(name: &str) -> PathBuf {
    fixtures::path("goldens/images").join(name)
}

/// The bundled checkpoint, converted as the goldens' code resizes positions.
pub fn checkpoint() -> &'static Path {
    static CONVERTED: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    &CONVERTED
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("shapes");
            convert(&out, true);
            (dir, out)
        })
        .1
}

/// Converts the bundled checkpoint to `out`.
pub fn convert(out: &Path, align_corners: bool) {
    let source = Location::parse(fixtures::path("checkpoints/shapes").to_str().unwrap());
    let settings = Settings { align_corners: Some(align_corners), ..Settings::default() };
    let options = PlanOptions::KEEP;
    Conversion::prepare(source, settings, options).unwrap().write(out, false, &Unwatched).unwrap();
}

/// A copy of the converted checkpoint.
pub fn copy_of_checkpoint() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("shapes");
    copy_folder(checkpoint(), &copy);
    (dir, copy)
}

/// Copies the files of a folder to a new one.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// The program under test.
pub fn nvl_reference() -> assert_cmd::Command {
    assert_cmd::Command::cargo_bin("nvl-reference").unwrap()
}
