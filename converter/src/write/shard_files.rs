//! The files of weights, being written.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rayon::prelude::*;

use super::observer::Observer;
use super::stream::{Streamed, stream};
use super::target::Sink;
use crate::Error;
use crate::plan::{Output, Plan, Shard};
use crate::weights::Weights;

/// The disk is given this much of a file at a time, so that little is left to wait for at the end.
const SYNC_BYTES: u64 = 128 << 20;
/// How long the disk's thread sleeps where there is less.
const NAP: Duration = Duration::from_millis(20);

/// Writes the files of `plan`, which converts `weights`, into the folder `dir`; they are on the disk when it returns.
///
/// # Errors
/// [`Error::NoSpace`] before anything is read; those of [`stream`]; [`Error::Io`].
pub fn write_tensors(
    dir: &Path,
    weights: &Weights,
    plan: &Plan,
    observer: &dyn Observer,
) -> Result<Streamed, Error> {
    ShardFiles::create(dir, plan)?.fill(|shards| {
        shards.write_buffers(plan)?;
        stream(weights, plan, shards, observer)
    })
}

/// The files of a plan, being written.
struct ShardFiles {
    files: Vec<ShardFile>,
}

/// One of them.
struct ShardFile {
    path: PathBuf,
    file: File,
    header_bytes: usize,
    /// Bytes that were written, whether the disk has them or not.
    written: AtomicU64,
}

impl ShardFiles {
    /// Makes the files of `plan` in the folder `dir`, each with its header.
    fn create(dir: &Path, plan: &Plan) -> Result<Self, Error> {
        let mut files = Vec::with_capacity(plan.shards.len());
        for shard in &plan.shards {
            let path = dir.join(&shard.file);
            let file = File::create_new(&path).map_err(Error::io("create", &path))?;
            store::reserve(&file, (shard.header.len() + shard.data_bytes) as u64).map_err(
                |error| match error.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => no_space(dir, plan, &files),
                    _ => Error::io("write", &path)(error),
                },
            )?;
            file.write_all_at(&shard.header, 0).map_err(Error::io("write", &path))?;
            files.push(ShardFile {
                path,
                file,
                header_bytes: shard.header.len(),
                written: AtomicU64::new(0),
            });
        }
        Ok(Self { files })
    }

    /// Runs `fill`, which writes to the files, and returns when the disk has everything. The disk begins at once.
    fn fill<T>(&self, fill: impl FnOnce(&Self) -> Result<T, Error>) -> Result<T, Error> {
        let filled = AtomicBool::new(false);
        let (result, along) = std::thread::scope(|scope| {
            let along = scope.spawn(|| self.sync_along(&filled));
            let result = fill(self);
            filled.store(true, Ordering::Release);
            along.thread().unpark();
            (result, along.join())
        });
        let result = result?;
        // Even what a thread that panicked has left is synced here.
        along.unwrap_or(Ok(()))?;
        self.files
            .par_iter()
            .try_for_each(|shard| shard.file.sync_all().map_err(Error::io("write", &shard.path)))?;
        Ok(result)
    }

    /// Fills the places that the headers keep for buffers.
    fn write_buffers(&self, plan: &Plan) -> Result<(), Error> {
        for (ShardFile { path, file, header_bytes, .. }, shard) in self.files.iter().zip(&plan.shards) {
            let bytes: Vec<u8> = shard.buffers.iter().flat_map(|buffer| buffer.bytes.clone()).collect();
            file.write_all_at(&bytes, *header_bytes as u64).map_err(Error::io("write", path))?;
        }
        Ok(())
    }

    fn sync_along(&self, filled: &AtomicBool) -> Result<(), Error> {
        let mut synced = vec![0; self.files.len()];
        while !filled.load(Ordering::Acquire) {
            let mut idle = true;
            for (shard, synced) in self.files.iter().zip(&mut synced) {
                let written = shard.written.load(Ordering::Relaxed);
                if written - *synced >= SYNC_BYTES {
                    // An error is told once by the system: it may not be lost here.
                    shard.file.sync_data().map_err(Error::io("write", &shard.path))?;
                    (*synced, idle) = (written, false);
                }
            }
            if idle {
                std::thread::park_timeout(NAP);
            }
        }
        Ok(())
    }
}

/// What the files of `plan` need, those of them that have their space already not counted, and what there is.
fn no_space(dir: &Path, plan: &Plan, reserved: &[ShardFile]) -> Error {
    let bytes = |shard: &Shard| (shard.header.len() + shard.data_bytes) as u64;
    let have: u64 = plan.shards.iter().take(reserved.len()).map(bytes).sum();
    Error::NoSpace {
        // The output's own folder: this one is in the temporary one.
        path: dir.ancestors().nth(2).unwrap_or(dir).to_path_buf(),
        expected: plan.shards.iter().map(bytes).sum(),
        found: store::free_bytes(dir).unwrap_or(0) + have,
    }
}

impl Sink for ShardFiles {
    fn write(&self, output: &Output, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let ShardFile { path, file, header_bytes, written } = &self.files[output.shard];
        let at = header_bytes + output.offset + offset;
        file.write_all_at(bytes, at as u64).map_err(Error::io("write", path))?;
        written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}
