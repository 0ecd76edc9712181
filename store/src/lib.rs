//! Reads and writes files, the same way in every crate.
//!
//! Reading: regular files only, and never more than a limit. It says what a file really is if its name is wrong, and notices a file that
//! changes while it is read. Writing: a file or a folder has its name when it is complete. What was there before stays until then, even if
//! the process is killed.

mod bus;
mod content;
mod disk;
pub mod dtype;
mod error;
pub mod float8;
pub mod hash;
mod input;
pub mod json;
mod lock;
mod map;
mod replace;
pub mod safetensors_header;
mod staging;
mod stamp;

pub use content::Content;
pub use disk::{free_bytes, is_same_file, reserve, sync_folder};
pub use dtype::{Dtype, UnknownDtype};
pub use error::StagingError;
pub use input::{open, read, read_to_string};
pub use lock::try_lock;
pub use map::Map;
pub use replace::{parent_of, replace_file, write_new};
pub use staging::Staging;
pub use stamp::Stamp;
