//! What can be wrong with a tensor.

use std::fmt::{self, Display};

use cli::escape::terminal as visible;
use safetensors::Dtype;

/// One tensor that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorProblem {
    /// The configuration implies it, and no file has it.
    Missing {
        /// The tensor.
        name: String,
        /// Its shape by the configuration.
        shape: Vec<usize>,
    },
    /// Another tensor is made of it, too, and no file has it.
    MissingInput {
        /// The tensor.
        name: String,
        /// What is made of it.
        target: String,
    },
    /// A file has it, and the configuration doesn't imply it.
    Unknown {
        /// The tensor.
        name: String,
        /// The file that has it.
        file: String,
    },
    /// Two files have it, or the index and the files disagree about where it is.
    Misplaced {
        /// The tensor.
        name: String,
        /// Where the index says it is.
        expected: String,
        /// Where it is.
        found: String,
    },
    /// Its shape is not the configuration's.
    Shape {
        /// The tensor.
        name: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// It was asked for by name, and the checkpoint has none of it.
    Absent {
        /// The tensor.
        name: String,
    },
    /// Its content is impossible.
    Value {
        /// The tensor.
        name: String,
        /// What is possible.
        expected: String,
        /// What is there.
        found: String,
    },
    /// It becomes a tensor that another one becomes, too.
    Collision {
        /// The tensor.
        name: String,
        /// What it becomes.
        target: String,
        /// The tensor that became it first.
        first: String,
    },
    /// It should equal another one.
    Differs {
        /// The tensor.
        name: String,
        /// The other.
        from: String,
        /// Why they must be equal.
        reason: &'static str,
    },
    /// It belongs to a part of the model that is not supported.
    Refused {
        /// The tensor.
        name: String,
        /// Which part.
        reason: &'static str,
    },
    /// Its dtype is none that the format has.
    Dtype {
        /// The tensor.
        name: String,
        /// Dtypes that are possible.
        expected: &'static str,
        /// Dtype in the file.
        found: Dtype,
    },
}

impl Display for TensorProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, shape } => {
                write!(f, "tensor `{}`: expected shape {shape:?}, found no such tensor", visible(name))
            }
            Self::MissingInput { name, target } => write!(
                f,
                "tensor `{}`: expected it as an input of `{}`, found no such tensor",
                visible(name),
                visible(target)
            ),
            Self::Absent { name } => {
                write!(f, "tensor `{}`: expected it in the checkpoint, found no such tensor", visible(name))
            }
            Self::Unknown { name, file } => {
                write!(
                    f,
                    "tensor `{}`: expected no such tensor, found it in `{}`",
                    visible(name),
                    visible(file)
                )
            }
            Self::Misplaced { name, expected, found } => {
                write!(f, "tensor `{}`: expected it in {expected}, found it in {found}", visible(name))
            }
            Self::Shape { name, expected, found } => {
                write!(f, "tensor `{}`: expected shape {expected:?}, found {found:?}", visible(name))
            }
            Self::Value { name, expected, found } => {
                write!(f, "tensor `{}`: expected {expected}, found {found}", visible(name))
            }
            Self::Collision { name, target, first } => write!(
                f,
                "tensor `{}`: expected one source of `{}`, found `{}` too",
                visible(name),
                visible(target),
                visible(first)
            ),
            Self::Differs { name, from, reason } => write!(
                f,
                "tensor `{}`: expected the bytes of `{}`, found others: {reason}",
                visible(name),
                visible(from)
            ),
            Self::Refused { name, reason } => {
                write!(f, "tensor `{}`: expected no such tensor, found it: {reason}", visible(name))
            }
            Self::Dtype { name, expected, found } => {
                write!(f, "tensor `{}`: expected dtype {expected}, found `{found}`", visible(name))
            }
        }
    }
}

/// The first problems in full, the others as a count: a wrong configuration makes hundreds.
pub(super) fn list(problems: &[TensorProblem]) -> String {
    const SHOWN: usize = 8;
    let mut text = problems.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if problems.len() > SHOWN {
        text.push_str(&format!("; and {} more tensors", problems.len() - SHOWN));
    }
    text
}
