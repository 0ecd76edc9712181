//! A conversation and its pictures to token ids.

use std::path::Path;

use converter::normalized::{Config, ImageTagType};

use super::chat_template::{ChatTemplate, Message};
use super::{PromptError, Result, Tokenizer};

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename = "Turn")]
pub struct AnsweredTurn {
    /// The question, with its placeholders.
    pub user: String,
    /// The answer.
    pub assistant: String,
}

/// What the model is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conversation<'a> {
    /// The system prompt.
    pub system: Option<&'a str>,
    /// Earlier turns. None and no turn differ: only without a history are placeholders put in front of the question.
    pub history: Option<&'a [AnsweredTurn]>,
    /// The question.
    pub question: &'a str,
}

/// What the model is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The question as the model saw it: with the placeholders that were put in front.
    pub question: String,
    /// The whole text.
    pub text: String,
    /// Its ids.
    pub input_ids: Vec<i64>,
}

/// Makes prompts for one checkpoint.
#[derive(Debug)]
pub struct PromptBuilder {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    image_tag_type: ImageTagType,
    image_token: String,
    image_token_id: i64,
    image_start_token: String,
    image_end_token: String,
    image_seq_length: usize,
}

impl PromptBuilder {
    /// Reads the tokenizer and the chat template of a checkpoint's folder.
    ///
    /// # Errors
    /// A file is missing or malformed, or the tokenizer has the image token under another id than the configuration.
    pub fn load(dir: &Path, config: &Config) -> Result<Self> {
        let tokenizer = Tokenizer::load(dir)?;
        let template = ChatTemplate::load(dir, tokenizer.config())?;
        let image_token_id = i64::from(config.image_token_id);
        let found = tokenizer.token_to_id(&config.image_token);
        if found != Some(image_token_id) {
            return Err(PromptError::TokenId {
                path: dir.join("config.json"),
                token: config.image_token.clone(),
                expected: config.image_token_id,
                found: found.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            });
        }
        Ok(Self {
            tokenizer,
            template,
            image_tag_type: config.image_tag_type,
            image_token: config.image_token.clone(),
            image_token_id,
            image_start_token: config.image_start_token.clone(),
            image_end_token: config.image_end_token.clone(),
            image_seq_length: config.image_seq_length,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The prompt for a conversation with pictures of so many tiles each.
    ///
    /// Without a history, and without a placeholder in the question, one placeholder and a line break go in front of
    /// the question for each picture. With a history the caller has put them where they belong.
    ///
    /// # Errors
    /// The number of placeholders is not the number of pictures, or the template refuses the conversation.
    ///
    /// # Source
    /// `modeling.py`, `Llama_Nemotron_Nano_VL.chat`
    pub fn build(&self, conversation: Conversation<'_>, tiles_per_picture: &[usize]) -> Result<Prompt> {
        let Conversation { system, history, question } = conversation;
        let question = if history.is_none() && !question.contains(&self.image_token) {
            format!("{}\n", self.image_token).repeat(tiles_per_picture.len()) + question
        } else {
            question.to_owned()
        };
        let mut messages = Vec::new();
        messages.extend(system.map(|content| Message { role: "system", content }));
        for AnsweredTurn { user, assistant } in history.unwrap_or_default() {
            messages.push(Message { role: "user", content: user });
            messages.push(Message { role: "assistant", content: assistant });
        }
        messages.push(Message { role: "user", content: &question });
        let text = self.place_pictures(&self.template.render(&messages)?, tiles_per_picture)?;
        let input_ids = self.tokenizer.encode(&text)?;

        let expected = tiles_per_picture.iter().sum::<usize>() * self.image_seq_length;
        let found = input_ids.iter().filter(|&&id| id == self.image_token_id).count();
        if found != expected {
            return Err(PromptError::ImageTokenCount { expected, found });
        }
        Ok(Prompt { question, text, input_ids })
    }

    /// The text with each placeholder replaced by the image tokens of its picture's tiles, and the tags around them.
    ///
    /// # Source
    /// `modeling.py`, `Llama_Nemotron_Nano_VL._format_image_token`
    fn place_pictures(&self, text: &str, tiles_per_picture: &[usize]) -> Result<String> {
        let mut parts = text.split(&self.image_token);
        let found = text.matches(&self.image_token).count();
        if found != tiles_per_picture.len() {
            return Err(PromptError::ImageCount {
                placeholder: self.image_token.clone(),
                expected: tiles_per_picture.len(),
                found,
            });
        }
        let tile_tokens = self.image_token.repeat(self.image_seq_length);
        let mut result = parts.next().unwrap_or_default().to_owned();
        for (&tiles, part) in tiles_per_picture.iter().zip(parts) {
            result.push_str(&self.image_start_token);
            for tile in 1..=tiles {
                match self.image_tag_type {
                    ImageTagType::Internvl => {}
                    // The thumbnail is the last tile; the only tile is called so as well.
                    ImageTagType::Nvlm if tile == tiles => result.push_str("<tile_global_thumbnail>"),
                    ImageTagType::Nvlm => result.push_str(&format!("<tile_{tile}>")),
                }
                result.push_str(&tile_tokens);
            }
            result.push_str(&self.image_end_token);
            result.push_str(part);
        }
        Ok(result)
    }
}
