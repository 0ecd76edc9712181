//! How files are opened and read: regular ones only, never more than is allowed, and with a word for what is not what its
//! name says.

mod content;
mod input;
pub mod json;

pub use content::Content;
pub use input::{open, read, read_to_string};
