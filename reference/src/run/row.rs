//! A row of the file of answers, and how one that is whole is told from one that is not.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::identity::Identity;
use super::requests::SourceLine;
use super::row_bytes::{add_hash, begins_as_row, split_hash};
use crate::answer::Answer;
use crate::error::Error;
use crate::generate::{FinishReason, StepLogprobs};
use crate::record::with_bytes;
use crate::request::PreparedRequest;

/// What became of a request.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Number of the request's line.
    pub line: usize,
    /// The request's id.
    pub id: String,
    /// An answer or an error.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The request, field by field.
    pub request: Identity,
    /// SHA-256 over these fields.
    pub request_sha256: String,
}

/// An answer or an error.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// The request was answered.
    Answered(Box<AnsweredRow>),
    /// It was not.
    Failed {
        /// Why.
        error: String,
        /// What to try.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// An answer, and what it was made from.
#[derive(Debug, Serialize)]
pub struct AnsweredRow {
    /// The answer.
    pub text: String,
    /// Its tokens, the end token included.
    pub generated_ids: Vec<i64>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Log probabilities of each token, where asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<StepLogprobs>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// SHA-256 of the prompt's text.
    pub prompt_sha256: String,
    /// SHA-256 of the prompt's ids, as little-endian int64: that of the dump's `input_ids`.
    pub input_ids_sha256: String,
    /// The pictures.
    pub images: Vec<RowImage>,
    /// What a user may not expect of the pictures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Time of the prefill, pictures included.
    pub prefill_secs: f64,
    /// Time of all steps after it.
    pub decode_secs: f64,
}

/// A picture of a row.
#[derive(Debug, Serialize)]
pub struct RowImage {
    /// Name of the file, without its folder.
    pub file: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Tiles, the thumbnail included.
    pub tiles: usize,
}

impl Outcome {
    pub(super) fn answered(prepared: &PreparedRequest, answer: &Answer) -> Result<Self, Error> {
        let generation = &answer.generation;
        let images = prepared.pictures.iter().map(|picture| RowImage {
            file: picture.file.clone(),
            sha256: picture.sha256.clone(),
            tiles: picture.num_tiles,
        });
        let input_ids_sha256 = with_bytes(&prepared.inputs.input_ids, |_, ids| Ok(golden::sha256_hex(ids)))?;
        Ok(Self::Answered(Box::new(AnsweredRow {
            text: answer.text.clone(),
            generated_ids: generation.token_ids.clone(),
            finish_reason: generation.finish_reason,
            logprobs: generation.logprobs.clone(),
            prompt_tokens: prepared.inputs.input_ids.numel(),
            prompt_sha256: golden::sha256_hex(prepared.prompt.as_bytes()),
            input_ids_sha256,
            images: images.collect(),
            warnings: prepared.warnings().map(|(file, warning)| format!("{file}: {warning}")).collect(),
            prefill_secs: generation.prefill_time.as_secs_f64(),
            decode_secs: generation.decode_time.as_secs_f64(),
        })))
    }

    pub(super) fn failed(error: &Error) -> Self {
        Self::Failed { error: error.to_string(), hint: error.hint() }
    }
}

impl Row {
    pub(super) fn new(line: &SourceLine, outcome: Outcome, request: Identity) -> Self {
        let request_sha256 = request.sha256();
        Self { line: line.number, id: line.id.clone(), outcome, request, request_sha256 }
    }

    /// Whether the request was not answered.
    pub fn is_error(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { .. })
    }

    /// The row as a line of JSON, without the line break. Its last field is the hash over all before it.
    pub(super) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        add_hash(&mut bytes);
        Ok(bytes)
    }
}

/// What is read of a row that is there.
#[derive(Debug, Deserialize)]
pub(super) struct DoneRow {
    pub line: usize,
    pub id: String,
    #[serde(default)]
    pub error: Option<String>,
    pub request: Identity,
}

impl DoneRow {
    /// Reads a row that is as [`Row::to_bytes`] wrote it; else says what is wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        if !begins_as_row(bytes) {
            return Err("expected a row of an earlier run, found something else");
        }
        let Some((content, hash)) = split_hash(bytes) else {
            return Err(if is_of_earlier_release(bytes) {
                "expected a row that says which request it answers, found one of an earlier release"
            } else {
                DAMAGED
            });
        };
        if golden::sha256_hex(&[content, b"}"].concat()).as_bytes() != hash {
            return Err(DAMAGED);
        }
        serde_json::from_slice(bytes).map_err(|_| DAMAGED)
    }
}

const DAMAGED: &str = "expected a row as it was written, found a changed one";

fn is_of_earlier_release(row: &[u8]) -> bool {
    let row: Option<Map<String, Value>> = serde_json::from_slice(row).ok();
    row.is_some_and(|row| !row.contains_key("request") && !row.contains_key("row_sha256"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Vec<u8> {
        let outcome = Outcome::Failed { error: "e\"\u{e9}".into(), hint: None };
        let request: Identity = serde_json::from_str(r#"{"seed": 7}"#).unwrap();
        let request_sha256 = request.sha256();
        Row { line: 3, id: "a".into(), outcome, request, request_sha256 }.to_bytes().unwrap()
    }

    #[test]
    fn a_row_is_json_and_read_back() {
        let json: Value = serde_json::from_slice(&row()).unwrap();
        assert_eq!((&json["line"], &json["error"]), (&3.into(), &"e\"\u{e9}".into()));
        assert_eq!(json["request"]["seed"], 7);
        let done = DoneRow::read(&row()).unwrap();
        assert_eq!((done.line, done.id.as_str(), done.error.is_some()), (3, "a", true));
        assert_eq!(done.request.sha256(), json["request_sha256"]);
    }

    #[test]
    fn no_change_of_a_byte_goes_unnoticed() {
        let row = row();
        for at in 0..row.len() {
            for bit in 0..8 {
                let mut changed = row.clone();
                changed[at] ^= 1 << bit;
                assert!(DoneRow::read(&changed).is_err(), "{}", String::from_utf8_lossy(&changed));
            }
            assert!(DoneRow::read(&row[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn a_row_of_an_earlier_release_is_called_that() {
        let said = DoneRow::read(br#"{"line":1,"id":"a","text":"x"}"#).unwrap_err();
        assert!(said.ends_with("found one of an earlier release"), "{said}");
    }
}
