//! Questions to token ids, and token ids to answers, as the public `chat` does it.
//!
//! A conversation becomes text through the checkpoint's own [chat template](chat_template), each picture's
//! [placeholder](build) becomes as many image tokens as the picture's tiles have features, and the
//! [tokenizer] makes ids of it.

pub mod build;
pub mod chat_template;
mod error;
pub mod media;
mod placeholder;
mod python;
mod stream;
pub mod tokenizer;
mod tokenizer_config;

pub use build::{AnsweredTurn, Conversation, Prompt, PromptBuilder};
pub use chat_template::ChatTemplate;
pub use error::{PromptError, Result};
pub use media::{Medium, place_videos};
pub use placeholder::placeholder_for;
pub use stream::AnswerStream;
pub use tokenizer::Tokenizer;
