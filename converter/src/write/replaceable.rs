//! What `--force` may replace: an empty folder, or one that this program wrote and nobody has put anything into.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use crate::Error;
use crate::ledger::{LEDGER_FILE, LEDGER_FORMAT};
use store::hash::{sha256, sha256_of};

/// The attribute of a folder that `export` wrote. In the folder itself there is nothing but the source's own files.
const EXPORTED: &str = "user.nvl-convert.exported";
/// The most that is read of a ledger, in bytes: that of the 8B has less than a thousandth of it.
const LEDGER_BYTES: u64 = 1 << 30;

/// Refuses to replace the folder `out` if it holds anything that this program did not write.
///
/// `source` is what the new content is made of: where it is a normalized checkpoint, the files of its source, bit by bit, may be
/// replaced by themselves.
///
/// # Errors
/// [`Error::OutputForeign`], which names what was found; [`Error::Io`].
pub(super) fn check(out: &Path, source: &Path) -> Result<(), Error> {
    let foreign = |found: String| Err(Error::OutputForeign { path: out.to_path_buf(), found });
    let entries = entries(out)?;
    if entries.is_empty() {
        return Ok(());
    }
    if let Some(written) = by_ledger(out) {
        return match entries.iter().find(|(name, entry)| !entry.is_file || !written.contains(*name)) {
            None => Ok(()),
            Some((name, _)) => foreign(format!("`{}` in it, which no conversion wrote", name.escape_debug())),
        };
    }
    let mut mark = [0; 64];
    let is_marked = rustix::fs::getxattr(out, EXPORTED, &mut mark).is_ok_and(|bytes| bytes == mark.len());
    if is_marked && mark == *state(&entries).as_bytes() {
        return Ok(());
    }
    // A file system that keeps no such mark, or a copy that has lost it.
    if read_ledger(source).is_some_and(|ledger| is_exported(out, &entries, &ledger)) {
        return Ok(());
    }
    if is_marked {
        return foreign("files in it that were added or changed since `export` wrote it".into());
    }
    let first = entries.keys().next().map_or(String::new(), |name| name.escape_debug().to_string());
    foreign(format!("`{first}` in it, which this program did not write"))
}

/// Marks the folder `dir` as one that `export` wrote. A file system without attributes keeps no mark: such a folder is
/// replaced only by what it holds already.
pub(super) fn mark_exported(dir: &Path) -> Result<(), Error> {
    let state = state(&entries(dir)?);
    let _ = rustix::fs::setxattr(dir, EXPORTED, state.as_bytes(), rustix::fs::XattrFlags::empty());
    Ok(())
}

struct Entry {
    is_file: bool,
    bytes: u64,
    modified: (i64, i64),
}

/// What is in a folder, by name.
fn entries(dir: &Path) -> Result<BTreeMap<String, Entry>, Error> {
    let mut entries = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        let metadata = entry.metadata().map_err(Error::io("read", &entry.path()))?;
        entries.insert(
            entry.file_name().to_string_lossy().into_owned(),
            Entry {
                is_file: metadata.is_file(),
                bytes: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            },
        );
    }
    Ok(entries)
}

/// Names, sizes and times of what is in a folder, in 64 digits.
fn state(entries: &BTreeMap<String, Entry>) -> String {
    let text = entries.iter().fold(String::new(), |mut text, (name, entry)| {
        let Entry { is_file, bytes, modified } = entry;
        // Writing into a `String` cannot fail.
        let _ = writeln!(text, "{name:?} {is_file} {bytes} {modified:?}");
        text
    });
    sha256(text.as_bytes())
}

fn read_ledger(dir: &Path) -> Option<Value> {
    let bytes = store::read(&dir.join(LEDGER_FILE), LEDGER_BYTES).ok()?;
    let ledger: Value = serde_json::from_slice(&bytes).ok()?;
    // Of whatever version: it is ours.
    (ledger["format"] == LEDGER_FORMAT).then_some(ledger)
}

/// The names of the files that a conversion wrote to a folder, by the ledger in it.
fn by_ledger(dir: &Path) -> Option<BTreeSet<String>> {
    let ledger = read_ledger(dir)?;
    let files = ledger["files"].as_array()?;
    let mut written: BTreeSet<String> =
        files.iter().filter_map(|file| file["name"].as_str().map(str::to_string)).collect();
    written.insert(LEDGER_FILE.into());
    Some(written)
}

/// Whether a folder has the files of the source that `ledger` tells of, and no others.
fn is_exported(dir: &Path, entries: &BTreeMap<String, Entry>, ledger: &Value) -> bool {
    let Some(files) = ledger["source"]["files"].as_array() else { return false };
    let listed = |name: &str| files.iter().find(|file| file["name"] == name);
    entries.iter().all(|(name, entry)| {
        entry.is_file
            && listed(name).is_some_and(|file| {
                file["bytes"] == entry.bytes
                    && store::open(&dir.join(name))
                        .and_then(sha256_of)
                        .is_ok_and(|sha256| file["sha256"] == sha256)
            })
    })
}
