//! What every program needs besides its work: its version with the commit, completions, manual pages, printing to stdout, and
//! escaping of text that came from files.

mod command;
mod counted;
mod error;
pub mod escape;
mod limits;
mod print;
mod version;

pub use command::Command;
pub use counted::counted;
pub use error::{Error, Result};
pub use limits::tell_file_size_limit;
pub use print::print;
pub use version::{COMMIT, VERSION};
