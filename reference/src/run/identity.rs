//! What a row answers: the request, field by field, and how it was computed.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::hash::{Digest, sha256_of};
use store::safetensors_header::{LENGTH_BYTES, MAX_HEADER_BYTES};

use super::line::RequestLine;
use super::requests::SourceLine;
use crate::arguments::RecordingArguments;
use crate::error::{Error, Result};
use crate::pictures::video::frames_of_folder;

/// Every field that an answer depends on. Texts and files are there as their SHA-256, settings as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(Map<String, Value>);

/// What is the same for all requests of a run, and changes their answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunConfig {
    /// Of [`checkpoint_sha256`].
    pub checkpoint: String,
    /// The dtype that the model runs in.
    pub dtype: String,
    /// `cpu` or `cuda`.
    pub device: String,
    /// `exact` or `fast`.
    pub math: String,
    /// `eager` or `sdpa`.
    pub attention: String,
    /// The dtype in which pixels reach the tower.
    pub pixel_values_dtype: String,
    /// What is recorded of each request; nothing where no dump is made.
    #[serde(flatten)]
    pub recording: Option<RecordingArguments>,
}

/// How one field differs from that of the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field.
    pub field: String,
    /// What it was and what it is, in words.
    pub found: String,
}

impl Identity {
    /// That of a line of the requests; `files` has the hashes of files that were read before.
    pub fn of(line: &SourceLine, base: &Path, config: &RunConfig, files: &FileHashes) -> Self {
        let mut fields = match &line.request {
            Ok(request) => of_request(request, base, files),
            Err(_) => Map::from_iter([("text".to_owned(), Value::from(line.sha256.as_str()))]),
        };
        if let Ok(Value::Object(config)) = serde_json::to_value(config) {
            fields.extend(config);
        }
        Self(fields)
    }

    /// SHA-256 over all fields.
    pub fn sha256(&self) -> String {
        golden::sha256_hex(Value::Object(self.0.clone()).to_string().as_bytes())
    }

    /// The first field of this request that was another one in a row's.
    pub fn difference(&self, answered: &Self) -> Option<Difference> {
        let names = self.0.keys().chain(answered.0.keys());
        let field = names.into_iter().find(|&name| self.0.get(name) != answered.0.get(name))?;
        let is_hash = |value: &Value| value.as_str().is_some_and(|text| text.len() == 64);
        let found = match (answered.0.get(field), self.0.get(field)) {
            (Some(was), Some(is)) if !(holds(was, &is_hash) || holds(is, &is_hash)) => {
                format!("expected {was}, as when it was answered, found {is}")
            }
            _ => "expected the one that was answered, found another".to_owned(),
        };
        Some(Difference { field: field.clone(), found })
    }
}

/// Whether a value, or one in it, is of a kind.
fn holds(value: &Value, is: &impl Fn(&Value) -> bool) -> bool {
    is(value) || value.as_array().is_some_and(|values| values.iter().any(|value| holds(value, is)))
}

fn of_request(request: &RequestLine, base: &Path, files: &FileHashes) -> Map<String, Value> {
    let text = |text: &String| golden::sha256_hex(text.as_bytes());
    let turns =
        (!request.turns.is_empty()).then(|| golden::sha256_hex(json!(request.turns).to_string().as_bytes()));
    let images: Vec<Value> = request.images.iter().map(|path| files.of(&base.join(path)).into()).collect();
    let videos: Vec<Value> = request
        .videos
        .iter()
        .map(|path| {
            let frames = video_files(&base.join(path), request.num_frames);
            frames.iter().map(|path| files.of(path)).collect::<Value>()
        })
        .collect();
    let Value::Object(fields) = json!({
        "system": request.system.as_ref().map(text),
        "prompt": request.prompt.as_ref().map(text),
        "turns": turns,
        "images": images,
        "num_frames": if request.videos.is_empty() { None } else { Some(request.num_frames) },
        "videos": videos,
        "max_new_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "top_k": request.top_k,
        "top_p": request.top_p,
        "repetition_penalty": request.repetition_penalty,
        "seed": request.seed,
        "eos_token_ids": request.eos_token_ids,
        "stop": request.stop.iter().map(text).collect::<Vec<_>>(),
        "logprobs": request.logprobs,
    }) else {
        return Map::new();
    };
    fields
}

/// The files that a request names and that are there.
pub fn files_of(request: &RequestLine, base: &Path) -> Vec<PathBuf> {
    let videos = request.videos.iter().flat_map(|path| video_files(&base.join(path), request.num_frames));
    request.images.iter().map(|path| base.join(path)).chain(videos).collect()
}

/// The frames of a folder, or the file itself.
fn video_files(path: &Path, num_frames: usize) -> Vec<PathBuf> {
    if path.is_dir() { frames_of_folder(path, num_frames).unwrap_or_default() } else { vec![path.to_owned()] }
}

/// SHA-256 of files, each read once; none for one that cannot be read.
#[derive(Debug, Default)]
pub struct FileHashes(HashMap<PathBuf, Option<String>>);

impl FileHashes {
    /// Reads files, several at a time.
    pub fn read(mut paths: Vec<PathBuf>) -> Self {
        paths.sort_unstable();
        paths.dedup();
        let hashes = paths.into_par_iter().map(|path| {
            let hash = sha256_of_file(&path).ok();
            (path, hash)
        });
        Self(hashes.collect())
    }

    fn of(&self, path: &Path) -> Option<String> {
        match self.0.get(path) {
            Some(hash) => hash.clone(),
            None => sha256_of_file(path).ok(),
        }
    }
}

fn sha256_of_file(path: &Path) -> io::Result<String> {
    sha256_of(store::open(path)?)
}

/// What tells a normalized checkpoint from another: SHA-256 over its small files (configuration, ledger with every tensor's
/// own hash, tokenizer, templates) and, of its tensors' files, the headers and sizes. The tensors themselves are not read.
///
/// # Errors
/// [`Error::Read`] where a file cannot be read.
pub fn checkpoint_sha256(dir: &Path) -> Result<String> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        let name = entry.map_err(failed(dir))?.file_name();
        let path = Path::new(&name);
        let kind = path.extension().and_then(|extension| extension.to_str());
        if matches!(kind, Some("json" | "jinja" | "safetensors")) {
            names.push(path.to_owned());
        }
    }
    names.sort_unstable();
    let mut digest = Digest::default();
    for name in names {
        let path = dir.join(&name);
        let hash = if name.extension().is_some_and(|extension| extension == "safetensors") {
            header_sha256(&path)
        } else {
            sha256_of_file(&path)
        };
        let hash = hash.map_err(failed(&path))?;
        digest.update(format!("{:?} {hash}\n", name.display().to_string()).as_bytes());
    }
    Ok(digest.finish())
}

/// Of the size and the header of a safetensors file.
fn header_sha256(path: &Path) -> io::Result<String> {
    let mut file = store::open(path)?;
    let size = file.metadata()?.len();
    let mut length = [0; LENGTH_BYTES];
    file.read_exact(&mut length)?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length).min(MAX_HEADER_BYTES)).read_to_end(&mut header)?;
    Ok(golden::sha256_hex(format!("{size} {}", golden::sha256_hex(&header)).as_bytes()))
}
