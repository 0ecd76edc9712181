//! What can keep a comparison from being made.

use std::io;
use std::path::PathBuf;

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why two dumps could not be compared, or the result not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A dump cannot be read or trusted.
    #[error(transparent)]
    Dump(#[from] golden::Error),

    /// Completions or manual pages cannot be written.
    #[error(transparent)]
    Cli(#[from] cli::Error),

    /// Tensors could not be measured, or a policy not be read.
    #[error(transparent)]
    Measure(Box<measure::Error>),

    /// A dump has no site that a glob matches.
    #[error("`{}`: expected a site that `{glob}` matches, found none", path.display())]
    NoSite {
        /// The dump.
        path: PathBuf,
        /// The glob.
        glob: String,
    },

    /// There is no map of a name.
    #[error(
        "name map `{}`: expected a readable file or the name of a ready-made map, found: {source}",
        path.display()
    )]
    ReadNames {
        /// The file, or what was taken for one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A map is no TOML, or has fields that no map has.
    #[error("name map `{map}`: {message}")]
    NamesFile {
        /// Its file or name.
        map: String,
        /// The field, what was expected there and what was found.
        message: String,
    },

    /// A map makes no sense, or does not fit the dumps.
    #[error("name map `{map}`: {place}: expected {expected}, found {found}")]
    Names {
        /// Its file or name.
        map: String,
        /// The rule or field.
        place: String,
        /// What would make sense.
        expected: String,
        /// What is there.
        found: String,
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

    /// The candidate's tokens are not the plain run's in the way that was said.
    #[error("`{}`: relation `{relation}`: expected {expected}, found {found}", path.display())]
    Relation {
        /// The dump.
        path: PathBuf,
        /// The relation.
        relation: &'static str,
        /// What was looked for.
        expected: String,
        /// What is there.
        found: String,
    },

    /// A relation is of two runs of one engine, which need no map.
    #[error("expected a relation or a map of names, found both")]
    RelationAndNames,

    /// A tokenizer cannot be read.
    #[error("tokenizer `{}`: {message}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },

    /// A report cannot be written.
    #[error("report `{}` cannot be written: {source}", path.display())]
    WriteReport {
        /// The file or its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Something is in a file's place that this program did not write.
    #[error("`{}`: expected {expected} in its place, found another file", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
        /// What would be replaced.
        expected: &'static str,
    },

    /// Standard output cannot be written.
    #[error("standard output cannot be written: {0}")]
    Stdout(io::Error),

    /// Several formats were asked for and only one place is there for them.
    #[error("expected one `--format` where there is no `--out`, found {found}")]
    SeveralFormats {
        /// How many.
        found: usize,
    },
}

impl From<measure::Error> for Error {
    fn from(error: measure::Error) -> Self {
        match error {
            measure::Error::Dump(error) => Error::Dump(error),
            error => Error::Measure(Box::new(error)),
        }
    }
}

impl Error {
    /// What to try, where we know it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Dump(error) => error.hint(),
            Error::Content { content, .. } => content.hint(),
            Error::Measure(error) => error.hint(),
            Error::NoSite { .. } => Some("`nvl-validate show` lists the names"),
            Error::ReadNames { .. } => Some("`nvl-validate maps` lists the ready-made maps"),
            Error::NamesFile { .. } | Error::Names { .. } => Some("`docs/names.md` describes maps"),
            Error::Relation { .. } => Some("`docs/relations.md` says how tokens are aligned"),
            Error::RelationAndNames => {
                Some("a relation is one of two runs of the same engine, which record the same names")
            }
            Error::Tokenizer { .. } => {
                Some("`--tokenizer` takes a checkpoint's folder or its `tokenizer.json`")
            }
            Error::InTheWay { .. } => Some("move it away, or give another place with `--out`"),
            Error::SeveralFormats { .. } => Some("`--out DIR` writes one file for each format"),
            _ => None,
        }
    }
}
