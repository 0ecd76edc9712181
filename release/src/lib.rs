//! What every program has beside its work: its version with the commit, manual pages and completions, and its way to stdout.

mod command;
mod error;
mod print;
mod version;

pub use command::Command;
pub use error::{Error, Result};
pub use print::print;
pub use version::{COMMIT, VERSION};
