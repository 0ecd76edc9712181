//! How a behaviour is known that the checkpoint's JSON and tensors do not say: it comes from Python code.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SourceFile;

/// A behaviour of the model that came from Python code, its value, and how it is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// Its name, which is that of the configuration's field.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// How the value is known.
    pub evidence: Evidence,
}

/// How the value of a [`Behaviour`] is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Evidence {
    /// A file of the source says so. Python is read or recognised, never run.
    SourceFile {
        /// The file.
        file: String,
        /// Its SHA-256.
        sha256: String,
        /// Where in the file, or what the file was recognised as.
        detail: String,
    },
    /// The user said so.
    CommandLine {
        /// The flag with its value.
        flag: String,
    },
    /// Nothing says so: it is what this architecture is known to do.
    Assumed {
        /// Why this value.
        reason: String,
        /// What would settle it.
        settled_by: String,
    },
}

/// The revisions of RADIO's patch generator, and how each resizes positions.
const REVISIONS: &str = include_str!("../radio-code-revisions.json");
/// The file of RADIO that resizes the position table.
pub(super) const PATCH_GENERATOR_FILE: &str = "vit_patch_generator.py";

#[derive(Deserialize)]
struct Revision {
    repository: String,
    commit: String,
    date: String,
    sha256: String,
    position_interpolation_align_corners: bool,
}

/// `position_interpolation_align_corners` of the patch generator among `files`, recognised by its SHA-256; or the name
/// of a patch generator that is none of the known revisions.
pub(crate) fn align_corners_of_code(files: &[SourceFile]) -> CodeFinding {
    let Some(file) = files.iter().find(|file| file.name == PATCH_GENERATOR_FILE) else {
        return CodeFinding::Absent;
    };
    let revisions: Vec<Revision> = serde_json::from_str(REVISIONS).unwrap_or_default();
    match revisions.iter().find(|revision| revision.sha256 == file.sha256) {
        None => CodeFinding::Unrecognised { file: file.name.clone(), sha256: file.sha256.clone() },
        Some(revision) => CodeFinding::Recognised {
            value: revision.position_interpolation_align_corners,
            evidence: Evidence::SourceFile {
                file: file.name.clone(),
                sha256: file.sha256.clone(),
                detail: format!(
                    "recognised as {} {} of {}",
                    revision.repository, revision.commit, revision.date
                ),
            },
        },
    }
}

/// What the Python in a folder says.
pub(crate) enum CodeFinding {
    /// There is none.
    Absent,
    /// A known revision.
    Recognised {
        /// What it does.
        value: bool,
        /// Which it is.
        evidence: Evidence,
    },
    /// A file of the right name that is no known revision.
    Unrecognised {
        /// The file.
        file: String,
        /// Its SHA-256.
        sha256: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, sha256: &str) -> SourceFile {
        SourceFile { name: name.into(), bytes: Vec::new(), sha256: sha256.into() }
    }

    #[test]
    fn recognises_a_revision_by_its_sha256_alone() {
        let before = "591a6ae511fa38c56ee3bea70dce16ebd7854a52be8191a5749b9682c01bbb88";
        let after = "092e9a0b8eca4fee162484ef3ef77b399f686e5e0ffc7be85fb2d69bc2f9ebd9";
        for (sha256, expected, detail) in [
            (before, true, "recognised as NVlabs/RADIO 8dfc443 of 2025-04-16"),
            (after, false, "recognised as NVlabs/RADIO cb07f55 of 2025-06-28"),
        ] {
            let files = [file("modeling.py", "0"), file(PATCH_GENERATOR_FILE, sha256)];
            let CodeFinding::Recognised { value, evidence } = align_corners_of_code(&files) else {
                panic!("recognised");
            };
            assert_eq!(value, expected);
            let (file, sha256, detail) = (PATCH_GENERATOR_FILE.into(), sha256.into(), detail.into());
            assert_eq!(evidence, Evidence::SourceFile { file, sha256, detail });
        }
        let other = [file(PATCH_GENERATOR_FILE, &"0".repeat(64))];
        assert!(matches!(align_corners_of_code(&other), CodeFinding::Unrecognised { .. }));
        assert!(matches!(align_corners_of_code(&[file("modeling.py", before)]), CodeFinding::Absent));
    }

    #[test]
    fn the_revisions_are_read_and_change_once() {
        let revisions: Vec<Revision> = serde_json::from_str(REVISIONS).unwrap();
        assert_eq!(revisions.len(), 10);
        for revision in revisions {
            let before = revision.date.as_str() < "2025-06-28";
            assert_eq!(revision.position_interpolation_align_corners, before, "{}", revision.commit);
            assert_eq!(revision.sha256.len(), 64);
        }
    }
}
