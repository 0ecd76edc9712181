//! Whether a source still gives what a ledger says.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde_json::Value;

use super::{Difference, Verification};
use crate::ledger::{self, LEDGER_FILE, Ledger, LedgerInput, LedgerRow, LedgerTarget};
use crate::normalized::{CONFIG_FILE, TorchDtype};
use crate::plan::{Plan, PlanOptions, ShardSize, Transform};
use crate::resolve::Settings;
use crate::source::{CodeCaches, Location};
use crate::write::{NullSink, Observer, Streamed, stream};
use crate::{Conversion, Error, json};

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
    let rows: HashMap<&str, &LedgerRow> =
        ledger.tensors.iter().map(|row| (row.source.as_str(), row)).collect();
    let mut seen = BTreeSet::new();
    let rows_now = ledger::tensor_rows(plan, streamed);
    for row in &rows_now {
        let name = row.source.as_str();
        seen.insert(name);
        verification.source_tensors += 1;
        let place = format!("source tensor `{}`", name.escape_debug());
        let Some(listed) = rows.get(name) else {
            verification.differ(place, "no such tensor, by the ledger", "it");
            continue;
        };
        if listed.sha256 != row.sha256 {
            verification.differ(place.clone(), format!("SHA-256 {}", listed.sha256), row.sha256.clone());
        }
        let (then, now) = (hashes(listed), hashes(row));
        if listed.sha256 == row.sha256 && now != then {
            verification.differ(place, format!("targets {then:?}"), format!("{now:?}"));
            continue;
        }
        let ways = listed.targets.iter().zip(&row.targets);
        for (then, now) in ways.filter(|(then, now)| then.name == now.name && way(then) != way(now)) {
            let place = format!("{place}, target `{}`", now.name.escape_debug());
            verification.differ(place, format!("{:?}", way(then)), format!("{:?}", way(now)));
        }
    }
    for row in ledger.tensors.iter().filter(|row| !seen.contains(row.source.as_str())) {
        verification.differ(format!("source tensor `{}`", row.source.escape_debug()), "it", "no such tensor");
    }
    verification
}

/// The targets of a row, each with its hash.
fn hashes(row: &LedgerRow) -> Vec<(&str, &str)> {
    row.targets.iter().map(|target| (target.name.as_str(), target.sha256.as_str())).collect()
}

/// How a target is made.
fn way(target: &LedgerTarget) -> (Option<Transform>, &[usize], &[LedgerInput]) {
    (target.transform, &target.block, &target.inputs)
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
