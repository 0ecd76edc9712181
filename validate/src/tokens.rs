//! What ids mean, where the checkpoint's tokenizer is at hand.

use std::fmt;
use std::path::{Path, PathBuf};

use store::Content;

use crate::error::{Error, Result};

/// The most bytes of a `tokenizer.json`: those of large vocabularies have some tens of MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A checkpoint's tokenizer.
pub struct Tokens(tokenizers::Tokenizer);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} tokens)", self.0.get_vocab_size(true))
    }
}

impl Tokens {
    /// Reads a `tokenizer.json`, or that of a checkpoint's folder.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if it is not there or no tokenizer; [`Error::Content`] if it is a file of another kind.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let path: PathBuf = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
        let error = |message: String| Error::Tokenizer { path: path.clone(), message };
        let bytes = store::read(&path, MAX_FILE_BYTES)
            .map_err(|source| error(format!("cannot be read: {source}")))?;
        let tokenizer =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|source| match Content::of(&bytes) {
                Some(content) if content != Content::Json => {
                    Error::Content { path: path.clone(), expected: "a tokenizer", content }
                }
                _ => error(format!("expected a tokenizer, found `{source}`")),
            })?;
        Ok(Tokens(tokenizer))
    }

    /// The text of an id; the token's name in the vocabulary if it is only a part of a character.
    pub fn text(&self, id: i64) -> Option<String> {
        let id = u32::try_from(id).ok()?;
        let name = self.0.id_to_token(id)?;
        let text = self.0.decode(&[id], false).ok();
        Some(text.filter(|text| !text.is_empty() && !text.contains('\u{fffd}')).unwrap_or(name))
    }
}
