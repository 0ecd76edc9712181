//! Reports on runs of several steps.

use golden::Dtype;
use serde_json::Value;
use validate::report::{FORMATS, Options, format};
use validate::{DiffReport, Divergence, NameMap};

use crate::synthetic::{How, STEPS, compared, decoder, made, written};

const RIGHT: How<'_> = How { dtype: Dtype::Float32, otherwise: false, wrong: None, row: None, flow: true };

/// The keys of one position that are wrong in the cache from step 3 on.
fn wrong_keys() -> DiffReport {
    let wrong = How { otherwise: true, wrong: Some("past_key_values.0.keys@3"), row: Some(5), ..RIGHT };
    compared(&written(RIGHT, decoder), &written(wrong, decoder))
}

fn rendered(report: &DiffReport, name: &str) -> String {
    format(name).unwrap().render(report, Options::default())
}

#[test]
fn the_first_divergence_has_its_step_layer_and_position() {
    let report = wrong_keys();
    assert_eq!(made(&report), ["past_key_values.0.keys@3"]);
    let headline = "step 3, layer 0, keys of position 5 (past_key_values.0.keys@3, activation, order";
    for format in FORMATS.iter().filter(|format| format.name != "json") {
        let text = format.render(&report, Options::default()).replace("\\_", "_").replace("&#64;", "@");
        // A line of a terminal may end between any two words, and a property of GitHub's has no commas.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("%2C", ",");
        assert!(text.contains(headline), "{}: {text}", format.name);
    }
    let table = rendered(&report, "table");
    for part in
        ["data flow  as the golden run recorded it", "steps 0 to 2: ", "\nstep 3: 10 entries, ", "1 fresh\n"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(
        rendered(&report, "markdown").contains("| step | entries | fail | fresh | first introduced error |")
    );
    assert!(rendered(&report, "junit").contains("past_key_values.0.keys@3"));
}

#[test]
fn entries_have_their_step_and_those_of_the_prefill_none() {
    let report: Value = serde_json::from_str(&rendered(&wrong_keys(), "json")).unwrap();
    assert_eq!(report["data_flow"], "golden");
    let first = &report["first_divergence"];
    assert_eq!((&first["name"], &first["step"]), (&"past_key_values.0.keys".into(), &3.into()));
    assert!(first["last_agreement"].as_str().unwrap().ends_with("@3"));
    for entry in report["entries"].as_array().unwrap() {
        assert!(!entry["name"].as_str().unwrap().contains('@'), "{entry}");
        assert_ne!(entry.get("step"), Some(&0.into()), "{entry}");
    }
    let of = |step: u64| {
        let entries = report["entries"].as_array().unwrap().iter();
        entries.filter(|entry| entry.get("step").and_then(Value::as_u64).unwrap_or(0) == step).count()
    };
    assert_eq!([of(0), of(1), of(STEPS)], [10; 3]);
    let schema = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/diff-report.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap().validate(&report).unwrap();
}

#[test]
fn the_page_has_a_row_for_each_site_and_a_column_for_each_step() {
    let page = rendered(&wrong_keys(), "html");
    let map = page.split("<table id=\"steps-map\">").nth(1).unwrap().split("</table>").next().unwrap();
    assert_eq!(map.matches("<tr>").count(), 1 + 10);
    assert_eq!(map.matches("<td ").count(), 10 * (1 + STEPS as usize));
    assert_eq!(map.matches(" fresh\"").count(), 1);
    let keys = map.split("past_key_values.0.keys</code>").nth(1).unwrap().split("</tr>").next().unwrap();
    let cells: Vec<&str> = keys.split("<td ").skip(1).collect();
    assert!(
        cells[3].contains(" fresh\"") && cells[4].contains("fail") && !cells[2].contains("fail"),
        "{keys}"
    );
}

#[test]
fn a_map_of_names_holds_for_every_step() {
    let golden = written(RIGHT, decoder);
    let candidate = written(How { flow: false, ..RIGHT }, |run| {
        decoder(run);
        run.rename("model.", "engine.");
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let map = "version = 1\n[[rules]]\ncandidate = 'engine\\.(.*)'\ngolden = 'model.$1'\n";
    std::fs::write(file.path(), map).unwrap();
    let names = NameMap::read(file.path().to_str().unwrap()).unwrap();
    let policy = validate::Policy::default();
    let options = validate::DiffOptions { names: Some(&names), ..validate::DiffOptions::new(&policy) };
    let report = validate::diff(&golden.open(), &candidate.open(), &options).unwrap();
    assert!(report.passes(), "{:?}", report.first_divergence());
    assert_eq!(report.entries.len(), golden.open().entries().len());
    let last = report.entries.iter().find(|entry| *entry.entry.key() == *"model.o@4").unwrap();
    assert_eq!(last.counterpart.as_ref().unwrap().tensors, ["engine.o@4"]);
    let proposal = validate::names::propose(&golden.open(), &candidate.open()).unwrap();
    assert_eq!((proposal.unmatched.len(), proposal.left.len()), (0, 0), "{}", proposal.text);
}

#[test]
fn a_step_that_the_candidate_lacks_is_missing_and_no_other() {
    let golden = written(RIGHT, decoder);
    let candidate = written(How { flow: false, ..RIGHT }, |run| {
        decoder(run);
        run.forget_after(2);
    });
    let report = compared(&golden, &candidate);
    let missing: Vec<u64> = report.not_recorded().map(|entry| entry.entry.step).collect();
    assert_eq!(missing, [[3; 10], [4; 10]].concat());
    let Some(Divergence::Entry(first)) = report.first_divergence() else { panic!() };
    assert_eq!(report.entries[first].entry.step, 3);
}
