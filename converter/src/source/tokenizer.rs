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
    chat_template: Option<ChatTemplate>,
}

#[derive(Deserialize)]
struct Content {
    content: String,
}

/// A template, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum ChatTemplate {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
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
    let (inside, warning) = match settings(source)?.chat_template {
        None => (None, None),
        Some(ChatTemplate::One(template)) => (Some(template), None),
        Some(ChatTemplate::Named(templates)) => {
            let names: Vec<&str> = templates.iter().map(|named| named.name.as_str()).collect();
            let warning = format!(
                "`{TOKENIZER_CONFIG_FILE}` has {} chat templates ({}); `default` was taken",
                names.len(),
                names.join(", ")
            );
            let default = templates.iter().find(|named| named.name == "default");
            (default.map(|named| named.template.clone()), Some(warning))
        }
    };
    match (source.file(CHAT_TEMPLATE_FILE), inside) {
        // transformers prefers the file.
        (Some(file), Some(inside)) if file.bytes != inside.as_bytes() => Ok((
            None,
            Some(format!(
                "`{CHAT_TEMPLATE_FILE}` and the template inside `{TOKENIZER_CONFIG_FILE}` differ; the file was taken"
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

fn settings(source: &SourceCheckpoint) -> Result<TokenizerConfig, Error> {
    let path = source.folder().file_path(TOKENIZER_CONFIG_FILE);
    json::parse(&path, &source.needed(TOKENIZER_CONFIG_FILE)?.bytes)
}
