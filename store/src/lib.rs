//! How files are opened and read: regular ones only, and never more than is allowed.

mod input;

pub use input::{open, read, read_to_string};
