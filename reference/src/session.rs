//! A model that is ready to answer: what answering one request and answering many have in common.

use std::path::Path;

use crate::answer::{Answer, answer};
use crate::error::{Error, Result};
use crate::generate::GenerationConfig;
use crate::math::AttnImplementation;
use crate::model::NemotronVl;
use crate::prompt::PromptBuilder;
use crate::record::Recorder;
use crate::request::{ChatRequest, PreparedRequest};
use crate::settings::{Settings, producer};

/// A model with its tokenizer and chat template.
pub struct Session {
    model: NemotronVl,
    prompts: PromptBuilder,
    settings: Settings,
    /// Name of the checkpoint in a dump's manifest.
    checkpoint: Option<String>,
    is_stopped: fn() -> bool,
}

impl Session {
    /// Reads what belongs to a model in its checkpoint's folder, `dir`. `settings` are those that were applied; `is_stopped`
    /// tells whether the user has asked to stop.
    ///
    /// # Errors
    /// Where tokenizer or chat template cannot be read.
    pub fn new(model: NemotronVl, dir: &Path, settings: Settings, is_stopped: fn() -> bool) -> Result<Self> {
        let prompts = PromptBuilder::load(dir, model.config())?;
        let checkpoint = dir.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self { model, prompts, settings, checkpoint, is_stopped })
    }

    /// Makes a request ready.
    ///
    /// # Errors
    /// As [`ChatRequest::prepare`].
    pub fn prepare(&self, request: &ChatRequest) -> Result<PreparedRequest> {
        request.prepare(self.model.config(), &self.prompts)
    }

    /// The ids of the tokens that end an answer: `chosen`, or the tokenizer's own where there are none.
    ///
    /// # Errors
    /// [`Error::Request`] for an id that no token has.
    pub fn end_token_ids(&self, chosen: &[i64]) -> Result<Vec<i64>> {
        self.prompts.tokenizer().end_token_ids(chosen)
    }

    /// Answers a request, up to the first of the texts `stop`, and finishes the dump that `recorder` writes. `on_text` is given
    /// the text as it comes.
    ///
    /// # Errors
    /// As [`answer`]; [`Error::Interrupted`] once the user has asked to stop; where the dump cannot be written.
    pub fn answer(
        &self,
        prepared: &PreparedRequest,
        config: &GenerationConfig,
        stop: &[String],
        recorder: Recorder,
        on_text: impl FnMut(&str) -> Result<()>,
    ) -> Result<Answer> {
        let mut recorder = recorder.stopping(self.is_stopped);
        let tokenizer = self.prompts.tokenizer();
        let answer = answer(&self.model, tokenizer, &prepared.inputs, config, stop, &mut recorder, on_text)?;
        if let Some(writer) = recorder.into_writer() {
            let producer = producer(&self.model, &self.settings, &prepared.inputs);
            writer.finish(answer.manifest_head(producer, self.checkpoint.clone(), prepared, config))?;
        }
        Ok(answer)
    }

    /// The attention of the model's decoder.
    pub fn attention(&self) -> AttnImplementation {
        self.model.attention()
    }

    /// Refuses to begin with what is next.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once the user has asked to stop.
    pub fn check_not_stopped(&self) -> Result<()> {
        if (self.is_stopped)() { Err(Error::Interrupted) } else { Ok(()) }
    }
}
