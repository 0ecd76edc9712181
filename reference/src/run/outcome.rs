//! The file of answers: a row for each request, appended whole.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::requests::SourceLine;
use crate::answer::Answer;
use crate::error::{Error, Result};
use crate::generate::{FinishReason, StepLogprobs};
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

impl Row {
    pub(super) fn answered(line: &SourceLine, prepared: &PreparedRequest, answer: &Answer) -> Self {
        let generation = &answer.generation;
        let images = prepared.preprocessed.pictures.iter().map(|picture| RowImage {
            file: picture.file.clone(),
            sha256: picture.sha256.clone(),
            tiles: picture.num_tiles,
        });
        let ids: Vec<u8> = prepared.input_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let outcome = Outcome::Answered(Box::new(AnsweredRow {
            text: answer.text.clone(),
            generated_ids: generation.token_ids.clone(),
            finish_reason: generation.finish_reason,
            logprobs: generation.logprobs.clone(),
            prompt_tokens: prepared.input_ids.len(),
            prompt_sha256: golden::sha256_hex(prepared.prompt.as_bytes()),
            input_ids_sha256: golden::sha256_hex(&ids),
            images: images.collect(),
            warnings: prepared.warnings().map(|(file, warning)| format!("{file}: {warning}")).collect(),
            prefill_secs: generation.prefill_time.as_secs_f64(),
            decode_secs: generation.decode_time.as_secs_f64(),
        }));
        Self { line: line.number, id: line.id.clone(), outcome }
    }

    pub(super) fn failed(line: &SourceLine, error: &Error) -> Self {
        let outcome = Outcome::Failed { error: error.to_string(), hint: error.hint() };
        Self { line: line.number, id: line.id.clone(), outcome }
    }

    /// Whether the request was not answered.
    pub fn is_error(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { .. })
    }
}

/// The file of answers, held by one process at a time.
#[derive(Debug)]
pub struct Outcomes {
    path: PathBuf,
    file: File,
    /// The rows that are there, by line number.
    done: HashMap<usize, DoneRow>,
}

/// What is read of a row that is there.
#[derive(Debug, Deserialize)]
struct DoneRow {
    line: usize,
    id: String,
    #[serde(default)]
    error: Option<String>,
}

/// What an earlier run did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It answered it.
    Answered,
    /// It could not.
    Failed,
}

impl Outcomes {
    /// Opens the file or makes it. A row that a killed run did not finish is cut off: its request is not done.
    ///
    /// # Errors
    /// [`Error::Write`] where it cannot be opened; [`Error::Run`] where another process holds it, or it has a line that is
    /// no row.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let refuse = |problem| Error::Run { path: path.to_owned(), problem };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(refuse("another run is writing to it".to_owned()));
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let mut done = HashMap::new();
        for (index, row) in bytes[..whole].split(|&byte| byte == b'\n').enumerate() {
            if row.is_empty() {
                continue;
            }
            let row: DoneRow = serde_json::from_slice(row).map_err(|error| {
                refuse(format!("line {}: expected a row of an earlier run: {error}", index + 1))
            })?;
            done.insert(row.line, row);
        }
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, done })
    }

    /// What an earlier run did with a request; none where nothing.
    ///
    /// # Errors
    /// [`Error::Run`] where its line was another request's when it was done.
    pub fn of(&self, line: &SourceLine) -> Result<Option<Done>> {
        match self.done.get(&line.number) {
            None => Ok(None),
            Some(row) if row.id == line.id => {
                Ok(Some(if row.error.is_some() { Done::Failed } else { Done::Answered }))
            }
            Some(row) => {
                let problem = format!(
                    "it has answers to other requests: line {} is `{}`, and was `{}` when it was answered",
                    line.number, line.id, row.id
                );
                Err(Error::Run { path: self.path.clone(), problem })
            }
        }
    }

    /// Adds a row, in one write, and sees that it is on the disk.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn append(&mut self, row: &Row) -> Result<()> {
        let failed = |source| Error::Write { path: self.path.clone(), source };
        let mut bytes = serde_json::to_vec(row).map_err(|error| failed(error.into()))?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(failed)?;
        self.file.sync_data().map_err(failed)
    }
}
