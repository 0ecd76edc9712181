//! Writing a dump.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use store::{Staging, StagingError};

use crate::dump::MAX_MANIFEST_BYTES;
use crate::manifest::{self, Entry, ManifestHead, Role, key_of};
use crate::shard::{SINGLE_FILE, Shard, parse_shard_name, shard_name};
use crate::{Dtype, Dump, Error, Flow, Result, Sketch, TensorView, sha256_hex, sketch};

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
    /// The order of each entry, by its key.
    orders: HashMap<String, u64>,
}

/// What a dump says of a tensor that is appended to it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEntry {
    /// The module path, or a plain name; unique among the entries of a step.
    pub name: String,
    /// What the tensor is to the computation.
    pub role: Role,
    /// The class of the module, empty for a tensor that is no module's output.
    pub module: String,
    /// The forward pass that computed it: 0 is the prefill.
    pub step: u64,
    /// What it was computed from, if that is known.
    pub flow: Option<Flow>,
    /// Further fields.
    pub extra: Map<String, Value>,
}

impl NewEntry {
    /// An entry of the prefill of which no inputs are known.
    pub fn new(name: impl Into<String>, role: Role, module: impl Into<String>) -> Self {
        let (name, module) = (name.into(), module.into());
        NewEntry { name, role, module, step: 0, flow: None, extra: Map::new() }
    }
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
            orders: HashMap::new(),
        })
    }

    /// The entries so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Appends a tensor of the prefill of which no inputs are known: little-endian bytes in row-major order.
    ///
    /// # Errors
    ///
    /// Those of [`DumpWriter::push_entry`].
    pub fn push(
        &mut self,
        name: &str,
        role: Role,
        module: &str,
        dtype: Dtype,
        shape: &[usize],
        data: &[u8],
    ) -> Result<()> {
        self.push_entry(NewEntry::new(name, role, module), dtype, shape, data, None)
    }

    /// Appends a tensor: little-endian bytes in row-major order. With a seed it is a sketch of the tensor instead.
    ///
    /// What a run needs to be repeated is kept whole nevertheless: of the inputs that are no module's, all whole numbers, and other
    /// tensors of no more than [`sketch::WHOLE_INPUT_BYTES`]. So are whole numbers of no more than
    /// [`sketch::WHOLE_INTEGER_BYTES`] anywhere, since they are compared to the bit. Sketches of steps behind the prefill are short.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateName`], [`Error::InvalidName`], [`Error::ByteCount`], [`Error::NoInput`], [`Error::Seed`], which leave the
    /// dump as it was, or [`Error::Write`], after which it is to be dropped.
    pub fn push_entry(
        &mut self,
        entry: NewEntry,
        dtype: Dtype,
        shape: &[usize],
        data: &[u8],
        sketch_seed: Option<u64>,
    ) -> Result<()> {
        let key = key_of(&entry.name, entry.step).into_owned();
        let inputs = self.check(&key, &entry, dtype, shape, data)?;
        if let Some(seed) = sketch_seed.filter(|&seed| seed >= sketch::SEED_LIMIT) {
            return Err(Error::Seed { found: seed });
        }
        let sketch_seed =
            sketch_seed.filter(|_| !is_kept_whole(entry.role, &entry.module, dtype, data.len()));
        let (sha256, sketch) = match sketch_seed {
            Some(seed) => {
                let view = TensorView::of_checked(dtype, shape, data);
                let (sha256, sketch) = rayon::join(|| sha256_hex(data), || Sketch::of(&view, seed));
                // There are many steps behind the prefill.
                let sketch = if entry.step == 0 { sketch } else { sketch.shortened() };
                (sha256, Some(Box::new(sketch)))
            }
            None => (self.write(&key, dtype, shape, data)?, None),
        };
        self.shard_of_entry.push(sketch.is_none().then_some(self.finished_shards));
        let NewEntry { name, role, module, step, flow, extra } = entry;
        let Flow { input_rows, operations, .. } = flow.unwrap_or_default();
        let (order, shape) = (self.entries.len() as u64, shape.to_vec());
        self.orders.insert(key, order);
        self.entries.push(Entry {
            order,
            name,
            step,
            role,
            module,
            dtype,
            shape,
            sha256,
            file: None,
            inputs,
            input_rows,
            operations,
            sketch,
            extra,
        });
        Ok(())
    }

    /// Appends another dump's entry, which is not a sketch, with the fields that only its producer knows; with a seed as a sketch.
    /// The entries that it was computed from were appended before.
    ///
    /// # Errors
    ///
    /// Those of [`DumpWriter::push_entry`]; [`Error::NoEntry`] or [`Error::SketchOnly`] if the other dump has no such
    /// tensor; [`Error::HashMismatch`], after which this dump is to be dropped, if the tensor is not as it was recorded.
    pub fn push_of(&mut self, dump: &Dump, key: &str, sketch_seed: Option<u64>) -> Result<()> {
        let tensor = dump.require(key)?;
        let Some(entry) = dump.entry(key) else { return Ok(()) };
        let Entry { name, role, module, step, dtype, shape, sha256, extra, .. } = entry.clone();
        let flow = dump.flow_of(entry);
        let new = NewEntry { name, role, module, step, flow, extra };
        self.push_entry(new, dtype, &shape, tensor.data(), sketch_seed)?;
        let written = self.entries.last().map_or("", |written| &written.sha256);
        if written == sha256 {
            return Ok(());
        }
        dump.check()?;
        Err(Error::HashMismatch {
            path: dump.file_of(key).unwrap_or(dump.path()).to_owned(),
            name: key.to_owned(),
            expected: sha256,
            found: written.to_owned(),
        })
    }

    /// Writes a tensor into the file of the moment; its hash.
    fn write(&mut self, key: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> Result<String> {
        let full = self.shard.data_bytes() + data.len() as u64 > self.options.max_shard_bytes
            || !self.shard.has_room(key, dtype, shape);
        if full && !self.shard.is_empty() {
            self.finish_shard()?;
        }
        let path = self.unfinished_path(self.finished_shards);
        let (sha256, written) =
            rayon::join(|| sha256_hex(data), || self.shard.push(&path, key, dtype, shape, data));
        written.map_err(|source| Error::Write { path, source })?;
        Ok(sha256)
    }

    /// Refuses a tensor that cannot be appended; returns the orders of its inputs, nearest first.
    fn check(
        &self,
        key: &str,
        entry: &NewEntry,
        dtype: Dtype,
        shape: &[usize],
        data: &[u8],
    ) -> Result<Option<Vec<u64>>> {
        if entry.name.is_empty() || entry.name == "__metadata__" {
            return Err(Error::InvalidName { name: entry.name.clone() });
        }
        let expected = dtype.bytes_of(shape);
        if expected != data.len() as u128 {
            return Err(Error::ByteCount {
                name: key.to_owned(),
                dtype,
                shape: shape.to_vec(),
                expected,
                found: data.len(),
            });
        }
        if self.orders.contains_key(key) {
            return Err(Error::DuplicateName { name: key.to_owned() });
        }
        let Some(flow) = &entry.flow else { return Ok(None) };
        let order = |input: &String| {
            let found = self.orders.get(input).copied();
            found.ok_or_else(|| Error::NoInput { name: key.to_owned(), found: input.clone() })
        };
        Ok(Some(flow.inputs.iter().map(order).collect::<Result<_>>()?))
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
