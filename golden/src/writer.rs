//! Writing a dump.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use store::{Staging, StagingError};

use crate::dump::MAX_MANIFEST_BYTES;
use crate::manifest::{self, Entry, ManifestHead, Role};
use crate::shard::{SINGLE_FILE, Shard, parse_shard_name, shard_name};
use crate::{Dtype, Dump, Error, Result, Sketch, TensorView, sha256_hex, sketch};

/// How the name of the hidden folder ends in which a dump is made, so that it is nobody else's.
const PART_SUFFIX: &str = ".dump-part";

/// How a dump is laid out on disk, and what may be in its place.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WriteOptions {
    /// Whether a dump of the same name is replaced; only a dump is ever replaced.
    pub replace: bool,
    /// The size at which another file is begun; a larger tensor has a file to itself. 5 GB by default.
    pub max_shard_bytes: u64,
    /// How much of a file waits in memory; a file that fits has no room left in its header. 16 MiB by default.
    pub buffer_bytes: usize,
    /// The room for the header of a file that does not fit in memory; when it is full another file is begun.
    /// 1 MiB by default, which is some 7,000 tensors.
    pub header_room_bytes: u64,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions {
            replace: false,
            max_shard_bytes: 5_000_000_000,
            buffer_bytes: 16 << 20,
            header_room_bytes: 1 << 20,
        }
    }
}

/// A dump in the making: a hidden folder beside its target, which takes the target's name when it is complete.
///
/// A writer that is dropped before [`DumpWriter::finish`] leaves nothing behind. What one leaves whose process is killed, the
/// next one in the same folder removes.
#[derive(Debug)]
pub struct DumpWriter {
    target: PathBuf,
    staging: Staging,
    options: WriteOptions,
    shard: Shard,
    /// How many files are complete.
    finished_shards: usize,
    entries: Vec<Entry>,
    /// The index of the file of each entry; `None` of a sketch.
    shard_of_entry: Vec<Option<usize>>,
    names: HashSet<String>,
}

impl DumpWriter {
    /// Begins a dump in a folder that does not exist or is empty.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if something is there, [`Error::Write`] if the folder beside it cannot be made.
    pub fn create(target: impl AsRef<Path>) -> Result<Self> {
        DumpWriter::create_with(target, WriteOptions::default())
    }

    /// Begins a dump that takes the place of an earlier one, which stays until this one is complete.
    ///
    /// # Errors
    ///
    /// [`Error::NotADump`] if the target is something else, [`Error::NotOnlyADump`] if something else is in it, [`Error::Write`] if the folder beside it cannot be made.
    pub fn create_replacing(target: impl AsRef<Path>) -> Result<Self> {
        DumpWriter::create_with(target, WriteOptions { replace: true, ..WriteOptions::default() })
    }

    /// Begins a dump with options.
    ///
    /// # Errors
    ///
    /// Those of [`DumpWriter::create`] or [`DumpWriter::create_replacing`].
    pub fn create_with(target: impl AsRef<Path>, options: WriteOptions) -> Result<Self> {
        let target = target.as_ref();
        if target.file_name().is_none() {
            return Err(Error::NoFolderName { path: target.to_owned() });
        }
        check_target(target, target, options.replace)?;
        let parent = store::parent_of(target);
        fs::create_dir_all(parent).map_err(|source| Error::Write { path: parent.to_owned(), source })?;
        let staging = Staging::shared(target, PART_SUFFIX)?;
        // A dead process may have left the target aside, from where it is back now.
        check_target(target, target, options.replace)?;
        Ok(DumpWriter {
            target: target.to_owned(),
            staging,
            shard: Shard::new(options.buffer_bytes, options.header_room_bytes),
            options,
            finished_shards: 0,
            entries: Vec::new(),
            shard_of_entry: Vec::new(),
            names: HashSet::new(),
        })
    }

    /// The entries so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Appends a tensor: little-endian bytes in row-major order.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateName`], [`Error::InvalidName`], [`Error::ByteCount`], which leave the dump as it was, or
    /// [`Error::Write`], after which it is to be dropped.
    pub fn push(
        &mut self,
        name: &str,
        role: Role,
        module: &str,
        dtype: Dtype,
        shape: &[usize],
        data: &[u8],
    ) -> Result<()> {
        self.check(name, dtype, shape, data)?;
        let full = self.shard.data_bytes() + data.len() as u64 > self.options.max_shard_bytes
            || !self.shard.has_room(name, dtype, shape);
        if full && !self.shard.is_empty() {
            self.finish_shard()?;
        }
        let path = self.unfinished_path(self.finished_shards);
        let (sha256, written) =
            rayon::join(|| sha256_hex(data), || self.shard.push(&path, name, dtype, shape, data));
        written.map_err(|source| Error::Write { path, source })?;
        self.add(name, role, module, dtype, shape, sha256);
        self.shard_of_entry.push(Some(self.finished_shards));
        Ok(())
    }

    /// Appends a sketch of a tensor instead of the tensor.
    ///
    /// What a run needs to be repeated is kept nevertheless: of the inputs that are no module's, all whole numbers, and other
    /// tensors of no more than [`sketch::WHOLE_INPUT_BYTES`]. So are whole numbers of no more than
    /// [`sketch::WHOLE_INTEGER_BYTES`] anywhere, since they are compared to the bit.
    ///
    /// # Errors
    ///
    /// Those of [`DumpWriter::push`], and [`Error::Seed`].
    #[allow(clippy::too_many_arguments)] // Those of `push`, and the seed.
    pub fn push_sketch(
        &mut self,
        name: &str,
        role: Role,
        module: &str,
        dtype: Dtype,
        shape: &[usize],
        data: &[u8],
        seed: u64,
    ) -> Result<()> {
        if seed >= sketch::SEED_LIMIT {
            return Err(Error::Seed { found: seed });
        }
        if is_kept_whole(role, module, dtype, data.len()) {
            return self.push(name, role, module, dtype, shape, data);
        }
        self.check(name, dtype, shape, data)?;
        let view = TensorView::of_checked(dtype, shape, data);
        let (sha256, sketch) = rayon::join(|| sha256_hex(data), || Sketch::of(&view, seed));
        self.add(name, role, module, dtype, shape, sha256).sketch = Some(Box::new(sketch));
        self.shard_of_entry.push(None);
        Ok(())
    }

    /// Says more of the entry that was appended last than this version's own fields do.
    pub fn annotate(&mut self, extra: Map<String, Value>) {
        if let Some(entry) = self.entries.last_mut() {
            entry.extra.extend(extra);
        }
    }

    /// Appends another dump's entry in full, with the fields that only its producer knows.
    ///
    /// # Errors
    ///
    /// Those of [`DumpWriter::push`], and as [`DumpWriter::push_sketch_of`].
    pub fn push_of(&mut self, dump: &Dump, name: &str) -> Result<()> {
        let tensor = dump.require(name)?;
        let Some(entry) = dump.entry(name) else { return Ok(()) };
        let Entry { role, module, dtype, shape, .. } = entry;
        self.push(name, *role, module, *dtype, shape, tensor.data())?;
        self.take_over(dump, entry)
    }

    /// Appends what [`DumpWriter::push_sketch`] makes of another dump's entry, with the fields that only its producer knows.
    ///
    /// # Errors
    ///
    /// Those of [`DumpWriter::push_sketch`]; [`Error::NoEntry`] or [`Error::SketchOnly`] if the other dump has no such
    /// tensor; [`Error::HashMismatch`], after which this dump is to be dropped, if the tensor is not as it was recorded.
    pub fn push_sketch_of(&mut self, dump: &Dump, name: &str, seed: u64) -> Result<()> {
        let tensor = dump.require(name)?;
        let Some(entry) = dump.entry(name) else { return Ok(()) };
        let Entry { role, module, dtype, shape, .. } = entry;
        self.push_sketch(name, *role, module, *dtype, shape, tensor.data(), seed)?;
        self.take_over(dump, entry)
    }

    /// Gives the entry that was appended last what only the producer of another dump's entry knows, and checks that the two
    /// have the same hash.
    fn take_over(&mut self, dump: &Dump, entry: &Entry) -> Result<()> {
        let Some(written) = self.entries.last_mut() else { return Ok(()) };
        written.extra.clone_from(&entry.extra);
        if written.sha256 == entry.sha256 {
            return Ok(());
        }
        dump.check()?;
        Err(Error::HashMismatch {
            path: dump.file_of(&entry.name).unwrap_or(dump.path()).to_owned(),
            name: entry.name.clone(),
            expected: entry.sha256.clone(),
            found: written.sha256.clone(),
        })
    }

    /// Refuses a tensor that cannot be appended.
    fn check(&self, name: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> Result<()> {
        if name.is_empty() || name == "__metadata__" {
            return Err(Error::InvalidName { name: name.to_owned() });
        }
        let expected = dtype.bytes_of(shape);
        if expected != data.len() as u128 {
            return Err(Error::ByteCount {
                name: name.to_owned(),
                dtype,
                shape: shape.to_vec(),
                expected,
                found: data.len(),
            });
        }
        if self.names.contains(name) {
            return Err(Error::DuplicateName { name: name.to_owned() });
        }
        Ok(())
    }

    /// Appends an entry.
    fn add(
        &mut self,
        name: &str,
        role: Role,
        module: &str,
        dtype: Dtype,
        shape: &[usize],
        sha256: String,
    ) -> &mut Entry {
        self.names.insert(name.to_owned());
        let entry = Entry {
            order: self.entries.len() as u64,
            name: name.to_owned(),
            role,
            module: module.to_owned(),
            dtype,
            shape: shape.to_vec(),
            sha256,
            file: None,
            sketch: None,
            extra: Map::new(),
        };
        self.entries.push(entry);
        let last = self.entries.len() - 1;
        &mut self.entries[last]
    }

    /// Writes the manifest and gives the folder its name.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], or [`Error::Exists`] if the target has appeared meanwhile; nothing is left then.
    pub fn finish(mut self, head: ManifestHead) -> Result<()> {
        let sketches_only = !self.entries.is_empty() && self.shard_of_entry.iter().all(Option::is_none);
        if !self.shard.is_empty() || self.finished_shards == 0 && !sketches_only {
            self.finish_shard()?;
        }
        let count = self.finished_shards;
        let file_name =
            |index: usize| if count == 1 { SINGLE_FILE.to_owned() } else { shard_name(index + 1, count) };
        let folder = self.staging.dir();
        for index in 0..count {
            let path = folder.join(file_name(index));
            fs::rename(self.unfinished_path(index), &path).map_err(|source| Error::Write { path, source })?;
        }
        if count > 1 {
            for (entry, index) in self.entries.iter_mut().zip(&self.shard_of_entry) {
                entry.file = index.map(file_name);
            }
        }
        let manifest = head.with_entries(std::mem::take(&mut self.entries));
        let path = folder.join(manifest::FILE_NAME);
        let written =
            manifest.to_json().map_err(io::Error::from).and_then(|json| store::write_new(&path, &json));
        written.map_err(|source| Error::Write { path, source })?;
        check_target(&self.target, &self.target, self.options.replace)?;
        self.staging.publish_over(|replaced| check_target(replaced, &self.target, self.options.replace))
    }

    fn finish_shard(&mut self) -> Result<()> {
        let path = self.unfinished_path(self.finished_shards);
        let next = Shard::new(self.options.buffer_bytes, self.options.header_room_bytes);
        std::mem::replace(&mut self.shard, next)
            .finish(&path)
            .map_err(|source| Error::Write { path, source })?;
        self.finished_shards += 1;
        Ok(())
    }

    /// The path of a file before the number of files is known.
    fn unfinished_path(&self, index: usize) -> PathBuf {
        self.staging.dir().join(format!("{index}.part"))
    }
}

/// Whether a dump of sketches has a tensor as it is.
fn is_kept_whole(role: Role, module: &str, dtype: Dtype, bytes: usize) -> bool {
    let is_given = role == Role::Input && module.is_empty();
    if dtype.is_float() {
        is_given && bytes <= sketch::WHOLE_INPUT_BYTES
    } else {
        is_given || bytes <= sketch::WHOLE_INTEGER_BYTES
    }
}

/// Refuses what a dump must not take the place of: what is at `place` now, and called `target` before.
fn check_target(place: &Path, target: &Path, replace: bool) -> Result<()> {
    match fs::symlink_metadata(place) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Read { path: target.to_owned(), source }),
        Ok(metadata) if metadata.is_dir() && is_empty_folder(place)? => Ok(()),
        Ok(_) if !replace => Err(Error::Exists { path: target.to_owned() }),
        Ok(metadata) if metadata.is_dir() => match dump_at(place) {
            Some(manifest) => check_nothing_else(place, target, &manifest),
            None => Err(Error::NotADump { path: target.to_owned() }),
        },
        Ok(_) => Err(Error::NotADump { path: target.to_owned() }),
    }
}

/// Refuses a dump's folder in which there is anything that is no part of the dump.
fn check_nothing_else(place: &Path, target: &Path, manifest: &Value) -> Result<()> {
    let read_error = |source| Error::Read { path: target.to_owned(), source };
    let named: HashSet<&str> = manifest["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["file"].as_str())
        .chain([manifest::FILE_NAME, SINGLE_FILE])
        .collect();
    for item in fs::read_dir(place).map_err(read_error)? {
        let item = item.map_err(read_error)?;
        let name = item.file_name().to_string_lossy().into_owned();
        let is_file = item.file_type().map_err(read_error)?.is_file();
        if !is_file || !(named.contains(name.as_str()) || parse_shard_name(&name).is_some()) {
            return Err(Error::NotOnlyADump { path: target.to_owned(), found: name });
        }
    }
    Ok(())
}

fn is_empty_folder(path: &Path) -> Result<bool> {
    let mut items = fs::read_dir(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(items.next().is_none())
}

/// The manifest in a folder, if it is of this format, of whatever version and in whatever state.
fn dump_at(path: &Path) -> Option<Value> {
    let bytes = store::read(&path.join(manifest::FILE_NAME), MAX_MANIFEST_BYTES).ok()?;
    let manifest: Value = store::json::parse_keeping_literals(&bytes).ok()?;
    (manifest["format"] == manifest::FORMAT).then_some(manifest)
}

impl From<StagingError> for Error {
    fn from(error: StagingError) -> Self {
        match error {
            StagingError::Io { path, source, .. } => Error::Write { path, source },
            StagingError::Appeared { path } => Error::Exists { path },
            StagingError::Busy { path } | StagingError::Foreign { path, .. } => {
                Error::Write { path, source: io::ErrorKind::ResourceBusy.into() }
            }
        }
    }
}
