//! Files of weights of which only the headers are read, and buffers: by ranges, where they are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::client::Failure;
use super::connection::{Connection, FileFound};
use crate::Error;
use crate::weights::{Elsewhere, Files, Folder, WeightsFile};

/// What is read of a file at once at its beginning: most headers are in it.
const START_BYTES: u64 = 1 << 17;

/// The files of weights of a repository at one commit: those that the cache has, and those of which the hub was asked.
#[derive(Debug, Clone)]
pub struct RemoteFiles {
    folder: Folder,
    elsewhere: BTreeMap<String, Arc<RemoteFile>>,
}

/// A file on the hub.
pub(super) struct RemoteFile {
    pub(super) connection: Arc<Connection>,
    pub(super) repository: String,
    pub(super) commit: String,
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) found: Mutex<FileFound>,
    /// Its first bytes, once they are needed.
    pub(super) start: Mutex<Option<Arc<Vec<u8>>>>,
}

impl RemoteFiles {
    pub(super) fn of(folder: Folder, elsewhere: BTreeMap<String, Arc<RemoteFile>>) -> Self {
        Self { folder, elsewhere }
    }
}

/// The same files of the same commit.
impl PartialEq for RemoteFiles {
    fn eq(&self, other: &Self) -> bool {
        let places = |files: &Self| -> Vec<(String, String)> {
            files.elsewhere.values().map(|file| (file.commit.clone(), file.name.clone())).collect()
        };
        self.folder.path() == other.folder.path() && places(self) == places(other)
    }
}

impl Eq for RemoteFiles {}

impl Files for RemoteFiles {
    fn has(&self, name: &str) -> bool {
        self.elsewhere.contains_key(name) || self.folder.has(name)
    }

    fn open(&self, name: &str) -> Result<WeightsFile, Error> {
        match self.elsewhere.get(name) {
            Some(file) => WeightsFile::elsewhere(name, self.folder.file_path(name), Arc::clone(file) as _),
            None => WeightsFile::open(&self.folder, name),
        }
    }
}

impl RemoteFile {
    fn range(&self, at: u64, into: &mut [u8]) -> Result<(), Error> {
        let ask = |into: &mut [u8]| {
            let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
            self.connection.client.retried(&|_| {}, || self.connection.range(&found, at, into))
        };
        let result = match ask(into) {
            // A signed address holds for an hour.
            Err(Failure::Status { status: 400..=499, .. }) => self
                .connection
                .file(&self.repository, &self.commit, &self.name, &|_| {})
                .map(|again| *self.found.lock().unwrap_or_else(PoisonError::into_inner) = again)
                .and_then(|()| ask(into)),
            result => result,
        };
        result.map_err(|failure| self.connection.explain(&self.repository, Some(&self.name), &failure))
    }

    fn start(&self) -> Result<Arc<Vec<u8>>, Error> {
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = &*start {
            return Ok(Arc::clone(start));
        }
        let mut bytes = vec![0; self.bytes.min(START_BYTES) as usize];
        if !bytes.is_empty() {
            self.range(0, &mut bytes)?;
        }
        Ok(Arc::clone(start.insert(Arc::new(bytes))))
    }
}

impl Elsewhere for RemoteFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        if at + bytes.len() as u64 <= START_BYTES.min(self.bytes) {
            let at = at as usize;
            bytes.copy_from_slice(&self.start()?[at..at + bytes.len()]);
            return Ok(());
        }
        self.range(at, bytes)
    }
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.repository, self.commit, self.name)
    }
}
