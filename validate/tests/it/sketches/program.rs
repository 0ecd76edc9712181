//! `nvl-validate sketch`, and what `show` says of sketches.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use golden::Dump;

use super::{NAME, Sketched, diff, run};
use crate::dumps::{Candidate, bundled};

#[test]
fn only_the_sites_that_are_named_are_sketched() {
    let whole = Dump::open(bundled(NAME)).unwrap();
    let sketched =
        Sketched::of(whole.path(), &["--sites", "*.mlp.*", "--sites", "language_model.*", "--seed", "3"]);
    let mixed = sketched.open();
    assert_eq!(mixed.manifest().head(), whole.manifest().head());
    for (kept, entry) in mixed.entries().iter().zip(whole.entries()) {
        let is_named = entry.name.contains(".mlp.") || entry.name.starts_with("language_model.");
        assert_eq!(kept.sketch.is_some(), is_named, "{}", entry.name);
        assert_eq!((&kept.name, &kept.sha256, kept.order), (&entry.name, &entry.sha256, entry.order));
        if !is_named {
            assert_eq!(mixed.require(&kept.name).unwrap().data(), whole.require(&kept.name).unwrap().data());
        }
    }
    mixed.verify().unwrap();
    assert_eq!(diff(&whole, &mixed).summary().bit_equal, whole.entries().len());

    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("sketches");
    let refused = |glob: &str| {
        let (status, _, said) =
            run(&[whole.path().to_str().unwrap(), to.to_str().unwrap(), "--sites", "mlp1*", "--sites", glob]);
        assert_eq!((status, fs::read_dir(out.path()).unwrap().count()), (2, 0));
        said
    };
    let said = refused("no.such.*");
    assert!(said.contains("expected a site that `no.such.*` matches, found none"), "{said}");
    assert!(said.contains("hint: `nvl-validate show` lists the names"), "{said}");
    assert!(refused("{").contains("invalid value '{' for '--sites <GLOB>'"));
}

#[test]
fn show_tells_what_sketches_tell() {
    let sketched = Sketched::of(&bundled(NAME), &["--seed", "4"]);
    let show = |path: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_nvl-validate")).arg("show").arg(path).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let (whole, sketches) = (show(&bundled(NAME)), show(&sketched.path));
    assert!(sketches.contains("sketches     103, seed 4\n"), "{sketches}");
    let row = |text: &str| text.lines().find(|line| line.contains(" mlp1.3 ")).unwrap().to_owned();
    assert_eq!(row(&whole), row(&sketches));
}

#[test]
fn the_program_refuses_what_it_cannot_do_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (from, to) = (bundled(NAME), out.to_str().unwrap().to_owned());
    let from = from.to_str().unwrap();
    let (status, _, stderr) = run(&[from, &to, "--seed", "9007199254740992"]);
    assert!(status == 2 && stderr.contains("9007199254740992 is not in"), "{stderr}");
    // A tensor that was changed after it was recorded.
    let changed = Candidate::copied(NAME);
    let file = changed.path().join("tensors.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let (status, _, stderr) = run(&[changed.path().to_str().unwrap(), &to]);
    assert!(status == 2 && stderr.contains("expected SHA-256"), "{stderr}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // Sketches of sketches.
    let sketched = Sketched::of(Path::new(from), &[]);
    let (status, _, stderr) = run(&[sketched.path.to_str().unwrap(), &to]);
    assert!(status == 2 && stderr.contains("expected its tensor, found only a sketch of it"), "{stderr}");
    assert!(stderr.contains("\nhint: "), "{stderr}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // A target that is occupied, unless it is a dump and may go.
    assert_eq!(run(&[from, &to]).0, 0);
    let (status, _, stderr) = run(&[from, &to]);
    assert!(status == 2 && stderr.contains("expected no file and no folder with content"), "{stderr}");
    assert_eq!(run(&[from, &to, "--force", "--seed", "5"]).0, 0);
    assert_eq!(Dump::open(&out).unwrap().sketch("mlp1").unwrap().seed, 5);
}
