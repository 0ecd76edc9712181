//! A generated answer as text, as it comes.

use std::ops::ControlFlow;

use crate::error::Result;
use crate::generate::{Generation, GenerationConfig, ModelInputs, StopStrings, generate};
use crate::model::NemotronVl;
use crate::prompt::Tokenizer;
use crate::record::Recorder;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The text, up to the end token or the first stop string, without white space around it.
    pub text: String,
    /// The tokens.
    pub generation: Generation,
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
    recorder: &mut Recorder,
    mut on_text: impl FnMut(&str) -> Result<()>,
) -> Result<Answer> {
    let mut text = String::new();
    let mut stream = tokenizer.answer_stream();
    let mut stops = StopStrings::new(stop);
    let generation = generate(model, inputs, config, recorder, |token| {
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
