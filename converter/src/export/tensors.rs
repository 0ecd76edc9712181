//! The files of weights of the source: their headers from the ledger, their tensors from the normalized ones.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::origin::{Restored, restored};
use crate::ledger::{LEDGER_FILE, Ledger, LedgerRow};
use crate::weights::{Folder, Header, Weights};
use crate::write::Observer;
use crate::{Error, TensorProblem};
use store::hash::Digest;
use store::safetensors_header::LENGTH_BYTES;

/// A file of weights to write back.
#[derive(Debug)]
pub(super) struct Shard {
    name: String,
    /// Of the whole file.
    sha256: String,
    /// The header's length and the header.
    header: Vec<u8>,
    /// In the order of their data.
    tensors: Vec<Restored>,
    data_bytes: usize,
}

/// Plans every file of weights of the source.
pub(super) fn plan(folder: &Folder, ledger: &Ledger, weights: &Weights) -> Result<Vec<Shard>, Error> {
    let path = folder.file_path(LEDGER_FILE);
    let rows: HashMap<&str, &LedgerRow> =
        ledger.tensors.iter().map(|row| (row.source.as_str(), row)).collect();
    let mut shards = Vec::new();
    let mut listed = 0;
    for file in &ledger.source.files {
        let Some(text) = &file.header else { continue };
        folder.check_name(&file.name)?;
        let data_bytes = usize::try_from(file.bytes)
            .ok()
            .and_then(|bytes| bytes.checked_sub(LENGTH_BYTES)?.checked_sub(text.len()))
            .ok_or_else(|| {
                let field = format!("source.files, `{}`", file.name.escape_debug());
                Error::field(&path, field, "a size above the header's", format!("{} bytes", file.bytes))
            })?;
        let parsed = Header::of_text(&path, text.as_bytes(), data_bytes)?;
        let tensors = parsed
            .tensors
            .iter()
            .map(|entry| {
                restored(entry, &file.name, rows.get(entry.name.as_str()).copied(), &rows, folder, weights)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        listed += tensors.len();
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.extend(text.as_bytes());
        let (name, sha256) = (file.name.clone(), file.sha256.clone());
        shards.push(Shard { name, sha256, header, tensors, data_bytes });
    }
    if listed != ledger.tensors.len() {
        let expected = format!("{listed} rows, one for each tensor of the headers in `source.files`");
        return Err(Error::field(&path, "tensors", expected, format!("{} rows", ledger.tensors.len())));
    }
    Ok(shards)
}

impl Shard {
    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        (self.header.len() + self.data_bytes) as u64
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes the file into `dir` and proves it, and every tensor, by its SHA-256.
    pub(super) fn write(
        &self,
        dir: &Path,
        folder: &Folder,
        weights: &Weights,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        let path = dir.join(&self.name);
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        let mut file = BufWriter::new(file);
        let mut whole = Digest::default();
        let write = |bytes: &[u8]| {
            let (written, ()) = rayon::join(|| file.write_all(bytes), || whole.update(bytes));
            written.map_err(Error::io("write", &path))
        };
        self.for_each_piece(weights, observer, Proof::Tensors(folder.path()), write)?;
        let file = file.into_inner().map_err(|error| Error::io("write", &path)(error.into_error()))?;
        file.sync_all().map_err(Error::io("write", &path))?;
        let found = whole.finish();
        if found == self.sha256 {
            return Ok(());
        }
        let field = format!("source.files, `{}`", self.name.escape_debug());
        let expected = format!("SHA-256 {}", self.sha256);
        Err(Error::field(&folder.file_path(LEDGER_FILE), field, expected, found))
    }

    /// The SHA-256 that the file should have, and the one that it would have; its tensors are not hashed by themselves.
    pub(super) fn hashes(
        &self,
        weights: &Weights,
        observer: &dyn Observer,
    ) -> Result<(String, String), Error> {
        let mut whole = Digest::default();
        self.for_each_piece(weights, observer, Proof::None, |bytes| {
            whole.update(bytes);
            Ok(())
        })?;
        Ok((self.sha256.clone(), whole.finish()))
    }

    /// Gives `take` the file from its first to its last byte.
    fn for_each_piece(
        &self,
        weights: &Weights,
        observer: &dyn Observer,
        proof: Proof<'_>,
        take: impl FnMut(&[u8]) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let mut sink = Sink { take, observer };
        sink.take(&self.header, None)?;
        for tensor in &self.tensors {
            let mut digest = matches!(proof, Proof::Tensors(_)).then(Digest::default);
            tensor.for_each_piece(weights, |bytes| sink.take(bytes, digest.as_mut()))?;
            let found = digest.map(Digest::finish);
            if let (Proof::Tensors(folder), Some(found)) = (&proof, found)
                && found != tensor.sha256
            {
                return Err(Error::Tensors {
                    path: folder.to_path_buf(),
                    problems: vec![TensorProblem::Value {
                        name: tensor.name.clone(),
                        expected: format!("bytes of SHA-256 {}, by the ledger", tensor.sha256),
                        found,
                    }],
                });
            }
        }
        Ok(())
    }
}

/// Whether each tensor is hashed by itself.
enum Proof<'a> {
    /// And a wrong one is an error that names this folder.
    Tensors(&'a Path),
    None,
}

/// Who takes the bytes.
struct Sink<'a, T> {
    take: T,
    observer: &'a dyn Observer,
}

impl<T: FnMut(&[u8]) -> Result<(), Error> + Send> Sink<'_, T> {
    fn take(&mut self, bytes: &[u8], digest: Option<&mut Digest>) -> Result<(), Error> {
        if self.observer.is_stopped() {
            return Err(Error::Interrupted);
        }
        match digest {
            None => (self.take)(bytes)?,
            Some(digest) => {
                let (taken, ()) = rayon::join(|| (self.take)(bytes), || digest.update(bytes));
                taken?;
            }
        }
        self.observer.advance(bytes.len() as u64);
        Ok(())
    }
}
