//! The way back: from a normalized folder and its ledger to the checkpoint that it was made of, byte by byte.

mod files;
mod origin;
mod tensors;

use std::path::Path;

use rayon::prelude::*;

use crate::Error;
use crate::ledger::{Ledger, read_ledger};
use crate::weights::{Folder, Weights};
use crate::write::{Observer, Staging, check_place};

use tensors::Shard;

/// What was written back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Files, those of weights included.
    pub files: usize,
    /// Tensors, buffers included.
    pub tensors: usize,
    /// Bytes of the files of weights.
    pub bytes: u64,
}

/// A normalized folder whose ledger says how to write its source back.
#[derive(Debug)]
pub struct Export {
    folder: Folder,
    ledger: Ledger,
    weights: Weights,
    shards: Vec<Shard>,
}

impl Export {
    /// Reads the normalized folder `out` and plans what to write; nothing is written yet.
    ///
    /// # Errors
    /// [`Error::NotRestorable`] where the folder has not everything that the source had: it holds a part of the model,
    /// or its conversion rounded numbers. Those of [`read_ledger`] and [`Weights::open`].
    pub fn prepare(out: &Path) -> Result<Self, Error> {
        let folder = Folder::open(out)?;
        let ledger = read_ledger(&folder)?;
        if !ledger.options.part.is_all() {
            return Err(Error::NotRestorable {
                path: out.to_path_buf(),
                expected: "the whole model",
                found: "a part of it".into(),
                hint: "convert the source with `--part all`",
            });
        }
        let weights = Weights::open(&folder)?;
        let shards = tensors::plan(&folder, &ledger, &weights)?;
        Ok(Self { folder, ledger, weights, shards })
    }

    /// Bytes of the files of weights: what an observer of [`Export::write`] counts up to.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(Shard::bytes).sum()
    }

    /// The files of weights that would not have the SHA-256 that the ledger has of the source's: each with the one that it
    /// should have and the one that it would.
    ///
    /// # Errors
    /// [`Error::Changed`] where somebody writes to a tensor's file meanwhile; [`Error::Io`].
    pub(crate) fn wrong_files(&self, observer: &dyn Observer) -> Result<Vec<(&str, String, String)>, Error> {
        let hashes: Vec<(&str, (String, String))> = self
            .shards
            .par_iter()
            .map(|shard| Ok((shard.name(), shard.hashes(&self.weights, observer)?)))
            .collect::<Result<_, Error>>()?;
        self.weights.check_unchanged()?;
        let wrong = hashes.into_iter().filter(|(_, (expected, found))| expected != found);
        Ok(wrong.map(|(name, (expected, found))| (name, expected, found)).collect())
    }

    /// Writes the source back to the folder `hf_dir`, which appears complete or not at all.
    ///
    /// # Errors
    /// [`Error::OutputExists`] and [`Error::OutputPlace`] before anything is done; [`Error::Tensors`] and [`Error::Field`]
    /// where a tensor or file is not the source's any more, [`Error::Changed`] where somebody writes to one meanwhile;
    /// [`Error::Io`]. `hf_dir` is then as it was.
    pub fn write(&self, hf_dir: &Path, force: bool, observer: &dyn Observer) -> Result<Exported, Error> {
        check_place(hf_dir, self.folder.path(), force)?;
        let small = files::small_files(&self.folder, &self.ledger)?;
        let staging = Staging::begin(hf_dir, self.folder.path(), force)?;
        for (name, bytes) in &small {
            staging.write(name, bytes)?;
        }
        self.shards
            .par_iter()
            .try_for_each(|shard| shard.write(&staging.dir(), &self.folder, &self.weights, observer))?;
        self.weights.check_unchanged()?;
        if observer.is_stopped() {
            return Err(Error::Interrupted);
        }
        staging.mark_exported()?;
        staging.commit()?;
        Ok(Exported {
            files: small.len() + self.shards.len(),
            tensors: self.ledger.tensors.len(),
            bytes: self.bytes(),
        })
    }
}
