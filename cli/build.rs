//! Tells the crate which commit it is built from, as `NVL_COMMIT`.

use std::env;
use std::path::Path;
use std::process::Command;

/// What the programs are made of, from the root of the repository. A change anywhere else does not modify them.
const SOURCES: [&str; 14] = [
    "Cargo.lock",
    "Cargo.toml",
    "converter/src",
    "golden/python/src",
    "golden/src",
    "reference/build.rs",
    "reference/src",
    "cli/build.rs",
    "cli/src",
    "measure/models",
    "measure/src",
    "store/src",
    "validate/maps",
    "validate/src",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=NVL_COMMIT");
    // Whoever builds from an archive of the sources, which has no history, can say it.
    let said = env::var("NVL_COMMIT").ok().filter(|commit| !commit.is_empty());
    println!("cargo::rustc-env=NVL_COMMIT={}", said.or_else(commit).unwrap_or_default());
}

/// The commit's short id and day, and whether the sources were changed since; `None` outside the project's repository.
fn commit() -> Option<String> {
    // An archive unpacked inside another repository must not take that one's commit for its own.
    (git(&["rev-parse", "--show-prefix"])? == "cli/").then_some(())?;
    let root = Path::new("..");
    for file in ["HEAD", "logs/HEAD", "index"] {
        watch(Path::new(&git(&["rev-parse", "--git-path", file])?));
    }
    SOURCES.iter().for_each(|source| watch(&root.join(source)));

    let commit = git(&["log", "-1", "--format=%h %cs", "--abbrev=9"])?;
    let mut status = vec!["-C", "..", "status", "--porcelain", "--untracked-files=no", "--"];
    status.extend(SOURCES);
    Some(if git(&status)?.is_empty() { commit } else { format!("{commit}, modified") })
}

/// Cargo takes a watched file that is not there for one that always changes.
fn watch(path: &Path) {
    if path.exists() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
}
