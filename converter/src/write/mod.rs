//! Writes a normalized checkpoint: bytes streamed from the source, a folder that appears complete or not at all.

mod lane;
mod replaceable;
mod shard_files;
mod staging;
mod stream;

pub use staging::{Staging, check_place};
pub use stream::{FileHash, OutputHash, Sink, Streamed, stream};

pub(crate) use shard_files::ShardFiles;
pub(crate) use stream::Nowhere;

/// Watches a long operation, and may stop it.
pub trait Observer: Sync {
    /// So many more bytes of the source are done.
    fn advance(&self, bytes: u64);

    /// Whether to stop now.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Observer for Unwatched {
    fn advance(&self, _: u64) {}
}
