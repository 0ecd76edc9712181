//! One safetensors file: its header in memory, its tensors where they are until they are read.

use std::fmt::Debug;
use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store::safetensors_header::LENGTH_BYTES;
use store::{Map, Stamp};

use super::{Folder, Header, HeaderEntry};
use crate::Error;

/// What is read of a file at once before its header's length is known.
const PROBE_BYTES: u64 = 4096;

/// A safetensors file, its header proved.
#[derive(Debug)]
pub struct WeightsFile {
    name: String,
    path: PathBuf,
    bytes: u64,
    /// The header's length and the header, as they stand in the file.
    front: Vec<u8>,
    header: Header,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Here { file: File, stamp: Stamp },
    Elsewhere(Arc<dyn Elsewhere>),
}

/// A file that is not on this machine.
pub trait Elsewhere: Debug + Send + Sync {
    /// Its size.
    fn bytes(&self) -> u64;

    /// The bytes `at` which a tensor or the header begins, as many as `bytes` has room for.
    ///
    /// # Errors
    /// Where they can't be had.
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error>;
}

impl WeightsFile {
    /// Opens the file `name` of `folder`.
    ///
    /// # Errors
    /// Those of [`Folder::open_file`] and [`Header::parse`].
    pub fn open(folder: &Folder, name: &str) -> Result<Self, Error> {
        let path = folder.file_path(name);
        let file = folder.open_file(name)?;
        let stamp = Stamp::of(&file).map_err(Error::io("read", &path))?;
        // Advice only. Pages that were read are the first to go when memory is short.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        Self::of(name, path, stamp.bytes(), Content::Here { file, stamp })
    }

    /// The file `name`, which a folder would have at `path`, of which nothing is on this machine.
    ///
    /// # Errors
    /// Those of [`Header::parse`], and of reading it.
    pub(crate) fn elsewhere(name: &str, path: PathBuf, file: Arc<dyn Elsewhere>) -> Result<Self, Error> {
        Self::of(name, path, file.bytes(), Content::Elsewhere(file))
    }

    fn of(name: &str, path: PathBuf, bytes: u64, content: Content) -> Result<Self, Error> {
        let mut front = vec![0; bytes.min(PROBE_BYTES) as usize];
        content.read_at(&path, 0, &mut front)?;
        if let Some((length, _)) = front.split_first_chunk::<LENGTH_BYTES>() {
            let end = u64::from_le_bytes(*length).saturating_add(LENGTH_BYTES as u64);
            // One that can't be true is refused by whoever parses it.
            if end <= bytes && end <= Header::MAX_BYTES {
                let known = front.len().min(end as usize);
                front.resize(end as usize, 0);
                content.read_at(&path, known as u64, &mut front[known..])?;
            }
        }
        let header = Header::of_front(&path, &front, bytes)?;
        front.truncate(header.data_start);
        Ok(Self { name: name.to_string(), path, bytes, front, header, content })
    }

    /// The file's name in its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Everything in front of the tensors: the header's length and the header.
    pub fn front(&self) -> &[u8] {
        &self.front
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether the file is on this machine.
    pub fn is_here(&self) -> bool {
        matches!(self.content, Content::Here { .. })
    }

    /// Reads the bytes from `at` on, as many as `bytes` has room for.
    ///
    /// # Errors
    /// [`Error::Changed`] where the file has become shorter; [`Error::Io`].
    pub fn read_at(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.content.read_at(&self.path, at, bytes)
    }

    /// Asks the disk for bytes that will be read soon.
    pub fn will_need(&self, at: u64, bytes: u64) {
        if let Content::Here { file, .. } = &self.content
            && let Some(bytes) = std::num::NonZero::new(bytes)
        {
            // Advice only: where it is refused, reading is slower and nothing else.
            let _ = rustix::fs::fadvise(file, at, Some(bytes), rustix::fs::Advice::WillNeed);
        }
    }

    /// Refuses a file that somebody has written to, replaced or removed since it was opened.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn check_unchanged(&self) -> Result<(), Error> {
        match &self.content {
            Content::Here { stamp, .. } => stamp.check(&self.path).map_err(Error::changed(&self.path)),
            // Of one commit, which stays what it is.
            Content::Elsewhere(_) => Ok(()),
        }
    }

    /// Gives `take` the data of a tensor of this file's own header, piece by piece.
    ///
    /// # Errors
    /// Those of [`WeightsFile::read_at`] and of `take`.
    pub fn for_each_piece(
        &self,
        entry: &HeaderEntry,
        take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.for_each_piece_in(entry.start..entry.end, take)
    }

    /// Gives `take` the bytes `range` of the data behind the header, piece by piece: of one tensor.
    pub(super) fn for_each_piece_in(
        &self,
        range: Range<usize>,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        const PIECE_BYTES: usize = 1 << 20;
        const AHEAD_BYTES: u64 = 16 << 20;
        let first = (self.header.data_start + range.start) as u64;
        let length = range.len();
        let mut piece = vec![0; length.min(PIECE_BYTES)];
        self.will_need(first, AHEAD_BYTES.min(length as u64));
        let mut done = 0;
        while done < length {
            let piece = &mut piece[..PIECE_BYTES.min(length - done)];
            let at = first + done as u64;
            self.will_need(at + AHEAD_BYTES, piece.len() as u64);
            self.read_at(at, piece)?;
            take(piece)?;
            done += piece.len();
        }
        Ok(())
    }

    /// Maps the file, for whoever computes with its tensors for as long as it runs: see [`Map::or_end`].
    pub(crate) fn map(&self) -> Result<Option<Map>, Error> {
        match &self.content {
            Content::Here { file, .. } => {
                Map::or_end(file, &self.path).map(Some).map_err(Error::io("map", &self.path))
            }
            Content::Elsewhere(_) => Ok(None),
        }
    }
}

impl Content {
    fn read_at(&self, path: &Path, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        match self {
            Self::Elsewhere(file) => file.read_at(at, bytes),
            Self::Here { file, stamp } => file.read_exact_at(bytes, at).map_err(|error| {
                if error.kind() == ErrorKind::UnexpectedEof
                    && let Err(changed) = stamp.check(path)
                {
                    return Error::changed(path)(changed);
                }
                Error::io("read", path)(error)
            }),
        }
    }
}
