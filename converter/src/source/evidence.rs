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
