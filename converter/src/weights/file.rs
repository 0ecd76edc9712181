//! One safetensors file, mapped.

use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::{Folder, Header, HeaderEntry};
use crate::Error;

/// A safetensors file, mapped into memory, its header proved.
#[derive(Debug)]
pub struct MappedFile {
    name: String,
    path: PathBuf,
    map: Mmap,
    header: Header,
}

impl MappedFile {
    /// Maps the file `name` of `folder`.
    ///
    /// # Errors
    /// Those of [`Folder::open_file`] and [`Header::parse`].
    pub fn open(folder: &Folder, name: &str) -> Result<Self, Error> {
        let path = folder.file_path(name);
        let file = folder.open_file(name)?;
        // SAFETY: the map is only read. A file that another process shortens meanwhile ends this process with a
        // signal, as it does every program that maps its weights; nothing is written through the map.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", &path))?;
        // Advice only. Pages that were read are the first to go when memory is short.
        let _ = map.advise(memmap2::Advice::Sequential);
        let header = Header::parse(&path, &map)?;
        Ok(Self { name: name.to_string(), path, map, header })
    }

    /// The file's name in its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Asks the disk for bytes that will be read soon; what lies behind the end is left out.
    pub fn will_need(&self, start: usize, bytes: usize) {
        let end = start.saturating_add(bytes).min(self.map.len());
        if start < end {
            // Advice only: where it is refused, reading is slower and nothing else.
            let _ = self.map.advise_range(memmap2::Advice::WillNeed, start, end - start);
        }
    }

    /// The data of a tensor of this file's own header.
    pub fn data(&self, entry: &HeaderEntry) -> &[u8] {
        let start = self.header.data_start;
        &self.map[start + entry.start..start + entry.end]
    }
}
