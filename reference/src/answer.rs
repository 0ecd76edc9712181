//! A generated answer as text, as it comes.

use std::ops::ControlFlow;

use golden::ManifestHead;
use golden::manifest::{Checkpoint, Producer};

use crate::error::Result;
use crate::generate::{Generation, GenerationConfig, ModelInputs, StopStrings, generate};
use crate::model::NemotronVl;
use crate::model::observer::Observer;
use crate::prompt::{AnswerStream, Tokenizer};
use crate::request::PreparedRequest;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The text, up to the end token or the first stop string, without white space around it.
    pub text: String,
    /// The tokens.
    pub generation: Generation,
}

impl Answer {
    /// What the manifest of this answer's dump says beside its entries.
    pub fn manifest_head(
        &self,
        producer: Producer,
        checkpoint: Option<String>,
        prepared: &PreparedRequest,
        config: &GenerationConfig,
    ) -> ManifestHead {
        let mut head = ManifestHead::new(producer);
        head.checkpoint = checkpoint.map(Checkpoint::new);
        head.request = Some(prepared.manifest(config.max_new_tokens, &config.sampling));
        head.prompt = Some(prepared.prompt.clone());
        head.generated_ids = Some(self.generation.token_ids.clone());
        head.text = Some(self.text.clone());
        head
    }
}

/// Generates an answer and passes its text on in pieces that never split a character.
///
/// # Errors
/// As [`generate`]; whatever `on_text` returns.
pub fn answer(
    model: &NemotronVl,
    tokenizer: &Tokenizer,
    inputs: &ModelInputs,
    config: &GenerationConfig,
    stop: &[String],
    observer: &mut dyn Observer,
    mut on_text: impl FnMut(&str) -> Result<()>,
) -> Result<Answer> {
    let mut text = String::new();
    let mut stream = AnswerStream::new(tokenizer);
    let mut stops = StopStrings::new(stop);
    let generation = generate(model, inputs, config, observer, |token| {
        // The tokenizer's own is found in the text, as in the public code; any other is no part of the answer either.
        if config.eos_token_ids.contains(&token) {
            return Ok(ControlFlow::Break(()));
        }
        let piece = stops.push(&stream.push(token)?);
        text.push_str(&piece);
        on_text(&piece)?;
        Ok(if stops.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let mut rest = stops.push(&stream.finish()?);
    rest.push_str(&stops.finish());
    text.push_str(&rest);
    on_text(&rest)?;
    Ok(Answer { text, generation })
}
