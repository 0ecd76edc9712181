//! What can go wrong between a question and its token ids.

use std::path::PathBuf;

/// An error of [`crate::prompt`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// A file of the checkpoint cannot be read.
    #[error("`{path}`: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file of the checkpoint is not what it should be.
    #[error("`{path}`: {field}: expected {expected}, found {found}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The field, or the whole.
        field: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A file of the checkpoint is of another kind than its name says: a pointer of Git LFS, a web page.
    #[error("`{path}`: expected a file of the checkpoint, found {content}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it is.
        content: store::Content,
    },
    /// The tokenizer's files contradict each other.
    #[error("`{path}`: token `{token}`: expected id {expected}, found {found}")]
    TokenId {
        /// The file that names the expected id.
        path: PathBuf,
        /// The token.
        token: String,
        /// Its id in the file.
        expected: u32,
        /// Its id in `tokenizer.json`, or `none`.
        found: String,
    },
    /// The checkpoint has no chat template.
    #[error(
        "`{dir}`: expected a chat template (`chat_template.jinja`, or `chat_template` in `tokenizer_config.json`), found none"
    )]
    NoTemplate {
        /// The checkpoint's folder.
        dir: PathBuf,
    },
    /// The checkpoint has several chat templates, and none that is meant for a plain chat.
    #[error("`{path}`: `chat_template`: expected one named `default`, found {found:?}")]
    NoDefaultTemplate {
        /// The file.
        path: PathBuf,
        /// The names.
        found: Vec<String>,
    },
    /// The chat template cannot be parsed or fails on this conversation.
    #[error("`{path}`: the chat template fails: {reason}")]
    Template {
        /// The template's file.
        path: PathBuf,
        /// The engine's words, with the line.
        reason: String,
    },
    /// The chat template asks for more than any needs.
    #[error("`{path}`: the chat template is ended: {reason}")]
    TemplateLimit {
        /// The template's file.
        path: PathBuf,
        /// What it asks for.
        reason: String,
    },
    /// The chat template itself refuses this conversation, through `raise_exception`.
    #[error("`{path}`: the chat template refuses the conversation: {message}")]
    TemplateRefusal {
        /// The template's file.
        path: PathBuf,
        /// The template's words.
        message: String,
    },
    /// The tokenizer fails.
    #[error("`{path}`: the tokenizer cannot {action}: {reason}")]
    Tokenizer {
        /// Its file.
        path: PathBuf,
        /// `encode the prompt`, `decode the answer` or `be loaded`.
        action: &'static str,
        /// The library's words.
        reason: String,
    },
    /// A token id is negative or too large to be one.
    #[error("a token id: expected 0 to {}, found {found}", u32::MAX)]
    Id {
        /// The id.
        found: i64,
    },
    /// The conversation has more or fewer places for pictures than there are pictures.
    #[error("the conversation has {found} `{placeholder}`: expected {expected}, one for each file")]
    ImageCount {
        /// The placeholder.
        placeholder: String,
        /// Pictures.
        expected: usize,
        /// Placeholders.
        found: usize,
    },
    /// The conversation names a picture where a video is next, or the other way round.
    #[error(
        "the conversation has `{placeholder}` where {} {expected} is next: expected the placeholders in the order of the files",
        if *.expected == "image" { "an" } else { "a" }
    )]
    MediaOrder {
        /// `image` or `video`: the next file.
        expected: &'static str,
        /// The placeholder in its stead.
        placeholder: String,
    },
    /// The tokenizer does not keep the image token in one piece, or the text has it where no picture is.
    #[error("`input_ids`: expected {expected} image tokens, found {found}")]
    ImageTokenCount {
        /// Tokens of all tiles of all pictures.
        expected: usize,
        /// Tokens in the ids.
        found: usize,
    },
    /// The model takes pictures and videos.
    #[error("only image or video modality is supported, found `{found}`")]
    Modality {
        /// The modality that was asked for.
        found: String,
    },
}

impl PromptError {
    /// What to try, where we know it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Content { content, .. } => content.hint(),
            Self::ImageCount { .. } => Some(
                "without a history, leave the placeholder out: one goes before the question for each picture; \
                 with a history, put one into the turn that each picture belongs to",
            ),
            Self::TemplateLimit { .. } => Some(
                "a chat template is code that came with the checkpoint: look at it before it is run again",
            ),
            Self::NoTemplate { .. } | Self::TokenId { .. } => {
                Some("convert the checkpoint again: `nvl-convert convert` copies the tokenizer's files")
            }
            _ => None,
        }
    }
}

/// A result with this module's error.
pub type Result<T> = std::result::Result<T, PromptError>;
