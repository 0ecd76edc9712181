//! What the tokenizer's files say: the image token's id, and the chat template.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{CHAT_TEMPLATE_FILE, SourceCheckpoint, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use crate::{Error, json};

/// The parts of `tokenizer.json` that give a token an id.
#[derive(Deserialize)]
struct Tokenizer {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    model: Option<Model>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    /// A map from token to id; for a Unigram model a list, which has no image token.
    #[serde(default)]
    vocab: Value,
}

/// The part of `tokenizer_config.json` that gives a token an id.
#[derive(Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    added_tokens_decoder: BTreeMap<String, Content>,
    #[serde(default)]
    chat_template: Option<Value>,
}

#[derive(Deserialize)]
struct Content {
    content: String,
}

/// A template, or several with names.
enum ChatTemplate {
    One(String),
    Named(Vec<(String, String)>),
}

impl ChatTemplate {
    /// A text; or several under their names, in an object or, as transformers writes them, a list.
    fn read(value: &Value) -> Option<Self> {
        let named =
            |name: &Value, template: &Value| Some((name.as_str()?.to_owned(), template.as_str()?.to_owned()));
        match value {
            Value::String(template) => Some(Self::One(template.clone())),
            Value::Object(templates) => templates
                .iter()
                .map(|(name, template)| Some((name.clone(), template.as_str()?.to_owned())))
                .collect::<Option<_>>()
                .map(Self::Named),
            Value::Array(templates) => templates
                .iter()
                .map(|entry| named(entry.get("name")?, entry.get("template")?))
                .collect::<Option<_>>()
                .map(Self::Named),
            _ => None,
        }
    }
}

/// The id of `token`, which must be a single token of the tokenizer.
///
/// # Errors
/// [`Error::Field`] where `tokenizer.json` doesn't have it, or `tokenizer_config.json` gives it another id.
pub(crate) fn image_token_id(source: &SourceCheckpoint, token: &str) -> Result<u32, Error> {
    let path = source.folder().file_path(TOKENIZER_FILE);
    let tokenizer: Tokenizer = json::parse(&path, &source.needed(TOKENIZER_FILE)?.bytes)?;
    let added = tokenizer.added_tokens.iter().find(|added| added.content == token).map(|added| added.id);
    let in_vocab = || {
        let id = tokenizer.model.as_ref()?.vocab.get(token)?.as_u64()?;
        u32::try_from(id).ok()
    };
    let Some(id) = added.or_else(in_vocab) else {
        return Err(Error::field(
            &path,
            "added_tokens",
            format!("the image token `{token}`"),
            "no token of this text",
        ));
    };
    let path = source.folder().file_path(TOKENIZER_CONFIG_FILE);
    let settings = settings(source)?;
    let other = settings.added_tokens_decoder.iter().find(|(_, added)| added.content == token);
    match other {
        Some((other, _)) if *other != id.to_string() => Err(Error::field(
            &path,
            format!("added_tokens_decoder.{other}"),
            format!("the image token `{token}` at id {id}, as in `{TOKENIZER_FILE}`"),
            format!("id {other}"),
        )),
        _ => Ok(id),
    }
}

/// The chat template, with a warning where there is something to say about it.
pub(crate) fn chat_template(source: &SourceCheckpoint) -> Result<(Option<String>, Option<String>), Error> {
    let (inside, warning) = match templates_inside(source)? {
        None => (None, None),
        Some(ChatTemplate::One(template)) => (Some(template), None),
        Some(ChatTemplate::Named(templates)) => {
            let names: Vec<&str> = templates.iter().map(|(name, _)| name.as_str()).collect();
            let default = templates.iter().find(|(name, _)| name == "default");
            let taken =
                if default.is_some() { "`default` is used" } else { "none is `default`, and none is used" };
            let (count, plural) = (names.len(), if names.len() == 1 { "" } else { "s" });
            let warning = match (default, count) {
                (Some(_), 1) => None,
                _ => Some(format!(
                    "`{TOKENIZER_CONFIG_FILE}` has {count} chat template{plural} ({}); {taken}",
                    names.join(", ")
                )),
            };
            (default.map(|(_, template)| template.clone()), warning)
        }
    };
    match (source.file(CHAT_TEMPLATE_FILE), inside) {
        // transformers prefers the file.
        (Some(file), Some(inside)) if file.bytes != inside.as_bytes() => Ok((
            None,
            Some(format!(
                "`{CHAT_TEMPLATE_FILE}` and the template inside `{TOKENIZER_CONFIG_FILE}` differ; the file is used"
            )),
        )),
        (Some(_), _) => Ok((None, None)),
        (None, Some(inside)) => Ok((Some(inside), warning)),
        (None, None) => Ok((
            None,
            Some(warning.unwrap_or_else(|| {
                format!(
                    "no chat template, neither in `{CHAT_TEMPLATE_FILE}` nor in `{TOKENIZER_CONFIG_FILE}`"
                )
            })),
        )),
    }
}

fn templates_inside(source: &SourceCheckpoint) -> Result<Option<ChatTemplate>, Error> {
    let Some(value) = settings(source)?.chat_template else { return Ok(None) };
    let path = source.folder().file_path(TOKENIZER_CONFIG_FILE);
    let expected = "a template, or templates with names, in an object or a list";
    match ChatTemplate::read(&value) {
        Some(template) => Ok(Some(template)),
        None => Err(Error::field(&path, "chat_template", expected, "something else")),
    }
}

fn settings(source: &SourceCheckpoint) -> Result<TokenizerConfig, Error> {
    let path = source.folder().file_path(TOKENIZER_CONFIG_FILE);
    json::parse(&path, &source.needed(TOKENIZER_CONFIG_FILE)?.bytes)
}
