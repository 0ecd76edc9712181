//! How a behaviour is known that the checkpoint's JSON and tensors do not say: it comes from Python code.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CodeFile;

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
    /// A file of the source, or of a repository that it refers to, says so. Python is parsed or recognised, never run.
    SourceFile {
        /// The file.
        file: String,
        /// Its SHA-256.
        sha256: String,
        /// How it says so.
        how: How,
        /// Which field, what is written there, or what the file was recognised as.
        detail: String,
        /// The line, from 1, of what was parsed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<usize>,
        /// The repository that the file is of, where it is not the source's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// Its revision.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<String>,
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

/// How a file says what a behaviour is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It is a field of a configuration.
    Read,
    /// The file is a known one, by its SHA-256.
    Recognised,
    /// Its code was parsed and followed.
    Parsed,
}

impl Evidence {
    /// A field of the source's own file `file`, as `detail` says.
    pub(crate) fn read(file: &str, sha256: &str, detail: String) -> Self {
        Self::SourceFile {
            file: file.into(),
            sha256: sha256.into(),
            how: How::Read,
            detail,
            line: None,
            repository: None,
            revision: None,
        }
    }

    /// A file of code.
    pub(crate) fn of_code(file: &CodeFile, how: How, line: Option<usize>, detail: String) -> Self {
        let (repository, revision) = file.origin.clone().unzip();
        let (file, sha256) = (file.name.clone(), file.sha256.clone());
        Self::SourceFile { file, sha256, how, detail, line, repository, revision }
    }

    /// Whether the evidence lies outside the source and its folder: what it said can't be found there again.
    pub(crate) fn is_from_elsewhere(&self) -> bool {
        matches!(self, Self::CommandLine { .. } | Self::SourceFile { repository: Some(_), .. })
    }
}

/// The revisions of RADIO's patch generator, and how each resizes positions.
const REVISIONS: &str = include_str!("../radio-code-revisions.json");

#[derive(Deserialize)]
struct Revision {
    repository: String,
    commit: String,
    date: String,
    sha256: String,
    position_interpolation_align_corners: bool,
}

/// `position_interpolation_align_corners` of a patch generator that is recognised by its SHA-256, and which it is.
pub(crate) fn recognise(file: &CodeFile) -> Option<(bool, String)> {
    let revisions: Vec<Revision> = serde_json::from_str(REVISIONS).unwrap_or_default();
    let revision = revisions.into_iter().find(|revision| revision.sha256 == file.sha256)?;
    let detail = format!("recognised as {} {} of {}", revision.repository, revision.commit, revision.date);
    Some((revision.position_interpolation_align_corners, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(sha256: &str) -> CodeFile {
        let name = "vit_patch_generator.py".into();
        CodeFile { name, bytes: Vec::new(), sha256: sha256.into(), origin: None }
    }

    #[test]
    fn recognises_a_revision_by_its_sha256_alone() {
        let before = "591a6ae511fa38c56ee3bea70dce16ebd7854a52be8191a5749b9682c01bbb88";
        let after = "092e9a0b8eca4fee162484ef3ef77b399f686e5e0ffc7be85fb2d69bc2f9ebd9";
        for (sha256, expected, detail) in [
            (before, true, "recognised as NVlabs/RADIO 8dfc443 of 2025-04-16"),
            (after, false, "recognised as NVlabs/RADIO cb07f55 of 2025-06-28"),
        ] {
            assert_eq!(recognise(&file(sha256)), Some((expected, detail.to_string())));
        }
        assert_eq!(recognise(&file(&"0".repeat(64))), None);
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
