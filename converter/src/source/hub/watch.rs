//! Who sees files come.

/// Watches files on their way.
pub trait Watch {
    /// A file of so many bytes begins, some of which may be there already.
    fn begin(&self, file: &str, bytes: u64);
    /// So many more bytes are there.
    fn advance(&self, bytes: u64);
    /// Something that the user should know, and that is no error.
    fn note(&self, text: &str);
}
