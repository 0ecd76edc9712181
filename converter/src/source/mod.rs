//! A checkpoint as Hugging Face has it: a folder of JSON, tokenizer files, Python that is never run, and weights.

mod code;
mod evidence;
mod files;
mod hub;
mod location;
mod quantization;
mod tokenizer;

pub use code::CodeCaches;
pub use evidence::{Behaviour, Evidence, How};
pub use files::{
    CHAT_TEMPLATE_FILE, CONFIG_FILE, GENERATION_CONFIG_FILE, PREPROCESSOR_FILE, TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
};
pub use hub::{FetchOptions, Fetched, Hub, HubSettings, RemoteFiles, Watch};
pub use location::Location;

use serde_json::Value;
use store::{Content, Stamp};

use crate::architecture::Architecture;
use crate::families;
use crate::weights::{Folder, Weights};
use crate::{Error, json};
use store::hash::sha256;

pub(crate) use code::CodeFile;
use files::{NEEDED, OPTIONAL};
pub(crate) use quantization::refuse_quantized;
pub(crate) use tokenizer::{chat_template, image_token_id};

/// A Hugging Face checkpoint: its small files read and hashed, its weights where they are.
#[derive(Debug)]
pub struct SourceCheckpoint {
    architecture: &'static Architecture,
    folder: Folder,
    location: Location,
    files: Vec<SourceFile>,
    weights: Weights,
}

/// A small file of the source.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its name in the folder.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// The SHA-256 of its content.
    pub sha256: String,
    /// As it was when it was read.
    stamp: Stamp,
}

impl SourceCheckpoint {
    /// Opens the checkpoint at `location`.
    ///
    /// # Errors
    /// Where the folder, one of its needed files or its weights cannot be read.
    pub fn open(location: Location) -> Result<Self, Error> {
        let folder = Folder::open(location.folder()?)?;
        let config = SourceFile::read(&folder, CONFIG_FILE)?;
        // First of all: another model may well lack the other files.
        let path = folder.file_path(CONFIG_FILE);
        let architecture = families::of_source(&path, &json::parse(&path, &config.bytes)?)?;
        let mut files = vec![config];
        let optional = OPTIONAL.into_iter().filter(|name| folder.has(name)).map(str::to_string);
        // Kept for its SHA-256: what Python went with the checkpoint is part of where it came from.
        let code = folder.names()?.into_iter().filter(|name| name.ends_with(".py"));
        for name in NEEDED.map(str::to_string).into_iter().chain(optional).chain(code) {
            files.push(SourceFile::read(&folder, &name)?);
        }
        let weights = match &location {
            Location::Remote { files, .. } => Weights::open_of(&folder, files)?,
            _ => Weights::open(&folder)?,
        };
        Ok(Self { architecture, folder, location, files, weights })
    }

    /// Refuses a source that somebody has written to since it was opened.
    ///
    /// # Errors
    /// [`Error::Changed`] for the first file that is not as it was.
    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        for file in &self.files {
            let path = self.folder.file_path(&file.name);
            file.stamp.check(&path).map_err(Error::changed(&path))?;
        }
        self.weights.check_unchanged()
    }

    /// The model family.
    pub fn architecture(&self) -> &'static Architecture {
        self.architecture
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Where the checkpoint was found.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The small files, in the order in which they were read.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// The small file `name`, if there is one.
    pub fn file(&self, name: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The JSON of the small file `name`.
    ///
    /// # Errors
    /// [`Error::MissingFile`], [`Error::Json`].
    pub fn json(&self, name: &str) -> Result<Value, Error> {
        let file = self.needed(name)?;
        json::parse(&self.folder.file_path(name), &file.bytes)
    }

    pub(crate) fn needed(&self, name: &str) -> Result<&SourceFile, Error> {
        self.file(name).ok_or_else(|| Error::MissingFile {
            dir: self.folder.path().to_path_buf(),
            expected: format!("`{name}`"),
        })
    }
}

impl SourceFile {
    fn read(folder: &Folder, name: &str) -> Result<Self, Error> {
        let (bytes, stamp) = folder.read_stamped(name)?;
        // Most are copied unread.
        if let Some(content) = Content::stand_in(&bytes) {
            return Err(Error::Content {
                path: folder.file_path(name),
                expected: "a file of the checkpoint",
                content,
            });
        }
        Ok(Self { name: name.to_string(), sha256: sha256(&bytes), bytes, stamp })
    }
}
