//! The checkpoint's chat template: Jinja, in the dialect that transformers gives it.

mod environment;
mod tojson;

use std::path::{Path, PathBuf};

use minijinja::Environment;
use minijinja::value::Serde;
use serde_json::{Map, Value, json};

use super::tokenizer_config::{TokenizerConfig, malformed, read_text};
use super::{PromptError, Result};
use environment::RAISED;

const TEMPLATE: &str = "chat_template";

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Message<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// Its text.
    pub content: &'a str,
}

/// Turns a conversation into the text that the model was trained on.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    environment: Environment<'static>,
    special_tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// Reads the template of a checkpoint's folder: `chat_template.jinja`, or else `chat_template` in the tokenizer's
    /// configuration; of several, the one named `default`.
    ///
    /// # Errors
    /// There is none, or it cannot be parsed.
    ///
    /// # Source
    /// transformers, `tokenization_utils_base.py`, `PreTrainedTokenizerBase.get_chat_template`
    pub fn load(dir: &Path, config: &TokenizerConfig) -> Result<Self> {
        let path = dir.join("chat_template.jinja");
        if path.exists() {
            let source = read_text(&path)?;
            return Self::new(path, &source, config.special_tokens.clone());
        }
        let Some(template) = &config.chat_template else {
            return Err(PromptError::NoTemplate { dir: dir.to_owned() });
        };
        let source = default_template(template, &config.path)?;
        Self::new(config.path.clone(), source, config.special_tokens.clone())
    }

    /// A template from its text; `path` is named in messages, `special_tokens` are what the template knows under names
    /// such as `bos_token`.
    ///
    /// # Errors
    /// The text cannot be parsed.
    pub fn new(path: PathBuf, source: &str, special_tokens: Map<String, Value>) -> Result<Self> {
        let compiled = environment::like_transformers().and_then(|mut environment| {
            // Python reads any end of line as a line feed.
            let source = source.replace("\r\n", "\n").replace('\r', "\n");
            environment.add_template_owned(TEMPLATE, environment::without_generation_tags(&source))?;
            Ok(environment)
        });
        match compiled {
            Ok(environment) => Ok(Self { path, environment, special_tokens }),
            Err(error) => Err(PromptError::Template { path, reason: describe(&error) }),
        }
    }

    /// The text of a conversation, ending where the assistant's next answer begins.
    ///
    /// # Errors
    /// The template fails, or refuses the conversation.
    pub fn render(&self, messages: &[Message<'_>]) -> Result<String> {
        let mut context = self.special_tokens.clone();
        context.extend(
            [
                ("messages", json!(messages)),
                ("tools", Value::Null),
                ("documents", Value::Null),
                ("add_generation_prompt", json!(true)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let rendered = self
            .environment
            .get_template(TEMPLATE)
            .and_then(|template| template.render(minijinja::Value::from(Serde(context))));
        rendered.map_err(|error| {
            let path = self.path.clone();
            match error.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
                Some(message) => PromptError::TemplateRefusal { path, message: message.to_owned() },
                None => PromptError::Template { path, reason: describe(&error) },
            }
        })
    }
}

/// The template for a plain chat: the text itself, or the one named `default` of a list.
fn default_template<'a>(template: &'a Value, path: &Path) -> Result<&'a str> {
    let named: Vec<(&str, &str)> = match template {
        Value::String(source) => return Ok(source),
        Value::Array(templates) => templates
            .iter()
            .map(|entry| Some((entry.get("name")?.as_str()?, entry.get("template")?.as_str()?)))
            .collect::<Option<_>>(),
        Value::Object(templates) => {
            templates.iter().map(|(name, source)| Some((name.as_str(), source.as_str()?))).collect()
        }
        _ => None,
    }
    .ok_or_else(|| malformed(path, "`chat_template`", "a template, or named templates", template))?;
    match named.iter().find(|(name, _)| *name == "default") {
        Some((_, source)) => Ok(source),
        None => Err(PromptError::NoDefaultTemplate {
            path: path.to_owned(),
            found: named.iter().map(|(name, _)| (*name).to_owned()).collect(),
        }),
    }
}

/// The engine's words with the line, on one line.
fn describe(error: &minijinja::Error) -> String {
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    format!("{}{detail}{line}", error.kind())
}
