//! Opens and reads files: only regular files, never more than a limit. It says what a file really is if its name is wrong, and
//! notices a file that changes while it is read.

mod bus;
mod content;
mod input;
pub mod json;
mod map;
mod stamp;

pub use content::Content;
pub use input::{open, read, read_to_string};
pub use map::Map;
pub use stamp::Stamp;
