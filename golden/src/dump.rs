//! Reading a dump.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;
use safetensors::SafeTensors;
use store::{Content, Map};

use crate::manifest::{self, Entry, Manifest};
use crate::shard::{SINGLE_FILE, parse_shard_name, shard_name};
use crate::{Dtype, Error, Flow, Result, Sketch, TensorView, sha256_hex};

/// The most bytes of a manifest: 100,000 entries have some 40 MB, and their sketches some hundreds more.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 1 << 30;

/// An open dump: its manifest, checked against its mapped tensors.
#[derive(Debug)]
pub struct Dump {
    path: PathBuf,
    manifest: Manifest,
    files: Vec<Map>,
    /// Where each entry's bytes are, in the order of the entries; `None` of a sketch.
    places: Vec<Option<Place>>,
    index_by_key: HashMap<String, usize>,
}

#[derive(Debug, Clone)]
struct Place {
    file: usize,
    bytes: Range<usize>,
}

/// A tensor as the header of its file describes it.
struct Stored {
    place: Place,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Dump {
    /// Opens a dump and checks that manifest and tensors describe each other; the bytes are not read
    /// (see [`Dump::verify`]).
    ///
    /// # Errors
    ///
    /// Whatever is unreadable, or in disagreement: each has its own variant of [`enum@Error`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let manifest = read_manifest(&path.join(manifest::FILE_NAME))?;
        let index_by_key = check_entries(&path.join(manifest::FILE_NAME), &manifest.entries)?;
        let (files, mut stored) = map_files(path, &manifest.entries)?;

        let mut places = Vec::with_capacity(manifest.entries.len());
        for entry in &manifest.entries {
            let key = entry.key();
            let missing = |path: PathBuf| Error::MissingTensor { path, name: key.to_string() };
            if entry.sketch.is_some() {
                if let Some(tensor) = stored.remove(key.as_ref()) {
                    let path = files[tensor.place.file].path().to_owned();
                    return Err(Error::SketchAndTensor { path, name: key.into_owned() });
                }
                places.push(None);
                continue;
            }
            let Some(tensor) = stored.remove(key.as_ref()) else {
                return Err(missing(match &entry.file {
                    Some(file) => path.join(file),
                    None => path.to_owned(),
                }));
            };
            let found_in = files[tensor.place.file].path();
            if let Some(file) = &entry.file
                && found_in.file_name() != Some(OsStr::new(file))
            {
                return Err(missing(path.join(file)));
            }
            if tensor.dtype != entry.dtype {
                return Err(Error::DtypeMismatch {
                    path: found_in.to_owned(),
                    name: key.into_owned(),
                    expected: entry.dtype,
                    found: tensor.dtype,
                });
            }
            if tensor.shape != entry.shape {
                return Err(Error::ShapeMismatch {
                    path: found_in.to_owned(),
                    name: key.into_owned(),
                    expected: entry.shape.clone(),
                    found: tensor.shape,
                });
            }
            places.push(Some(tensor.place));
        }
        // The smallest name, so that the message does not change from run to run.
        if let Some((name, tensor)) = stored.into_iter().min_by(|a, b| a.0.cmp(&b.0)) {
            return Err(Error::UnlistedTensor { path: files[tensor.place.file].path().to_owned(), name });
        }
        Ok(Dump { path: path.to_owned(), manifest, files, places, index_by_key })
    }

    /// The dump's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The entries in order of execution.
    pub fn entries(&self) -> &[Entry] {
        &self.manifest.entries
    }

    /// The entry of a [key](Entry::key): of a name, that of the prefill.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.index_by_key.get(key).map(|&index| &self.manifest.entries[index])
    }

    /// The tensor of a key; `None` too if the dump has a sketch of it only.
    pub fn get(&self, key: &str) -> Option<TensorView<'_>> {
        self.index_by_key.get(key).and_then(|&index| self.view(index))
    }

    /// The sketch that a dump has instead of the tensor of a key.
    pub fn sketch(&self, key: &str) -> Option<&Sketch> {
        self.entry(key)?.sketch.as_deref()
    }

    /// The tensor of a key that the caller cannot do without.
    ///
    /// # Errors
    ///
    /// [`Error::NoEntry`], which names the dump, if it has no such entry; [`Error::SketchOnly`] if it has a sketch.
    pub fn require(&self, key: &str) -> Result<TensorView<'_>> {
        let Some(&index) = self.index_by_key.get(key) else {
            return Err(Error::NoEntry {
                path: self.path.clone(),
                name: key.to_owned(),
                entries: self.manifest.entries.len(),
            });
        };
        self.view(index).ok_or_else(|| Error::SketchOnly { path: self.path.clone(), name: key.to_owned() })
    }

    /// What one of this dump's own entries was computed from, by keys; `None` where nobody has recorded that.
    pub fn flow_of(&self, entry: &Entry) -> Option<Flow> {
        let key = |order: &u64| self.at(*order).map(|entry| entry.key().into_owned());
        let inputs = entry.inputs.as_ref()?.iter().filter_map(key).collect();
        let (input_rows, operations) = (entry.input_rows.clone(), entry.operations.clone());
        Some(Flow { inputs, input_rows, operations })
    }

    /// The entry of an order.
    pub fn at(&self, order: u64) -> Option<&Entry> {
        let entries = &self.manifest.entries;
        let index = entries.binary_search_by_key(&order, |entry| entry.order).ok()?;
        entries.get(index)
    }

    /// The tensor of one of this dump's own entries.
    ///
    /// # Errors
    ///
    /// [`Error::NoEntry`] if the entry is another dump's and this one has none of its name; [`Error::SketchOnly`] if it
    /// has a sketch.
    pub fn tensor(&self, entry: &Entry) -> Result<TensorView<'_>> {
        self.require(&entry.key())
    }

    /// The entries that have their tensors, with them, in order of execution.
    pub fn tensors(&self) -> impl Iterator<Item = (&Entry, TensorView<'_>)> {
        let entries = self.manifest.entries.iter().enumerate();
        entries.filter_map(|(index, entry)| Some((entry, self.view(index)?)))
    }

    /// The safetensors file that holds an entry's tensor.
    pub fn file_of(&self, key: &str) -> Option<&Path> {
        let place = self.places[*self.index_by_key.get(key)?].as_ref()?;
        Some(self.files[place.file].path())
    }

    /// The sum of all tensors' sizes.
    pub fn size_bytes(&self) -> u64 {
        self.places.iter().flatten().map(|place| place.bytes.len() as u64).sum()
    }

    /// Checks that the bytes of every tensor are those that were recorded, on all threads; sketches have none.
    ///
    /// # Errors
    ///
    /// [`Error::HashMismatch`] for the first entry, in order of execution, whose bytes differ.
    pub fn verify(&self) -> Result<()> {
        let failures: Vec<_> =
            self.manifest.entries.par_iter().map(|entry| self.verify_entry(&entry.key())).collect();
        failures.into_iter().collect()
    }

    /// Checks that the dump's files are still what they were when it was opened, so that what was computed of their bytes
    /// holds. A file that somebody makes shorter does not end this process: what is gone reads as zeros until this tells it.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] for the first file that is not.
    pub fn check(&self) -> Result<()> {
        self.files.iter().try_for_each(|map| {
            map.check().map_err(|source| Error::Changed { path: map.path().to_owned(), source })
        })
    }

    /// Checks that the bytes of one tensor are those that were recorded; a sketch has none.
    ///
    /// # Errors
    ///
    /// [`Error::HashMismatch`] if they are not, [`Error::Changed`] if they are being written, [`Error::NoEntry`] if there
    /// is no such entry.
    pub fn verify_entry(&self, key: &str) -> Result<()> {
        let tensor = match self.require(key) {
            Err(Error::SketchOnly { .. }) => return Ok(()),
            tensor => tensor?,
        };
        let expected = &self.manifest.entries[self.index_by_key[key]].sha256;
        let found = sha256_hex(tensor.data());
        if *expected == found {
            return Ok(());
        }
        self.check()?;
        Err(Error::HashMismatch {
            path: self.file_of(key).unwrap_or(&self.path).to_owned(),
            name: key.to_owned(),
            expected: expected.clone(),
            found,
        })
    }

    fn view(&self, index: usize) -> Option<TensorView<'_>> {
        let entry = &self.manifest.entries[index];
        let place = self.places[index].as_ref()?;
        let bytes = &self.files[place.file][place.bytes.clone()];
        Some(TensorView::of_checked(entry.dtype, &entry.shape, bytes))
    }
}

fn read_manifest(path: &Path) -> Result<Manifest> {
    /// Read first: a manifest of another format or version need not have the fields of this one.
    #[derive(serde::Deserialize)]
    struct Kind {
        format: String,
        version: u64,
    }
    let bytes = store::read(path, MAX_MANIFEST_BYTES)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let kind: Kind = parse(path, &bytes)?;
    if kind.format != manifest::FORMAT {
        return Err(Error::Format { path: path.to_owned(), found: kind.format });
    }
    if !manifest::VERSIONS.contains(&kind.version) {
        return Err(Error::Version { path: path.to_owned(), found: kind.version });
    }
    parse(path, &bytes)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    store::json::parse_keeping_literals(bytes).map_err(|mut source| match source.content.take() {
        Some(content) => Error::Content { path: path.to_owned(), expected: "a manifest in JSON", content },
        None => {
            let field = if source.field.is_empty() { ".".to_owned() } else { source.field.clone() };
            Error::Manifest { path: path.to_owned(), field, source: Box::new(source) }
        }
    })
}

/// Checks what the entries say among themselves; returns the index of each key.
fn check_entries(path: &Path, entries: &[Entry]) -> Result<HashMap<String, usize>> {
    let mut index_by_key = HashMap::with_capacity(entries.len());
    let mut previous: Option<u64> = None;
    for (index, entry) in entries.iter().enumerate() {
        let key = entry.key();
        if index_by_key.insert(key.to_string(), index).is_some() {
            return Err(Error::DuplicateName { name: key.into_owned() });
        }
        if let Some(previous) = previous
            && entry.order <= previous
        {
            return Err(Error::Order {
                path: path.to_owned(),
                name: key.into_owned(),
                previous,
                found: entry.order,
            });
        }
        previous = Some(entry.order);
        if let Some(file) = &entry.file {
            let mut components = Path::new(file).components();
            if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
                return Err(Error::FileName {
                    path: path.to_owned(),
                    name: key.into_owned(),
                    found: file.clone(),
                });
            }
        }
        if let Some(message) = entry.sketch.as_ref().and_then(|sketch| sketch.contradiction(&entry.shape)) {
            return Err(Error::Sketch { path: path.to_owned(), name: key.into_owned(), message });
        }
        if let Some(message) = entry.flow_problem(&entries[..index]) {
            return Err(Error::Flow { path: path.to_owned(), name: key.into_owned(), message });
        }
    }
    Ok(index_by_key)
}

/// Maps the dump's files and reads their headers.
fn map_files(dump: &Path, entries: &[Entry]) -> Result<(Vec<Map>, HashMap<String, Stored>)> {
    let mut files = Vec::new();
    let mut stored: HashMap<String, Stored> = HashMap::with_capacity(entries.len());
    for name in file_names(dump, entries)? {
        let path = dump.join(&name);
        let map = Map::open(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let (header_bytes, metadata) =
            SafeTensors::read_metadata(&map).map_err(|source| match Content::of(&map) {
                Some(content) if content != Content::Safetensors => {
                    Error::Content { path: path.clone(), expected: "a safetensors file", content }
                }
                _ => Error::Safetensors { path: path.clone(), found_bytes: map.len() as u64, source },
            })?;
        let data_start = header_bytes + size_of::<u64>();
        for (name, info) in metadata.tensors() {
            let dtype = Dtype::try_from(info.dtype).map_err(|source| Error::UnsupportedDtype {
                path: path.clone(),
                name: name.clone(),
                source,
            })?;
            let (start, end) = info.data_offsets;
            let place = Place { file: files.len(), bytes: data_start + start..data_start + end };
            let tensor = Stored { place, dtype, shape: info.shape.clone() };
            if let Some(first) = stored.insert(name.clone(), tensor) {
                let first: &Map = &files[first.place.file];
                return Err(Error::DuplicateTensor { name, first: first.path().to_owned(), second: path });
            }
        }
        files.push(map);
    }
    Ok((files, stored))
}

/// The files of a dump: those of the standard names, and those that entries name.
fn file_names(dump: &Path, entries: &[Entry]) -> Result<BTreeSet<String>> {
    let read_error = |source| Error::Read { path: dump.to_owned(), source };
    let mut names: BTreeSet<String> = entries.iter().filter_map(|entry| entry.file.clone()).collect();
    for item in fs::read_dir(dump).map_err(read_error)? {
        let name = item.map_err(read_error)?.file_name();
        if let Some(name) = name.to_str()
            && (name == SINGLE_FILE || parse_shard_name(name).is_some())
        {
            names.insert(name.to_owned());
        }
    }
    let counts: HashSet<usize> =
        names.iter().filter_map(|name| parse_shard_name(name)).map(|(_, count)| count).collect();
    for count in counts {
        for index in 1..=count {
            let name = shard_name(index, count);
            if !names.contains(&name) {
                let present =
                    names.iter().filter(|name| parse_shard_name(name).is_some_and(|n| n.1 == count));
                return Err(Error::MissingFile {
                    path: dump.to_owned(),
                    expected: format!("`{name}` and the other {} files of its set", count - 1),
                    found: format!("{} of them", present.count()),
                });
            }
        }
    }
    let sketches_only = !entries.is_empty() && entries.iter().all(|entry| entry.sketch.is_some());
    if names.is_empty() && !sketches_only {
        return Err(Error::MissingFile {
            path: dump.to_owned(),
            expected: format!("`{SINGLE_FILE}`"),
            found: "no safetensors file".to_owned(),
        });
    }
    Ok(names)
}
