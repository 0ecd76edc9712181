//! What can keep dumps from being measured or judged.

use std::io;
use std::path::PathBuf;

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why tensors could not be measured, or no tolerance be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A dump cannot be read or trusted.
    #[error(transparent)]
    Dump(#[from] golden::Error),

    /// Sketches were drawn from different seeds, so that they do not tell of each other.
    #[error(
        "entry `{name}`: expected a sketch of seed {expected}, as the golden dump has, found one of seed {found}"
    )]
    Seeds {
        /// The entry.
        name: String,
        /// The golden sketch's.
        expected: u64,
        /// The candidate's.
        found: u64,
    },

    /// A policy file cannot be read.
    #[error("policy `{}` cannot be read: {source}", path.display())]
    ReadPolicy {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A policy file makes no sense.
    #[error("policy `{}`: {message}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// The field, what was expected there and what was found.
        message: String,
    },

    /// A glob in a policy file makes no sense.
    #[error("policy `{}`: field `rules[{rule}].sites`: expected a glob, found `{glob}`: {source}", path.display())]
    PolicyGlob {
        /// The file.
        path: PathBuf,
        /// The index of the rule.
        rule: usize,
        /// The glob.
        glob: String,
        /// What is wrong with it.
        source: Box<globset::Error>,
    },

    /// The file of a family of models makes no sense.
    #[error("`measure/models/{file}`: {message}")]
    Model {
        /// The name of the file.
        file: &'static str,
        /// The site, what was expected there and what was found.
        message: String,
    },

    /// A file is of another kind than its name says: a pointer of Git LFS, a web page, an unfinished download.
    #[error("`{}`: expected {expected}, found {content}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        content: store::Content,
    },
}

/// What is wrong with a TOML file, in one line: the file's own lines do not come into a message.
pub fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim_end().replace('\n', ": ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("TOML parse error at line {line}, column {column}: {message}")
}

impl Error {
    /// What to try, where we know it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Dump(error) => error.hint(),
            Error::Content { content, .. } => content.hint(),
            Error::Seeds { .. } => Some("sketch the candidate again with `--seed`, or compare its full dump"),
            Error::Policy { .. } | Error::PolicyGlob { .. } => {
                Some("`docs/tolerances.md` describes policy files")
            }
            Error::Model { .. } => Some("`measure/models/nemotron-vl.toml` explains the fields"),
            Error::ReadPolicy { .. } => None,
        }
    }
}
