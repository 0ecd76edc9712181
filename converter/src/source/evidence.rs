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
