//! One walk through the source's files: each byte is read once, hashed for its file and its tensor, and written.

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Observer;
use crate::Error;
use crate::digest::Digest;
use crate::normalized::TorchDtype;
use crate::plan::{Output, Plan, Row, Shard};
use crate::transform::Converter;
use crate::weights::{HeaderEntry, MappedFile, Weights};

/// Bytes handled at a time; a whole number of elements of every dtype.
const CHUNK_BYTES: usize = 4 << 20;

/// Takes what is written.
pub trait Sink: Sync {
    /// Takes bytes of `output` that begin `offset` bytes into it.
    ///
    /// # Errors
    /// Where they can't be written.
    fn write(&self, output: &Output, offset: usize, bytes: &[u8]) -> Result<(), Error>;
}

/// What was learnt on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streamed {
    /// SHA-256 of each row's source tensor, in the order of the plan.
    pub rows: Vec<String>,
    /// Of each output, in the order of the plan.
    pub outputs: Vec<OutputHash>,
    /// Of each file of weights, in the order of their names.
    pub files: Vec<FileHash>,
}

/// What was learnt of an output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputHash {
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Finite elements that became infinite when the dtype changed.
    pub overflows: u64,
}

/// What was learnt of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHash {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

/// Streams every tensor of `weights` to `sink` as `plan` says.
///
/// # Errors
/// Those of the sink; [`Error::Interrupted`] where the observer stops it.
pub fn stream(
    weights: &Weights,
    plan: &Plan,
    sink: &dyn Sink,
    observer: &dyn Observer,
) -> Result<Streamed, Error> {
    let rows: HashMap<&str, usize> =
        plan.rows.iter().enumerate().map(|(i, row)| (row.source.name.as_str(), i)).collect();
    let walked: Vec<(FileHash, Vec<(usize, RowHash)>)> = weights
        .files()
        .par_iter()
        .map(|file| walk(file, &rows, plan, sink, observer))
        .collect::<Result<_, Error>>()?;

    let mut streamed = Streamed {
        rows: vec![String::new(); plan.rows.len()],
        outputs: vec![OutputHash::default(); plan.outputs.len()],
        files: Vec::with_capacity(walked.len()),
    };
    for (file, hashes) in walked {
        streamed.files.push(file);
        for (row, hash) in hashes {
            streamed.rows[row] = hash.sha256;
            for (&output, hash) in plan.rows[row].outputs.iter().zip(hash.outputs) {
                streamed.outputs[output] = hash;
            }
        }
    }
    Ok(streamed)
}

struct RowHash {
    sha256: String,
    outputs: Vec<OutputHash>,
}

fn walk(
    file: &MappedFile,
    rows: &HashMap<&str, usize>,
    plan: &Plan,
    sink: &dyn Sink,
    observer: &dyn Observer,
) -> Result<(FileHash, Vec<(usize, RowHash)>), Error> {
    file.read_ahead();
    let mut digest = Digest::default();
    digest.update(&file.bytes()[..file.header().data_start]);
    observer.advance(file.header().data_start as u64);
    let mut hashes = Vec::with_capacity(file.header().tensors.len());
    // The header proved that the tensors cover the rest of the file in this order, each byte once.
    for entry in &file.header().tensors {
        let row = rows.get(entry.name.as_str()).copied();
        let hash =
            walk_tensor(file, entry, row.map(|row| &plan.rows[row]), plan, &mut digest, sink, observer)?;
        hashes.extend(row.map(|row| (row, hash)));
    }
    let hash =
        FileHash { name: file.name().to_string(), bytes: file.bytes().len() as u64, sha256: digest.finish() };
    Ok((hash, hashes))
}

fn walk_tensor(
    file: &MappedFile,
    entry: &HeaderEntry,
    row: Option<&Row>,
    plan: &Plan,
    file_digest: &mut Digest,
    sink: &dyn Sink,
    observer: &dyn Observer,
) -> Result<RowHash, Error> {
    let data = file.data(entry);
    let mut digest = Digest::default();
    let mut targets: Vec<Target<'_>> = row
        .iter()
        .flat_map(|row| &row.outputs)
        .map(|&output| Target::new(&plan.outputs[output], TorchDtype::from_dtype(entry.dtype), data.len()))
        .collect();
    for (i, chunk) in data.chunks(CHUNK_BYTES).enumerate() {
        if observer.is_stopped() {
            return Err(Error::Interrupted);
        }
        let start = i * CHUNK_BYTES;
        // Two hashes and the copy of the same bytes, while they are in the cache.
        let ((), ((), written)) = rayon::join(
            || file_digest.update(chunk),
            || {
                rayon::join(
                    || digest.update(chunk),
                    || targets.iter_mut().try_for_each(|target| target.take(start, chunk, sink)),
                )
            },
        );
        written?;
        observer.advance(chunk.len() as u64);
    }
    let sha256 = digest.finish();
    let outputs = targets.into_iter().map(|target| target.finish(&sha256)).collect();
    Ok(RowHash { sha256, outputs })
}

/// An output on its way.
struct Target<'a> {
    output: &'a Output,
    /// Where the dtype changes.
    converter: Option<Converter>,
    /// Where the bytes are not exactly those of the source tensor.
    digest: Option<Digest>,
    written: usize,
}

impl<'a> Target<'a> {
    fn new(output: &'a Output, from: Option<TorchDtype>, source_bytes: usize) -> Self {
        let converter =
            from.filter(|&from| from != output.dtype).map(|from| Converter::new(from, output.dtype));
        let is_whole = output.source_bytes == (0..source_bytes);
        let digest = (converter.is_some() || !is_whole).then(Digest::default);
        Self { output, converter, digest, written: 0 }
    }

    /// Takes what belongs to this output of a chunk that begins `start` bytes into the source tensor.
    fn take(&mut self, start: usize, chunk: &[u8], sink: &dyn Sink) -> Result<(), Error> {
        let wanted = &self.output.source_bytes;
        let from = wanted.start.max(start) - start;
        let to = wanted.end.min(start + chunk.len()).saturating_sub(start);
        let Some(piece) = chunk.get(from..to).filter(|piece| !piece.is_empty()) else { return Ok(()) };
        let piece = match &mut self.converter {
            Some(converter) => converter.convert(piece),
            None => piece,
        };
        if let Some(digest) = &mut self.digest {
            digest.update(piece);
        }
        sink.write(self.output, self.written, piece)?;
        self.written += piece.len();
        Ok(())
    }

    fn finish(self, source_sha256: &str) -> OutputHash {
        OutputHash {
            sha256: self.digest.map_or_else(|| source_sha256.to_string(), Digest::finish),
            overflows: self.converter.map_or(0, |converter| converter.overflows()),
        }
    }
}

/// Throws everything away: for hashes alone.
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn write(&self, _: &Output, _: usize, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

/// The files of a plan, being written.
pub(crate) struct ShardFiles {
    files: Vec<(PathBuf, File, usize)>,
}

impl ShardFiles {
    /// Makes the files of `plan` in the folder `dir`, each with its header.
    pub(crate) fn create(dir: &Path, plan: &Plan) -> Result<Self, Error> {
        let mut files = Vec::with_capacity(plan.shards.len());
        for shard in &plan.shards {
            let path = dir.join(&shard.file);
            let file = File::create_new(&path).map_err(Error::io("create", &path))?;
            reserve(&file, (shard.header.len() + shard.data_bytes) as u64).map_err(|error| {
                match error.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => no_space(dir, plan, &files),
                    _ => Error::io("write", &path)(error),
                }
            })?;
            file.write_all_at(&shard.header, 0).map_err(Error::io("write", &path))?;
            files.push((path, file, shard.header.len()));
        }
        Ok(Self { files })
    }

    /// Waits until the disk has everything.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.files
            .par_iter()
            .try_for_each(|(path, file, _)| file.sync_all().map_err(Error::io("write", path)))
    }
}

/// Gives the file its size, and the blocks for it: a full disk is told at once, and not after minutes.
fn reserve(file: &File, bytes: u64) -> std::io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // A file system without it.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    }
}

/// What the files of `plan` need, those of them that have their space already not counted, and what there is.
fn no_space(dir: &Path, plan: &Plan, reserved: &[(PathBuf, File, usize)]) -> Error {
    let bytes = |shard: &Shard| (shard.header.len() + shard.data_bytes) as u64;
    let have: u64 = plan.shards.iter().take(reserved.len()).map(bytes).sum();
    let free = rustix::fs::statvfs(dir).map_or(0, |disk| disk.f_bavail * disk.f_frsize);
    Error::NoSpace {
        // The output's own folder: this one is in the temporary one.
        path: dir.ancestors().nth(2).unwrap_or(dir).to_path_buf(),
        expected: plan.shards.iter().map(bytes).sum(),
        found: free + have,
    }
}

impl Sink for ShardFiles {
    fn write(&self, output: &Output, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let (path, file, header_bytes) = &self.files[output.shard];
        let at = header_bytes + output.offset + offset;
        file.write_all_at(bytes, at as u64).map_err(Error::io("write", path))
    }
}
