//! Who sees a long operation go on.

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
