//! Writes a normalized checkpoint: bytes streamed from the source, a folder that appears complete or not at all.

mod assemble;
mod file_stream;
mod observer;
mod replaceable;
mod shard_files;
mod staging;
mod stream;
mod target;

pub use file_stream::FileHash;
pub use observer::{Observer, Unwatched};
pub use shard_files::write_tensors;
pub use staging::{Staging, check_place};
pub use stream::{Streamed, stream};
pub use target::{NullSink, OutputHash, Sink};
