//! Where a conversion may write, and what is left behind when it stops.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use converter::Error;
use converter::normalized::Checkpoint;
use converter::resolve::Settings;
use converter::write::{Observer, Unwatched};
use tempfile::TempDir;

use crate::conversion::{KEEP, entries, prepare};
use crate::hand_made_source::Source;

#[test]
fn an_existing_output_is_refused_or_replaced_in_one_step() {
    let source = Source::sound().write();
    let conversion = prepare(source.path(), Settings::default(), KEEP);
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("precious"), "1").unwrap();
    let error = conversion.write(&out, false, &Unwatched).unwrap_err();
    assert!(matches!(error, Error::OutputExists { found: "a folder", .. }), "{error}");
    assert!(error.hint().unwrap().contains("--force"));
    let error = conversion.write(&out, true, &Unwatched).unwrap_err();
    assert!(matches!(error, Error::OutputForeign { .. }), "{error}");
    assert_eq!(entries(&out), ["precious"]);
    fs::remove_file(out.join("precious")).unwrap();
    conversion.write(&out, true, &Unwatched).unwrap();
    Checkpoint::open(&out).unwrap();
    conversion.write(&out, true, &Unwatched).unwrap();
    assert_eq!(entries(parent.path()), ["out"]);
}

#[test]
fn an_output_that_would_destroy_something_is_refused_even_with_force() {
    let parent = TempDir::new().unwrap();
    let inside = parent.path().join("models/source");
    fs::create_dir_all(&inside).unwrap();
    Source::sound().write_to(&inside);
    let conversion = prepare(&inside, Settings::default(), KEEP);
    for out in [inside.clone(), parent.path().join("models")] {
        let error = conversion.write(&out, true, &Unwatched).unwrap_err();
        assert!(error.to_string().contains("found a folder that holds the source"), "{error}");
    }
    let file = parent.path().join("file");
    fs::write(&file, "1").unwrap();
    let link = parent.path().join("link");
    std::os::unix::fs::symlink(&inside, &link).unwrap();
    for (out, found) in [(&file, "a file"), (&link, "a link")] {
        let error = conversion.write(out, true, &Unwatched).unwrap_err();
        assert!(matches!(&error, Error::OutputPlace { found: f, .. } if f == found), "{error}");
    }
    let error = conversion.write(&parent.path().join("no/such/out"), true, &Unwatched).unwrap_err();
    let missing = parent.path().join("no/such");
    assert_eq!(
        error.to_string(),
        format!("`{}`: expected a folder for the output, found nothing", missing.display())
    );
    assert_eq!(error.hint(), Some(format!("`mkdir -p {}` makes it", missing.display())));
    assert_eq!(entries(parent.path()), ["file", "link", "models"]);
    assert_eq!(prepare(&inside, Settings::default(), KEEP).plan().rows.len(), 68);
}

/// Stops after so many bytes.
struct StopsAfter(AtomicU64, u64);

impl Observer for StopsAfter {
    fn advance(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed) > self.1
    }
}

#[test]
fn an_interrupted_conversion_leaves_nothing_and_keeps_what_was_there() {
    let source = Source::sound().write();
    let conversion = prepare(source.path(), Settings::default(), KEEP);
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("out");
    for stop in [0, 5_000, conversion.source_bytes() - 1] {
        let error = conversion.write(&out, false, &StopsAfter(AtomicU64::new(0), stop)).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert_eq!(entries(parent.path()), Vec::<String>::new());
    }
    conversion.write(&out, false, &Unwatched).unwrap();
    let before = fs::read(out.join("conversion.json")).unwrap();
    conversion.write(&out, true, &StopsAfter(AtomicU64::new(0), 5_000)).unwrap_err();
    assert_eq!(fs::read(out.join("conversion.json")).unwrap(), before);
    assert_eq!(entries(parent.path()), ["out"]);
}

#[test]
fn the_observer_sees_every_byte_of_the_source() {
    let source = Source::sound().write();
    let conversion = prepare(source.path(), Settings::default(), KEEP);
    let parent = TempDir::new().unwrap();
    let observer = StopsAfter(AtomicU64::new(0), u64::MAX);
    conversion.write(&parent.path().join("out"), false, &observer).unwrap();
    assert_eq!(observer.0.load(Ordering::Relaxed), conversion.source_bytes());
}
