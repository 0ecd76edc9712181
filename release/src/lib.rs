//! What every program has beside its work: its version with the commit, manual pages and completions.

mod command;
mod error;
mod version;

pub use command::Command;
pub use error::{Error, Result};
pub use version::{COMMIT, VERSION};
