//! From what a user asks to what the model is given.

use std::path::{Path, PathBuf};

use golden::manifest;
use tch::Tensor;

use crate::error::Result;
use crate::generate::{ModelInputs, Sampling};
use crate::pictures::{Picture, Warning, preprocess};
use crate::prompt::{Conversation, PromptBuilder, Turn};
use converter::normalized::Config;

/// A question, about pictures or without any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatRequest {
    /// System prompt.
    pub system: Option<String>,
    /// Earlier turns; with a history the caller places each picture's `<image>`.
    pub history: Option<Vec<Turn>>,
    /// The question.
    pub question: String,
    /// Files of the pictures, in the order of their placeholders.
    pub images: Vec<PathBuf>,
}

/// A request made ready for the model.
#[derive(Debug)]
pub struct PreparedRequest {
    /// What the model is given.
    pub inputs: ModelInputs,
    /// The prompt's ids.
    pub input_ids: Vec<i64>,
    /// The text that was tokenised.
    pub prompt: String,
    /// The pictures as they were read.
    pub pictures: Vec<Picture>,
    turns: Vec<manifest::Turn>,
    system: Option<String>,
}

impl ChatRequest {
    /// Reads the pictures, cuts them into tiles, builds the prompt and tokenises it.
    ///
    /// # Errors
    /// Where a picture cannot be read, or prompt and pictures do not fit each other.
    pub fn prepare(&self, config: &Config, prompts: &PromptBuilder) -> Result<PreparedRequest> {
        let preprocessed = preprocess(&self.images, &config.image_processor)?;
        let conversation = Conversation {
            system: self.system.as_deref(),
            history: self.history.as_deref(),
            question: &self.question,
        };
        let prompt = prompts.build(conversation, &preprocessed.tiles_per_picture())?;
        let earlier = self
            .history
            .iter()
            .flatten()
            .map(|turn| manifest::Turn { user: turn.user.clone(), assistant: Some(turn.assistant.clone()) });
        // As it was asked: the placeholders that `chat` puts in front are part of the prompt, not of the request.
        let last = manifest::Turn { user: self.question.clone(), assistant: None };
        Ok(PreparedRequest {
            inputs: ModelInputs {
                input_ids: Tensor::f_from_slice(&prompt.input_ids)?.f_view([1, -1])?,
                pixel_values: preprocessed.pixel_values,
            },
            input_ids: prompt.input_ids,
            prompt: prompt.text,
            pictures: preprocessed.pictures,
            turns: earlier.chain([last]).collect(),
            system: self.system.clone(),
        })
    }
}

impl PreparedRequest {
    /// What a user may not expect of the pictures, with the name of each file.
    pub fn warnings(&self) -> impl Iterator<Item = (&str, &Warning)> {
        self.pictures
            .iter()
            .flat_map(|picture| picture.warnings.iter().map(|warning| (picture.file.as_str(), warning)))
    }

    /// The request as a dump's manifest describes it.
    pub fn manifest(&self, max_new_tokens: usize, sampling: &Sampling) -> manifest::Request {
        let images = self.pictures.iter().map(|picture| manifest::Image {
            file: picture.file.clone(),
            width: picture.width as u32,
            height: picture.height as u32,
            sha256: picture.sha256.clone(),
            tiles: Some(picture.num_tiles as u32),
            extra: serde_json::Map::new(),
        });
        let mut extra = serde_json::Map::new();
        if sampling.repetition_penalty != 1.0 {
            extra.insert("repetition_penalty".to_owned(), sampling.repetition_penalty.into());
        }
        if !sampling.is_greedy() {
            extra.insert("temperature".to_owned(), sampling.temperature.into());
            extra.extend(sampling.top_k.map(|top_k| ("top_k".to_owned(), top_k.into())));
            extra.insert("top_p".to_owned(), sampling.top_p.into());
            extra.insert("seed".to_owned(), sampling.seed.into());
        }
        manifest::Request {
            system: self.system.clone(),
            turns: self.turns.clone(),
            images: images.collect(),
            max_new_tokens: Some(max_new_tokens as u64),
            do_sample: Some(!sampling.is_greedy()),
            extra,
        }
    }
}

/// Reads a history: a JSON list of turns, each with `user` and `assistant`.
///
/// # Errors
/// Where the file cannot be read, or is not such a list.
pub fn read_history(path: &Path) -> Result<Vec<Turn>> {
    let fail = |problem: String| crate::Error::History { path: path.to_owned(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| fail(error.to_string()))
}
