//! Whether a normalized folder is still what its ledger says, and whether that is what its source gives.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Display};
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use crate::added::added_files;
use crate::architecture::Part;
use crate::families::FAMILIES;
use crate::ledger::{LEDGER_FILE, Ledger, LedgerTarget, WrittenFile, parse_ledger};
use crate::normalized::{CONFIG_FILE, Checkpoint, TorchDtype};
use crate::part_config;
use crate::plan::{Plan, PlanOptions, ShardSize};
use crate::resolve::Settings;
use crate::source::{CodeCaches, Location};
use crate::weights::{Folder, HeaderEntry, WeightsFile};
use crate::write::{NullSink, Observer, Streamed, stream};
use crate::{Conversion, Error, Export, json};
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

/// Converts the source at `location` again, writing nothing, and compares what it gives with the ledger of `out`.
///
/// # Errors
/// Where the source can't be read or isn't supported; one that gives something else is no error but a finding.
pub fn verify_source(
    out: &Path,
    ledger: &Ledger,
    location: Location,
    observer: &dyn Observer,
) -> Result<Verification, Error> {
    let ledger_path = out.join(LEDGER_FILE);
    let options = options_of(ledger, &ledger_path)?;
    let conversion = Conversion::prepare(location, settings_of(ledger), options)?;
    let mut verification = Verification::default();

    let config_path = out.join(CONFIG_FILE);
    let text = std::fs::read(&config_path).map_err(Error::io("read", &config_path))?;
    let found: Value = json::parse(&config_path, &text)?;
    let expected = conversion.config_file();
    compare_json("", &expected, &found, &mut verification);

    let small = conversion.source().files();
    verification.files += small.len();
    compare_files(small.iter().map(|file| (&file.name, &file.sha256)), ledger, &mut verification);
    let streamed = stream(conversion.source().weights(), conversion.plan(), &NullSink, observer)?;
    conversion.source().check_unchanged()?;
    let of_tensors = compare_tensors(conversion.plan(), &streamed, ledger);
    verification.source_tensors = of_tensors.source_tensors;
    verification.differences.extend(of_tensors.differences);
    // Where a tensor differs, that was told with its name: its file's hash is then no other difference.
    let differs = |difference: &Difference| difference.place.starts_with("source tensor");
    if !verification.differences.iter().any(differs) {
        compare_files(
            streamed.files.iter().map(|file| (&file.name, &file.sha256)),
            ledger,
            &mut verification,
        );
    }
    let read = |name: &String| {
        small.iter().any(|file| file.name == *name) || streamed.files.iter().any(|file| file.name == *name)
    };
    for gone in ledger.source.files.iter().filter(|listed| !read(&listed.name)) {
        let place = format!("source file `{}`", gone.name.escape_debug());
        verification.differ(place, "it", "no such file");
    }
    Ok(verification)
}

/// Compares what a plan gives of a source with what the ledger says.
pub fn compare_tensors(plan: &Plan, streamed: &Streamed, ledger: &Ledger) -> Verification {
    let mut verification = Verification::default();
    let rows: HashMap<&str, _> = ledger.tensors.iter().map(|row| (row.source.as_str(), row)).collect();
    let mut seen = BTreeSet::new();
    for (row, sha256) in plan.rows.iter().zip(&streamed.rows) {
        let name = row.source.name.as_str();
        seen.insert(name);
        verification.source_tensors += 1;
        let place = format!("source tensor `{}`", name.escape_debug());
        let Some(listed) = rows.get(name) else {
            verification.differ(place, "no such tensor, by the ledger", "it");
            continue;
        };
        if listed.sha256 != *sha256 {
            verification.differ(place.clone(), format!("SHA-256 {}", listed.sha256), sha256.clone());
        }
        let now: Vec<(&str, &str)> = row
            .outputs
            .iter()
            .map(|&i| (plan.outputs[i].name.as_str(), streamed.outputs[i].sha256.as_str()))
            .collect();
        let then: Vec<(&str, &str)> =
            listed.targets.iter().map(|target| (target.name.as_str(), target.sha256.as_str())).collect();
        if listed.sha256 == *sha256 && now != then {
            verification.differ(place, format!("targets {then:?}"), format!("{now:?}"));
        }
    }
    for row in ledger.tensors.iter().filter(|row| !seen.contains(row.source.as_str())) {
        verification.differ(format!("source tensor `{}`", row.source.escape_debug()), "it", "no such tensor");
    }
    verification
}

/// Compares files of the source, each a name and its SHA-256, with those that the ledger lists.
fn compare_files<'a>(
    files: impl Iterator<Item = (&'a String, &'a String)>,
    ledger: &Ledger,
    verification: &mut Verification,
) {
    for (name, sha256) in files {
        let place = format!("source file `{}`", name.escape_debug());
        match ledger.source.files.iter().find(|listed| listed.name == *name) {
            Some(listed) if listed.sha256 == *sha256 => {}
            Some(listed) => verification.differ(place, format!("SHA-256 {}", listed.sha256), sha256.clone()),
            None => verification.differ(place, "no such file, by the ledger", "it"),
        }
    }
}

/// What the user had said about behaviours, by the ledger.
fn settings_of(ledger: &Ledger) -> Settings {
    let said = |name: &str| {
        ledger
            .behaviours
            .iter()
            .find(|behaviour| behaviour.name == name)
            .filter(|behaviour| behaviour.evidence.is_from_elsewhere())
            .map(|behaviour| &behaviour.value)
    };
    Settings {
        align_corners: said("position_interpolation_align_corners").and_then(Value::as_bool),
        upscale_factor: said("upscale_factor").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()),
        // What they said is in the ledger.
        caches: CodeCaches::default(),
        code_revision: None,
    }
}

fn options_of(ledger: &Ledger, path: &Path) -> Result<PlanOptions, Error> {
    let dtype = match ledger.options.dtype.as_str() {
        "keep" => None,
        other => Some(TorchDtype::named(other).ok_or_else(|| {
            let found = format!("`{}`", other.escape_debug());
            Error::field(path, "options.dtype", format!("`keep`, {}", TorchDtype::NAMES), found)
        })?),
    };
    let bytes = ledger.options.max_shard_bytes;
    let max_shard_size: ShardSize = bytes
        .to_string()
        .parse()
        .map_err(|_| Error::field(path, "options.max_shard_bytes", "a size above 0", format!("`{bytes}`")))?;
    Ok(PlanOptions { part: ledger.options.part, dtype, max_shard_size })
}

/// Names every field of `config.json` that differs.
fn compare_json(field: &str, expected: &Value, found: &Value, verification: &mut Verification) {
    if let (Value::Object(expected), Value::Object(found)) = (expected, found) {
        let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        for name in names {
            let inner = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
            let of = |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
            compare_json(&inner, &of(expected), &of(found), verification);
        }
    } else if expected != found {
        let place = format!("`{CONFIG_FILE}`, field `{}`", field.escape_debug());
        verification.differ(place, format!("`{expected}`, as the source gives"), format!("`{found}`"));
    }
}
