//! The checkpoint's chat template: Jinja, in the dialect that transformers gives it.

mod environment;
mod sandbox;
mod source;
mod tojson;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value, json};

use super::tokenizer_config::{TokenizerConfig, malformed, read_text};
use super::{PromptError, Result};
use environment::RAISED;
use sandbox::Limits;

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
    /// Whether a rendering of it did not end.
    is_stuck: AtomicBool,
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
        if let Err((expected, found)) = source::check_lengths(source) {
            return Err(PromptError::Malformed {
                path,
                field: "the chat template".to_owned(),
                expected,
                found,
            });
        }
        // Python reads any end of line as a line feed.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let compiled = sandbox::run(LIMITS, move || {
            let mut environment = environment::like_transformers().map_err(Failure::of)?;
            environment
                .add_template_owned(TEMPLATE, source::without_generation_tags(&source))
                .map_err(Failure::of)?;
            Ok::<_, Failure>(environment)
        });
        match compiled {
            Ok(Ok(environment)) => {
                Ok(Self { path, environment, special_tokens, is_stuck: AtomicBool::new(false) })
            }
            Ok(Err(failure)) => Err(failure.named(path, STEPS)),
            Err(reason) => Err(PromptError::TemplateLimit { path, reason }),
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
        let path = || self.path.clone();
        if self.is_stuck.load(Ordering::Relaxed) {
            let reason = "it exceeded its limits before".to_owned();
            return Err(PromptError::TemplateLimit { path: path(), reason });
        }
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let steps = STEPS + STEPS_PER_MESSAGE * messages.len() as u64 + bytes as u64 / MESSAGE_BYTES_PER_STEP;
        let limits = Limits {
            memory_bytes: LIMITS.memory_bytes.saturating_add(bytes.saturating_mul(MEMORY_PER_BYTE)),
            ..LIMITS
        };
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(steps));
        let rendered = sandbox::run(limits, move || {
            let rendered = environment
                .get_template(TEMPLATE)
                .and_then(|template| template.render(minijinja::Value::from(Serde(context))));
            rendered.map_err(Failure::of)
        });
        let rendered = rendered.map_err(|reason| {
            // What is left behind is enough of one template.
            self.is_stuck.store(true, Ordering::Relaxed);
            PromptError::TemplateLimit { path: path(), reason }
        })?;
        rendered.map_err(|failure| failure.named(path(), steps))
    }
}

/// Why a template failed, in words: an error of the engine may hold values that only the template's own thread has the stack
/// to drop.
enum Failure {
    Raised(String),
    OutOfSteps,
    Other(String),
}

impl Failure {
    fn of(error: minijinja::Error) -> Self {
        match error.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
            Some(message) => Self::Raised(shortened(message)),
            None if error.kind() == ErrorKind::OutOfFuel => Self::OutOfSteps,
            None => Self::Other(describe(&error)),
        }
    }

    fn named(self, path: PathBuf, steps: u64) -> PromptError {
        match self {
            Self::Raised(message) => PromptError::TemplateRefusal { path, message },
            Self::OutOfSteps => {
                let reason = format!("it takes more than {steps} steps for this conversation");
                PromptError::TemplateLimit { path, reason }
            }
            Self::Other(reason) => PromptError::Template { path, reason },
        }
    }
}

/// What a template may do in any conversation: an instruction is a step, and so are 64 bytes that it makes or reads.
const STEPS: u64 = 500_000;
/// Steps that each message adds.
const STEPS_PER_MESSAGE: u64 = 2_000;
/// Bytes of the messages that add a step.
const MESSAGE_BYTES_PER_STEP: u64 = 2;

/// A template in use takes milliseconds and some kilobytes.
const LIMITS: Limits = Limits { stack_bytes: 1 << 30, memory_bytes: 32 << 20, time: Duration::from_secs(5) };
/// Bytes of memory that each byte of the messages adds.
const MEMORY_PER_BYTE: usize = 64;

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
    format!("{}{}{line}", error.kind(), shortened(&detail))
}

/// A template's own words may be of any length.
fn shortened(words: &str) -> String {
    const MAX_CHARS: usize = 1000;
    match words.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}
