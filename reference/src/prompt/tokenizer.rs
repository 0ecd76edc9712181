//! The checkpoint's tokenizer.

use std::path::{Path, PathBuf};

use super::python::strip;
use super::tokenizer_config::{TokenizerConfig, read_text};
use super::{PromptError, Result};
use crate::panics::caught;

/// Text to ids and back, as transformers' fast tokenizer does it with the same files.
#[derive(Debug)]
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    config: TokenizerConfig,
    eos_token: String,
    eos_token_id: u32,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and `tokenizer_config.json` (and, beside an old configuration, `special_tokens_map.json`)
    /// of a checkpoint's folder.
    ///
    /// # Errors
    /// A file is missing or malformed, two contradict each other, or no end-of-sequence token is named.
    pub fn load(dir: &Path) -> Result<Self> {
        let config = TokenizerConfig::load(dir)?;
        let path = dir.join("tokenizer.json");
        let text = read_text(&path)?;
        let inner = guarded(&path, "be loaded", || read_inner(&path, text, &config))??;

        let Some(eos_token) = config.special_token("eos_token").map(str::to_owned) else {
            return Err(PromptError::Malformed {
                path: config.path,
                field: "`eos_token`".to_owned(),
                expected: "a token",
                found: "none".to_owned(),
            });
        };
        let Some(eos_token_id) = inner.token_to_id(&eos_token) else {
            return Err(PromptError::Malformed {
                path: config.path,
                field: "`eos_token`".to_owned(),
                expected: "a token of `tokenizer.json`",
                found: format!("`{eos_token}`"),
            });
        };
        Ok(Self { path, inner, config, eos_token, eos_token_id })
    }

    /// What the tokenizer's configuration says beside `tokenizer.json`.
    pub fn config(&self) -> &TokenizerConfig {
        &self.config
    }

    /// The text of the token that ends an answer.
    pub fn eos_token(&self) -> &str {
        &self.eos_token
    }

    /// The id of the token that ends an answer.
    pub fn eos_token_id(&self) -> i64 {
        i64::from(self.eos_token_id)
    }

    /// The ids of the tokens that end an answer: `chosen` or, where that is empty, the tokenizer's own, as in the public
    /// `chat`.
    ///
    /// # Errors
    /// [`Error::Request`](crate::Error::Request) for an id that no token has: it would never be met.
    pub fn end_token_ids(&self, chosen: &[i64]) -> crate::Result<Vec<i64>> {
        if let Some(unknown) = chosen.iter().find(|&&id| self.id_to_token(id).is_none()) {
            return Err(crate::Error::Request(format!(
                "`eos_token_ids`: expected ids of tokens, found {unknown}, which none has"
            )));
        }
        Ok(if chosen.is_empty() { vec![self.eos_token_id()] } else { chosen.to_vec() })
    }

    /// The text of the token that begins a text, where the checkpoint names one.
    pub fn bos_token(&self) -> Option<&str> {
        self.config.special_token("bos_token")
    }

    /// The id of the token that begins a text, where the checkpoint names one.
    pub fn bos_token_id(&self) -> Option<i64> {
        self.token_to_id(self.bos_token()?)
    }

    /// The id of a token of the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }

    /// The token of an id.
    pub fn id_to_token(&self, id: i64) -> Option<String> {
        self.inner.id_to_token(u32::try_from(id).ok()?)
    }

    /// Ids of the vocabulary, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The ids of a text. No special token is added; those that the text spells out are found.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let encoding = self.call("encode the prompt", |inner| inner.encode_fast(text, false))?;
        Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
    }

    /// The text of ids, special tokens spelled out.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let ids: Vec<u32> = ids.iter().map(|&id| to_u32(id)).collect::<Result<_>>()?;
        let text = self.call("decode the answer", |inner| inner.decode(&ids, false))?;
        Ok(if self.config.clean_up_tokenization_spaces { clean_up_tokenization(&text) } else { text })
    }

    /// The answer that generated ids spell: their text up to the end-of-sequence token, without white space around it.
    ///
    /// # Source
    /// `modeling.py`, `Llama_Nemotron_Nano_VL.chat`
    pub fn answer(&self, ids: &[i64]) -> Result<String> {
        Ok(answer_in(&self.decode(ids)?, &self.eos_token).to_owned())
    }

    /// Calls the library; what it reports, and its panic at a file that is damaged where it was not looked at before, name
    /// the file.
    pub(super) fn call<T>(
        &self,
        action: &'static str,
        call: impl FnOnce(&tokenizers::Tokenizer) -> tokenizers::Result<T>,
    ) -> Result<T> {
        let result = guarded(&self.path, action, || call(&self.inner))?;
        result.map_err(|error| failed(&self.path, action, &error))
    }
}

/// The library's tokenizer of a file, with the tokens that its configuration adds.
fn read_inner(path: &Path, text: String, config: &TokenizerConfig) -> Result<tokenizers::Tokenizer> {
    let malformed = |error: tokenizers::Error| PromptError::Malformed {
        path: path.to_owned(),
        field: "the whole".to_owned(),
        expected: "a tokenizer",
        found: error.to_string(),
    };
    let mut inner = tokenizers::Tokenizer::from_bytes(text).map_err(malformed)?;
    // Python's tokenizer does neither unless it is asked to, whatever the file says.
    inner.with_padding(None);
    inner.with_truncation(None).map_err(|error| failed(path, "be loaded", &error))?;
    add_tokens(&mut inner, path, config)?;
    Ok(inner)
}

/// The library's panics, as errors that name the file.
fn guarded<T>(path: &Path, action: &'static str, call: impl FnOnce() -> T) -> Result<T> {
    caught(call).map_err(|message| failed(path, action, &format!("its file is damaged: {message}")))
}

/// The part of a decoded text that is the answer.
pub(super) fn answer_in<'a>(text: &'a str, eos_token: &str) -> &'a str {
    strip(text.split(eos_token).next().unwrap_or_default())
}

/// Removes the spaces that a word tokenizer of English leaves in front of punctuation.
///
/// # Source
/// transformers, `tokenization_utils_base.py`, `PreTrainedTokenizerBase.clean_up_tokenization`
pub(super) fn clean_up_tokenization(text: &str) -> String {
    const REPLACEMENTS: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    REPLACEMENTS.iter().fold(
        text.to_owned(),
        |text, (from, to)| {
            if text.contains(from) { text.replace(from, to) } else { text }
        },
    )
}

pub(super) fn to_u32(id: i64) -> Result<u32> {
    u32::try_from(id).map_err(|_| PromptError::Id { found: id })
}

fn failed(path: &Path, action: &'static str, error: &dyn std::fmt::Display) -> PromptError {
    PromptError::Tokenizer { path: path.to_owned(), action, reason: error.to_string() }
}

/// Adds the configuration's tokens that `tokenizer.json` lacks, in the order of their ids.
fn add_tokens(inner: &mut tokenizers::Tokenizer, path: &Path, config: &TokenizerConfig) -> Result<()> {
    let mut tokens: Vec<_> = config.added_tokens.iter().collect();
    tokens.sort_by_key(|(id, _)| *id);
    for (id, token) in tokens {
        if inner.token_to_id(&token.content).is_none() {
            let added = tokenizers::AddedToken::from(token.content.clone(), token.special)
                .lstrip(token.lstrip)
                .rstrip(token.rstrip)
                .single_word(token.single_word)
                .normalized(token.normalized);
            inner.add_tokens([added]).map_err(|error| failed(path, "be loaded", &error))?;
        }
        let found = inner.token_to_id(&token.content);
        if found != Some(*id) {
            return Err(PromptError::TokenId {
                path: config.path.clone(),
                token: token.content.clone(),
                expected: *id,
                found: found.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            });
        }
    }
    Ok(())
}
