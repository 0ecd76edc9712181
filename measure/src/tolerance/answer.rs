//! What is compared of prompt and answer.

use serde::Deserialize;

/// Which of prompt and answer are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerPolicy {
    /// The prompt's text.
    pub prompt: bool,
    /// The generated token ids.
    pub generated_ids: bool,
    /// The answer's text.
    pub text: bool,
}

impl Default for AnswerPolicy {
    fn default() -> Self {
        AnswerPolicy { prompt: true, generated_ids: true, text: true }
    }
}
