//! Errors that a module made, told from those that it passed on by the data flow that a run recorded.

use std::collections::BTreeMap;
use std::fs;

use golden::{Dtype, Dump};
use half::bf16;
use serde_json::{Value, json};
use validate::origin::{DataFlow, Origin, Step, flow_of_dump};
use validate::{DiffOptions, DiffReport, Policy};

use crate::dumps::{Candidate, bundled, first_named};
use crate::synthetic::{How, compared, decoder, made, two_towers, written, written_without};

const DTYPES: [Dtype; 2] = [Dtype::Float32, Dtype::BFloat16];

const BUNDLED: [&str; 5] = [
    "shapes-describe-bfloat16",
    "shapes-describe-float32",
    "shapes-history-bfloat16",
    "shapes-text-float32",
    "shapes-wide-bfloat16",
];

fn right(dtype: Dtype) -> How<'static> {
    How { dtype, otherwise: false, wrong: None, row: None, flow: true }
}

#[test]
fn a_planted_error_is_named_where_it_was_made_whatever_the_names_tell() {
    for dtype in DTYPES {
        for model in [two_towers, decoder] {
            let golden = written(right(dtype), model);
            assert!(golden.computed.len() > 12);
            for site in &golden.computed {
                for otherwise in [false, true] {
                    let how = How { otherwise, wrong: Some(site), flow: false, ..right(dtype) };
                    let report = compared(&golden, &written(how, model));
                    assert_eq!(report.data_flow, DataFlow::Golden);
                    assert_eq!(made(&report), [site.as_str()], "{dtype}, {otherwise}");
                }
            }
        }
    }
}

#[test]
fn a_right_run_that_rounds_elsewhere_makes_no_error() {
    for dtype in DTYPES {
        for model in [two_towers, decoder] {
            let golden = written(right(dtype), model);
            let other = written(How { otherwise: true, flow: false, ..right(dtype) }, model);
            let report = compared(&golden, &other);
            assert!(report.passes(), "{dtype}: {:?}", made(&report));
            assert_eq!(made(&report), [""; 0]);
            assert!(report.summary().bit_equal < report.entries.len());
        }
    }
}

#[test]
fn the_candidates_data_flow_tells_where_the_golden_run_has_none() {
    let golden = written(How { flow: false, ..right(Dtype::Float32) }, two_towers);
    for site in &golden.computed {
        let wrong = How { otherwise: true, wrong: Some(site), ..right(Dtype::Float32) };
        let report = compared(&golden, &written(wrong, two_towers));
        assert_eq!(report.data_flow, DataFlow::Candidate);
        assert_eq!(made(&report), [site.as_str()]);
    }
    // Without either, names that tell nothing leave errors that were passed on as made.
    let wrong = How { otherwise: true, wrong: Some("s02"), flow: false, ..right(Dtype::Float32) };
    let report = compared(&golden, &written(wrong, two_towers));
    assert_eq!(report.data_flow, DataFlow::Names);
    assert_ne!(made(&report), ["s02"]);
}

#[test]
fn where_the_candidate_lacks_a_site_its_inputs_stand_for_it() {
    let golden = written(right(Dtype::BFloat16), two_towers);
    let left_out = ["s05", "s07", "s12", "s16"];
    for site in golden.computed.iter().filter(|site| !left_out.contains(&site.as_str())) {
        let how = How { otherwise: true, wrong: Some(site), flow: false, ..right(Dtype::BFloat16) };
        let report = compared(&golden, &written_without(how, two_towers, &left_out));
        assert_eq!(made(&report), [site.as_str()]);
    }
    let how = How { otherwise: true, flow: false, ..right(Dtype::BFloat16) };
    let report = compared(&golden, &written_without(how, two_towers, &left_out));
    assert_eq!(made(&report), [""; 0]);
    let of = |site: &str| &report.entries.iter().find(|entry| entry.entry.name == site).unwrap().origin;
    let inputs = |site: &str| -> Vec<&str> {
        of(site).inputs.iter().map(|&input| report.entries[input].entry.name.as_str()).collect()
    };
    // An activation and a projection, and the sum behind them.
    assert_eq!((of("s08").step, inputs("s08")), (Step::Chain, vec!["s02", "s04"]));
    assert_eq!((of("s17").step, inputs("s17")), (Step::Chain, vec!["s14", "s15"]));
    assert_eq!((of("s13").step, inputs("s13")), (Step::Several, vec!["s01", "s11"]));
}

/// A copy of a bundled dump that has its family's data flow written down, as a recorder would.
fn with_flow_of_family(name: &str) -> Candidate {
    let copy = Candidate::copied(name);
    let dump = Dump::open(bundled(name)).unwrap();
    let (source, flows) = flow_of_dump(dump.entries(), &vec![true; dump.entries().len()]);
    assert_eq!(source, DataFlow::Family);
    let mut manifest = copy.manifest();
    manifest["version"] = 2.into();
    for (index, flow) in flows.iter().enumerate() {
        let entry = &mut manifest["entries"][index];
        let inputs: BTreeMap<u64, Value> =
            flow.inputs.iter().map(|&(input, rows)| (dump.entries()[input].order, json!(rows))).collect();
        entry["inputs"] = inputs.keys().rev().copied().collect::<Vec<u64>>().into();
        if !inputs.is_empty() {
            entry["input_rows"] = inputs.into_values().rev().collect::<Vec<Value>>().into();
        }
        let operations = match flow.step {
            Step::Input => json!({}),
            Step::Single => json!({"aten.linear": 1}),
            Step::Activation => json!({"aten.gelu": 1}),
            Step::Several => match dump.entries()[index].module.as_str() {
                class if class.contains("RMS") => json!({"aten.rms_norm": 1}),
                class if class.contains("Norm") => json!({"aten.layer_norm": 1}),
                _ => json!({"aten.add": 2}),
            },
            Step::Attention => json!({"aten.scaled_dot_product_attention": 1, "aten.linear": 1}),
            Step::Chain | Step::Unknown => json!({"mine.something": 1}),
        };
        entry["operations"] = operations;
    }
    fs::write(copy.path().join("manifest.json"), manifest.to_string()).unwrap();
    copy
}

/// All origins of a comparison, by name.
fn origins(report: &DiffReport) -> Vec<(&str, &Origin)> {
    report.entries.iter().map(|entry| (entry.entry.name.as_str(), &entry.origin)).collect()
}

#[test]
fn the_recorded_flow_of_a_known_model_tells_what_its_family_tells() {
    for name in BUNDLED {
        let recorded = with_flow_of_family(name);
        let wrong = Candidate::of(name, |tensor| {
            // An error that all behind it inherit, each with some noise of its own.
            let noise = |index: usize| 1.0 + 1e-3 * (index as f64).sin();
            match tensor.name.as_str() {
                "language_model.model.layers.1.self_attn.k_proj" => tensor.map(|_, value| 1.5 * value),
                _ if tensor.dtype == Dtype::Int64 => (),
                _ => tensor.map(|index, value| value * noise(index)),
            }
            true
        });
        let rounded = Candidate::of(name, |tensor| {
            if tensor.dtype == Dtype::Float32 && tensor.name != "step_logits" {
                tensor.map(|_, value| bf16::from_f64(value).to_f64());
            }
            true
        });
        let policy = Policy::default();
        let options = DiffOptions { verify: false, ..DiffOptions::new(&policy) };
        for candidate in [&wrong, &rounded] {
            let candidate = Dump::open(candidate.path()).unwrap();
            let report = |golden: &Dump| validate::diff(golden, &candidate, &options).unwrap();
            let by_family = report(&Dump::open(bundled(name)).unwrap());
            let by_flow = report(&Dump::open(recorded.path()).unwrap());
            assert_eq!((by_family.data_flow, by_flow.data_flow), (DataFlow::Family, DataFlow::Golden));
            assert_eq!(origins(&by_family), origins(&by_flow), "{name}");
            assert_eq!(first_named(&by_family), first_named(&by_flow));
            assert_eq!(by_family.findings, by_flow.findings);
        }
    }
}
