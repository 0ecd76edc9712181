//! An answer while it is generated.

use tokenizers::tokenizer::step_decode_stream;

use super::Result;
use super::python::is_space;
use super::tokenizer::{Tokenizer, answer_in, clean_up_tokenization, to_u32};

/// Turns ids into pieces of the answer, each as soon as nothing that follows can change it.
///
/// A character of several tokens comes in one piece. White space waits for what follows it, since an answer has none at
/// its end, and so does what may be the beginning of the end-of-sequence token's text.
#[derive(Debug)]
pub struct AnswerStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<i64>,
    /// The text of the ids so far, but for the last ones where they end within a character.
    text: String,
    /// Bytes of the answer that were handed out.
    emitted: usize,
    window: Window,
}

/// The state of [`step_decode_stream`].
#[derive(Debug, Default)]
struct Window {
    ids: Vec<u32>,
    prefix: String,
    prefix_index: usize,
}

impl<'a> AnswerStream<'a> {
    /// The answer of this tokenizer, from its first id on; all pieces together are [`Tokenizer::answer`].
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), text: String::new(), emitted: 0, window: Window::default() }
    }

    /// Takes a generated id; returns the next piece of the answer, often empty.
    ///
    /// # Errors
    /// The id is none, or cannot be decoded.
    pub fn push(&mut self, id: i64) -> Result<String> {
        self.ids.push(id);
        let Window { ids, prefix, prefix_index } = &mut self.window;
        let id = to_u32(id)?;
        let piece = self.tokenizer.call("decode the answer", |inner| {
            step_decode_stream(inner, vec![id], false, ids, prefix, prefix_index)
        })?;
        let Some(piece) = piece else { return Ok(String::new()) };
        self.text.push_str(&piece);
        let settled = &self.text[..self.settled_bytes()];
        if self.tokenizer.config().clean_up_tokenization_spaces {
            Ok(take_new(&clean_up_tokenization(settled), self.tokenizer.eos_token(), &mut self.emitted))
        } else {
            Ok(take_new(settled, self.tokenizer.eos_token(), &mut self.emitted))
        }
    }

    /// The rest of the answer.
    ///
    /// # Errors
    /// The ids cannot be decoded.
    pub fn finish(self) -> Result<String> {
        let answer = self.tokenizer.answer(&self.ids)?;
        Ok(answer.get(self.emitted..).unwrap_or_default().to_owned())
    }

    /// Bytes of `text` that no further token can change.
    fn settled_bytes(&self) -> usize {
        let text = &self.text;
        if self.tokenizer.config().clean_up_tokenization_spaces {
            // What is removed begins at a space and has one inside it only after an apostrophe: up to a space that
            // follows neither, all is settled.
            let settled = text
                .char_indices()
                .rev()
                .find(|&(index, character)| character == ' ' && !text[..index].ends_with([' ', '\'']));
            return settled.map_or(0, |(index, _)| index);
        }
        text.len()
    }
}

/// The part of the answer in `text` that has not been handed out and cannot be white space at its end nor the beginning
/// of the end-of-sequence token.
fn take_new(text: &str, eos_token: &str, emitted: &mut usize) -> String {
    let mut text = text;
    if !text.contains(eos_token) {
        let possible = (1..eos_token.len()).rev().filter(|&length| eos_token.is_char_boundary(length));
        let begun = possible.map(|length| &eos_token[..length]).find(|begun| text.ends_with(begun));
        text = &text[..text.len() - begun.map_or(0, str::len)];
    }
    let answer = answer_in(text, eos_token).trim_end_matches(is_space);
    let piece = answer.get(*emitted..).unwrap_or_default().to_owned();
    *emitted += piece.len();
    piece
}
