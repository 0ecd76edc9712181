//! How files are opened and read: regular ones only, never more than is allowed, and never in silence what somebody changed.

mod bus;
mod input;
mod map;
mod stamp;

pub use input::{open, read, read_to_string};
pub use map::Map;
pub use stamp::Stamp;
