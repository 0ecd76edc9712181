//! The documents in `docs/`, held to what they describe.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use validate::diagnosis::DIAGNOSES;
use validate::report::{Options, format};
use validate::{DiffOptions, Policy};

use crate::dumps::{Candidate, bundled, compare, compare_by, goldens};

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

fn schema(name: &str) -> jsonschema::Validator {
    let schema: Value = serde_json::from_slice(&fs::read(document(name)).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn every_bundled_manifest_satisfies_its_schema() {
    let schema = schema("activation-dump.schema.json");
    let mut manifests = 0;
    for folder in fs::read_dir(goldens()).unwrap().map(|item| item.unwrap().path()) {
        if folder.join("manifest.json").exists() {
            let manifest: Value =
                serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
            schema.validate(&manifest).unwrap();
            manifests += 1;
        }
    }
    assert_eq!(manifests, 5);
}

#[test]
fn what_we_write_satisfies_the_schema_and_what_is_spoilt_does_not() {
    let schema = schema("activation-dump.schema.json");
    let written = Candidate::of("shapes-text-float32", |_| true).manifest();
    schema.validate(&written).unwrap();
    let spoils: [fn(&mut Value); 6] = [
        |m| m["version"] = 3.into(),
        |m| m["entries"][0]["dtype"] = "complex64".into(),
        |m| m["entries"][0]["sha256"] = "0".into(),
        |m| m["entries"][0]["file"] = "../x".into(),
        |m| drop(m["producer"].as_object_mut().unwrap().remove("dtype")),
        |m| m["entries"][3]["role"] = "weight".into(),
    ];
    for (index, spoil) in spoils.into_iter().enumerate() {
        let mut spoilt = written.clone();
        spoil(&mut spoilt);
        assert!(!schema.is_valid(&spoilt), "spoil {index}");
    }
}

#[test]
fn the_schema_and_the_table_have_every_diagnosis() {
    let names: BTreeSet<&str> = DIAGNOSES.iter().map(|(_, diagnosis)| diagnosis.name).collect();
    for (mistake, diagnosis) in DIAGNOSES {
        assert_eq!(mistake.name(), diagnosis.name);
        assert!(!diagnosis.example.is_empty());
    }
    let schema: Value =
        serde_json::from_slice(&fs::read(document("diff-report.schema.json")).unwrap()).unwrap();
    let listed: Vec<&Value> = enumerations(&schema).into_iter().filter(|all| all[0] == "scale").collect();
    let [listed] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!(
        listed.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect::<BTreeSet<_>>(),
        names
    );
    let page = fs::read_to_string(document("diff-report.md")).unwrap();
    let table = page.split("| `mistake` | undone by |").nth(1).unwrap().split("\n\n").next().unwrap();
    let cells = table.lines().skip(2).map(|line| line.split('|').nth(1).unwrap());
    let told: BTreeSet<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert_eq!(told, names);
}

/// All `enum`s of a schema.
fn enumerations(schema: &Value) -> Vec<&Value> {
    match schema {
        Value::Object(fields) => {
            fields.get("enum").into_iter().chain(fields.values().flat_map(enumerations)).collect()
        }
        Value::Array(items) => items.iter().flat_map(enumerations).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn reports_of_every_kind_satisfy_their_schema() {
    let schema = schema("diff-report.schema.json");
    let name = "shapes-text-float32";
    let all_kinds = Candidate::with(
        name,
        |head| {
            head.prompt.as_mut().unwrap().push('!');
            head.generated_ids.as_mut().unwrap()[0] = 5;
            head.text = None;
            head.producer.dtype = "bfloat16".to_owned();
        },
        |entry, tensor| {
            match entry.order {
                0 => tensor.set(0, 1.0),
                2 => tensor.set(0, f64::NAN),
                3 => tensor.set(0, 1e30),
                4 => tensor.shape = vec![tensor.len()],
                5 => {
                    tensor.dtype = golden::Dtype::Int32;
                }
                6 => tensor.name = "extra".to_owned(),
                7 => tensor.data.fill(0),
                // One row within the limit of 5e-5, and beyond what rounding explains.
                55 => {
                    let row_len = tensor.row_len();
                    tensor.map(|index, value| if index / row_len == 5 { 1.000_03 * value } else { value });
                }
                _ => {}
            }
            entry.order != 9
        },
    );
    for report in [compare(name, &Candidate::copied(name)), compare(name, &all_kinds)] {
        let json = format("json").unwrap().render(&report, Options::default());
        let json: Value = serde_json::from_str(&json).unwrap();
        if let Err(error) = schema.validate(&json) {
            panic!("{error} at {}", error.instance_path());
        }
        assert_eq!(json["verdict"] == "pass", report.passes());
        assert_eq!(json["entries"].as_array().unwrap().len(), report.entries.len());
    }
    let kinds: BTreeSet<String> = {
        let report = compare(name, &all_kinds);
        let json: Value =
            serde_json::from_str(&format("json").unwrap().render(&report, Options::default())).unwrap();
        let entries = json["entries"].as_array().unwrap().clone();
        entries.iter().filter_map(|entry| Some(entry["failure"]["kind"].as_str()?.to_owned())).collect()
    };
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["dtype", "exceeded", "extra", "fresh", "missing", "non_finite", "shape", "unequal"]
    );
}

#[test]
fn the_policy_in_the_document_is_one() {
    let text = fs::read_to_string(document("tolerances.md")).unwrap();
    let policy = text.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), policy).unwrap();
    let policy = Policy::read(file.path()).unwrap();
    let report =
        compare_by("shapes-describe-bfloat16", &Candidate::copied("shapes-describe-bfloat16"), &policy);
    assert!(report.passes());
    assert!(report.notes.is_empty(), "every rule of the example matches something: {:?}", report.notes);
}

#[test]
fn the_figures_behind_the_defaults_are_those_of_the_bundled_runs() {
    let golden = golden::Dump::open(bundled("shapes-describe-bfloat16")).unwrap();
    let candidate = golden::Dump::open(bundled("shapes-describe-float32")).unwrap();
    let report = validate::diff(
        &golden,
        &candidate,
        &DiffOptions { verify: false, ..DiffOptions::new(&Policy::default()) },
    )
    .unwrap();
    let measured: Vec<_> = report.entries.iter().filter_map(|entry| entry.measurement.as_ref()).collect();
    let largest = |of: &dyn Fn(&validate::metric::Measurement) -> Option<f64>| {
        let largest =
            measured.iter().filter_map(|m| of(m)).filter(|value| value.is_finite()).fold(0.0, f64::max);
        format!("{largest:.1e}")
    };
    let text = fs::read_to_string(document("tolerances.md")).unwrap().replace('\n', " ");
    let told = [
        format!("the largest relative L2 of any site is {}", largest(&|m| m.relative_l2)),
        format!("the largest of a row {}", largest(&|m| m.row_relative_l2)),
    ];
    for sentence in told {
        assert!(text.contains(&sentence), "{sentence}");
    }
    // No more than what the limit of a row allows it beyond that of the whole tensor.
    let ratio = measured.iter().filter_map(|m| Some(m.row_relative_l2? / m.relative_l2?)).fold(0.0, f64::max);
    assert!(text.contains(&format!("by more than {ratio:.1} times its whole tensor")), "{ratio}");
}
