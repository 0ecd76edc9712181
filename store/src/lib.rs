//! How files are opened and read: regular ones only, never more than is allowed, with a word for what is not what its name
//! says, and never in silence what somebody changed.

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
