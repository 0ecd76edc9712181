//! Whether a normalized folder is still what its ledger says.

mod source;

pub use source::{compare_tensors, verify_source};

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Display};
use std::path::Path;

use rayon::prelude::*;

use crate::added::added_files;
use crate::architecture::Part;
use crate::families::FAMILIES;
use crate::ledger::{LEDGER_FILE, Ledger, LedgerTarget, WrittenFile, parse_ledger};
use crate::normalized::Checkpoint;
use crate::part_config;
use crate::weights::{Folder, HeaderEntry, WeightsFile};
use crate::write::Observer;
use crate::{Error, Export};
use store::hash::{Digest, sha256};

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Files that were compared with the ledger.
    pub files: usize,
    /// Tensors that were hashed.
    pub tensors: usize,
    /// Tensors of the source that were hashed.
    pub source_tensors: usize,
    /// Everything that differs.
    pub differences: Vec<Difference>,
}

/// Something that is not what the ledger, or the source, says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs: a file or a tensor.
    pub place: String,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.place, self.expected, self.found)
    }
}

impl Verification {
    /// Whether nothing differs.
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty()
    }

    fn differ(&mut self, place: String, expected: impl Into<String>, found: impl Into<String>) {
        self.differences.push(Difference { place, expected: expected.into(), found: found.into() });
    }
}

/// Hashes everything in the normalized folder `out` and compares it with the ledger.
///
/// # Errors
/// Where the ledger can't be read, and [`Error::Changed`] where somebody writes to the folder meanwhile; one that contradicts
/// its ledger is no error but a finding.
pub fn verify(out: &Path, observer: &dyn Observer) -> Result<(Ledger, Verification), Error> {
    let folder = Folder::open(out)?;
    let bytes = folder.read(LEDGER_FILE)?;
    let ledger = parse_ledger(&folder, &bytes)?;
    let mut verification = Verification::default();
    let own = Ledger::hash_of(&bytes);
    if ledger.ledger_sha256 != own {
        let expected = format!("SHA-256 {}, its own by `ledger_sha256`", ledger.ledger_sha256.escape_debug());
        verification.differ(format!("file `{LEDGER_FILE}`"), expected, own);
    }
    let shards: BTreeSet<&str> =
        ledger.tensors.iter().flat_map(|row| &row.targets).map(|target| target.file.as_str()).collect();
    for written in &ledger.files {
        verification.files += 1;
        if !shards.contains(written.name.as_str()) {
            check_small_file(&folder, written, &mut verification);
        }
    }
    let checked: Vec<Verification> = shards
        .par_iter()
        .map(|name| check_shard(&folder, name, &ledger, observer))
        .collect::<Result<_, Error>>()?;
    for shard in checked {
        verification.tensors += shard.tensors;
        verification.differences.extend(shard.differences);
    }
    for name in added_files(&folder, &ledger)? {
        verification.differ(format!("file `{}`", name.escape_debug()), "no such file", "it");
    }
    if verification.is_clean()
        && let Err(error) = check_content(&folder, ledger.options.part)
    {
        // Every byte is as the ledger says: then the ledger is of another checkpoint.
        verification.differ("checkpoint".into(), "a complete normalized checkpoint", error.to_string());
    }
    if verification.is_clean() {
        check_source_files(out, &mut verification, observer)?;
    }
    Ok((ledger, verification))
}

/// Whether the folder is what a reader takes; of a part, whose weights are transformers' to read, the configuration.
fn check_content(folder: &Folder, part: Part) -> Result<(), Error> {
    if part.is_all() {
        return Checkpoint::open(folder.path()).map(drop);
    }
    let names = FAMILIES.map(|family| family.parts.whole_config_file);
    let name = names.into_iter().find(|name| folder.has(name)).unwrap_or(names[0]);
    part_config::parse(&folder.file_path(name), &folder.read(name)?, part).map(drop)
}

/// Whether the tensors, put together as the source had them, are the files that the ledger has the SHA-256 of.
fn check_source_files(
    out: &Path,
    verification: &mut Verification,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let export = match Export::prepare(out) {
        Ok(export) => export,
        // A part, or a conversion that rounded: what the source was can't be told from it.
        Err(Error::NotRestorable { .. }) => return Ok(()),
        Err(error) => {
            verification.differ(format!("file `{LEDGER_FILE}`"), "what the tensors are", error.to_string());
            return Ok(());
        }
    };
    for (name, expected, found) in export.wrong_files(observer)? {
        let place = format!("source file `{}`", name.escape_debug());
        verification.differ(place, format!("SHA-256 {expected}"), found);
    }
    Ok(())
}

fn check_small_file(folder: &Folder, written: &WrittenFile, verification: &mut Verification) {
    let place = format!("file `{}`", written.name.escape_debug());
    match folder.read(&written.name) {
        Err(Error::MissingFile { .. }) => verification.differ(place, "it", "no such file"),
        Err(error) => verification.differ(place, "a readable file", error.to_string()),
        Ok(bytes) => {
            let found = sha256(&bytes);
            if found != written.sha256 {
                verification.differ(place, format!("SHA-256 {}", written.sha256), found);
            }
        }
    }
}

fn check_shard(
    folder: &Folder,
    name: &str,
    ledger: &Ledger,
    observer: &dyn Observer,
) -> Result<Verification, Error> {
    let mut verification = Verification::default();
    let place = format!("file `{}`", name.escape_debug());
    let mut targets: HashMap<&str, &LedgerTarget> = HashMap::new();
    let all = ledger.tensors.iter().flat_map(|row| &row.targets).chain(&ledger.buffers);
    for target in all.filter(|target| target.file == name) {
        // What is made of several tensors stands in the row of each.
        if targets.insert(&target.name, target).is_some_and(|other| other != target) {
            let place = format!("tensor `{}`", target.name.escape_debug());
            verification.differ(place, "the same in each row of the ledger that has it", "another");
        }
    }
    let file = match WeightsFile::open(folder, name) {
        Ok(file) => file,
        Err(Error::MissingFile { .. }) => {
            verification.differ(place, "it", "no such file");
            return Ok(verification);
        }
        Err(error) => {
            verification.differ(place, "a readable safetensors file", error.to_string());
            return Ok(verification);
        }
    };
    match ledger.files.iter().find(|written| written.name == name) {
        None => verification.differ(place, "a row in the ledger's `files`", "none"),
        Some(written) => {
            let (header, hashed_bytes) = (sha256(file.front()), file.front().len() as u64);
            if header != written.sha256 {
                let expected = format!("a header of SHA-256 {}", written.sha256);
                verification.differ(place, expected, header);
            } else if (file.bytes(), hashed_bytes) != (written.bytes, written.hashed_bytes) {
                let expected =
                    format!("{} bytes, the first {} of them hashed", written.bytes, written.hashed_bytes);
                verification.differ(place, expected, format!("{}, and {hashed_bytes}", file.bytes()));
            }
        }
    }
    let entries = &file.header().tensors;
    let hashes: Vec<String> =
        entries.par_iter().map(|entry| hash_watched(&file, entry, observer)).collect::<Result<_, Error>>()?;
    file.check_unchanged()?;
    let mut seen = BTreeSet::new();
    for (entry, found) in entries.iter().zip(hashes) {
        let place = format!("tensor `{}`", entry.name.escape_debug());
        seen.insert(entry.name.as_str());
        let Some(target) = targets.get(entry.name.as_str()) else {
            verification.differ(place, "no such tensor", format!("it in `{}`", name.escape_debug()));
            continue;
        };
        if entry.dtype.to_string() != target.dtype || entry.shape != target.shape {
            let expected = format!("`{}` of shape {:?}", target.dtype, target.shape);
            verification.differ(
                place.clone(),
                expected,
                format!("`{}` of shape {:?}", entry.dtype, entry.shape),
            );
        }
        verification.tensors += 1;
        if found != target.sha256 {
            verification.differ(place, format!("SHA-256 {}", target.sha256), found);
        }
    }
    for missing in targets.keys().filter(|name| !seen.contains(**name)).collect::<BTreeSet<_>>() {
        let place = format!("tensor `{}`", missing.escape_debug());
        verification.differ(place, format!("it in `{}`", name.escape_debug()), "no such tensor");
    }
    Ok(verification)
}

fn hash_watched(file: &WeightsFile, entry: &HeaderEntry, observer: &dyn Observer) -> Result<String, Error> {
    let mut digest = Digest::default();
    file.for_each_piece(entry, |piece| {
        if observer.is_stopped() {
            return Err(Error::Interrupted);
        }
        digest.update(piece);
        observer.advance(piece.len() as u64);
        Ok(())
    })?;
    Ok(digest.finish())
}
