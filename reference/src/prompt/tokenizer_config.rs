//! `tokenizer_config.json` and `special_tokens_map.json`: what they add to `tokenizer.json`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use store::Content;
use store::json::{self, Text};

use super::{PromptError, Result};

/// The fields of special tokens, in the order in which a template sees them.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What the tokenizer's configuration says beside `tokenizer.json`.
#[derive(Debug, Clone)]
pub struct TokenizerConfig {
    /// Its file.
    pub path: PathBuf,
    /// Special tokens under the names that a template knows: `bos_token`, `eos_token`, ...
    pub special_tokens: Map<String, Value>,
    /// Tokens with their ids; `tokenizer.json` should have them as well.
    pub added_tokens: Vec<(u32, AddedToken)>,
    /// Whether spaces in front of English punctuation are removed from an answer.
    pub clean_up_tokenization_spaces: bool,
    /// The chat template, or a list of named ones.
    pub chat_template: Option<Value>,
}

/// A token that is never split.
#[derive(Debug, Clone, Deserialize)]
pub struct AddedToken {
    /// Its text.
    pub content: String,
    /// Whether it takes the space on its left with it.
    #[serde(default)]
    pub lstrip: bool,
    /// Whether it takes the space on its right with it.
    #[serde(default)]
    pub rstrip: bool,
    /// Whether it must stand alone.
    #[serde(default)]
    pub single_word: bool,
    /// Whether it is looked for in the normalised text.
    #[serde(default)]
    pub normalized: bool,
    /// Whether it is a control token.
    #[serde(default)]
    pub special: bool,
}

impl TokenizerConfig {
    /// Reads the configuration in a checkpoint's folder.
    ///
    /// # Errors
    /// `tokenizer_config.json` is missing or malformed.
    ///
    /// # Source
    /// transformers, `tokenization_utils_base.py`, `PreTrainedTokenizerBase._from_pretrained`
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer_config.json");
        let config = read_object(&path)?;
        let mut special_tokens = Map::new();
        collect_special_tokens(&config, &path, &mut special_tokens)?;
        // An older layout, which has no `added_tokens_decoder`, keeps the special tokens apart.
        let map_path = dir.join("special_tokens_map.json");
        if !config.contains_key("added_tokens_decoder") && map_path.exists() {
            collect_special_tokens(&read_object(&map_path)?, &map_path, &mut special_tokens)?;
        }
        let added_tokens = match config.get("added_tokens_decoder") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(tokens)) => {
                tokens.iter().map(|(id, token)| added_token(&path, id, token)).collect::<Result<_>>()?
            }
            Some(other) => return Err(malformed(&path, "`added_tokens_decoder`", "an object", other)),
        };
        let clean_up_tokenization_spaces = match config.get("clean_up_tokenization_spaces") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                return Err(malformed(&path, "`clean_up_tokenization_spaces`", "true or false", other));
            }
        };
        let chat_template = config.get("chat_template").filter(|template| !template.is_null()).cloned();
        Ok(Self { path, special_tokens, added_tokens, clean_up_tokenization_spaces, chat_template })
    }

    /// The text of a special token: `bos_token`, `eos_token`, ...
    pub fn special_token(&self, field: &str) -> Option<&str> {
        self.special_tokens.get(field)?.as_str()
    }
}

/// The largest of a tokenizer's files that is read: that of Llama 3.1 has 17 MB.
const MAX_BYTES: u64 = 1 << 28;

/// The text of a file; what stands in the place of another file is refused.
pub fn read_text(path: &Path) -> Result<String> {
    let text = store::read_to_string(path, MAX_BYTES)
        .map_err(|source| PromptError::Read { path: path.to_owned(), source })?;
    match Content::stand_in(text.as_bytes()) {
        Some(content) => Err(PromptError::Content { path: path.to_owned(), content }),
        None => Ok(text),
    }
}

/// An error about a field of a JSON file.
pub fn malformed(path: &Path, field: &str, expected: &'static str, found: &Value) -> PromptError {
    let mut found = json::show(found);
    if let Some((end, _)) = found.char_indices().nth(60) {
        found.truncate(end);
        found.push_str("...");
    }
    PromptError::Malformed {
        path: path.to_owned(),
        field: field.to_owned(),
        expected,
        found: format!("`{found}`"),
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let text = read_text(path)?;
    match Text::new(text.as_bytes()).and_then(|text| text.parse()) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(malformed(path, "the whole", "a JSON object", &other)),
        Err(error) => Err(PromptError::Malformed {
            path: path.to_owned(),
            field: "the whole".to_owned(),
            expected: "a JSON object",
            found: error.to_string(),
        }),
    }
}

/// Adds the special tokens of a file; a token is a text, or an object with the text in `content`.
fn collect_special_tokens(
    file: &Map<String, Value>,
    path: &Path,
    tokens: &mut Map<String, Value>,
) -> Result<()> {
    let text_of = |field: &str, token: &Value| -> Result<Value> {
        match token.as_str().or_else(|| token.get("content").and_then(Value::as_str)) {
            Some(text) => Ok(Value::from(text)),
            None => Err(malformed(path, &format!("`{field}`"), "a token", token)),
        }
    };
    for field in SPECIAL_TOKENS {
        match file.get(field) {
            None | Some(Value::Null) => {}
            Some(token) => {
                tokens.insert(field.to_owned(), text_of(field, token)?);
            }
        }
    }
    if let Some(Value::Array(additional)) = file.get("additional_special_tokens") {
        let additional: Result<Vec<Value>> =
            additional.iter().map(|token| text_of("additional_special_tokens", token)).collect();
        tokens.insert("additional_special_tokens".to_owned(), Value::Array(additional?));
    }
    if let Some(Value::Object(extra)) = file.get("extra_special_tokens") {
        for (field, token) in extra {
            tokens.insert(field.clone(), text_of(field, token)?);
        }
    }
    Ok(())
}

fn added_token(path: &Path, id: &str, token: &Value) -> Result<(u32, AddedToken)> {
    let field = format!("`added_tokens_decoder.{id}`");
    let Ok(number) = id.parse() else {
        return Err(malformed(path, &field, "a token id as the key", &Value::from(id)));
    };
    let parsed = AddedToken::deserialize(token)
        .map_err(|_| malformed(path, &field, "a token with `content`", token))?;
    Ok((number, parsed))
}
