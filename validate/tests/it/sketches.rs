//! Sketches: made by the program, and compared with each other and with dumps in full.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use golden::{Dtype, Dump, NewEntry, Role};
use insta::assert_snapshot;
use serde_json::Value;
use validate::metric::Measurement;
use validate::origin::OriginKind;
use validate::tolerance::{Failure, Verdict};
use validate::{DiffOptions, DiffReport, Divergence, Error, NameMap, Noise, Policy, report};

use crate::dumps::{Candidate, bundled};

const NAME: &str = "shapes-describe-bfloat16";
const FLOATS: &str = "shapes-describe-float32";

/// Runs `nvl-validate sketch`.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_nvl-validate")).arg("sketch").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The sketches of a dump.
struct Sketched {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Sketched {
    fn of(dump: &Path, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sketches");
        let arguments = [&[dump.to_str().unwrap(), path.to_str().unwrap()], options].concat();
        assert_eq!(run(&arguments), (0, String::new(), String::new()));
        Sketched { _folder: folder, path }
    }

    fn open(&self) -> Dump {
        Dump::open(&self.path).unwrap()
    }
}

fn diff(golden: &Dump, candidate: &Dump) -> DiffReport {
    validate::diff(golden, candidate, &DiffOptions::new(&Policy::default())).unwrap()
}

fn measurement<'a>(report: &'a DiffReport, site: &str) -> &'a Measurement {
    report.entries.iter().find(|entry| entry.entry.name == site).unwrap().measurement.as_ref().unwrap()
}

fn faulty() -> Candidate {
    Candidate::of(NAME, |tensor| {
        if tensor.name.starts_with("vision_model.radio_model.model.blocks.2.") {
            tensor.map(|_, value| 1.3 * value);
        }
        true
    })
}

#[test]
fn a_dump_of_sketches_is_small_and_says_what_the_dump_in_full_says() {
    let whole = Dump::open(bundled(NAME)).unwrap();
    let sketched = Sketched::of(whole.path(), &["--seed", "12"]);
    let sketches = sketched.open();
    assert_eq!(sketches.manifest().head(), whole.manifest().head());
    for (sketch, entry) in sketches.entries().iter().zip(whole.entries()) {
        assert_eq!(
            (sketch.order, &sketch.name, &sketch.module, &sketch.shape, &sketch.sha256),
            (entry.order, &entry.name, &entry.module, &entry.shape, &entry.sha256)
        );
        assert_eq!((sketch.role, sketch.dtype), (entry.role, entry.dtype));
        // What a replay is given stays whole.
        assert_eq!(sketch.sketch.is_some(), entry.role != Role::Input, "{}", entry.name);
        assert!(sketch.sketch.as_ref().is_none_or(|sketch| sketch.seed == 12));
    }
    assert_eq!(sketches.require("input_ids").unwrap().data(), whole.require("input_ids").unwrap().data());
    let bytes: u64 =
        fs::read_dir(&sketched.path).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    // Of which the pixels are 196,608.
    assert!(bytes < 450_000, "{bytes}");
}

#[test]
fn every_way_of_comparing_a_dump_with_itself_finds_every_bit_equal() {
    let whole = Dump::open(bundled(NAME)).unwrap();
    let sketches = Sketched::of(whole.path(), &[]);
    let sketches = sketches.open();
    for (golden, candidate) in [(&sketches, &whole), (&whole, &sketches), (&sketches, &sketches)] {
        let report = diff(golden, candidate);
        assert!(report.passes());
        assert_eq!(report.summary().bit_equal, 105);
        assert!(report.notes.is_empty(), "nothing is estimated: {:?}", report.notes);
        assert!(report.entries.iter().all(|entry| !entry.measurement.as_ref().unwrap().estimated));
    }
}

#[test]
fn a_fault_is_estimated_alike_from_either_side_and_near_what_it_is() {
    let (whole, fault) = (Dump::open(bundled(NAME)).unwrap(), faulty());
    let fault = Dump::open(fault.path()).unwrap();
    let (golden, candidate) = (Sketched::of(whole.path(), &[]), Sketched::of(fault.path(), &[]));
    let (golden, candidate) = (golden.open(), candidate.open());
    let exact = diff(&whole, &fault);
    let reports = [diff(&golden, &fault), diff(&whole, &candidate), diff(&golden, &candidate)];
    for report in &reports {
        assert_eq!(report.first_divergence(), exact.first_divergence());
        let failing = |report: &DiffReport| {
            report
                .entries
                .iter()
                .filter(|entry| entry.is_failure())
                .map(|entry| entry.entry.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(failing(report), failing(&exact));
        for (found, expected) in report.entries.iter().zip(&exact.entries) {
            let (found, expected) =
                (found.measurement.as_ref().unwrap(), expected.measurement.as_ref().unwrap());
            assert_eq!((found.bit_equal, found.elements), (expected.bit_equal, expected.elements));
            assert_eq!(found.estimated, !expected.bit_equal);
            let (l2, true_l2) = (found.relative_l2, expected.relative_l2);
            let close = l2 == true_l2 || (l2.unwrap() / true_l2.unwrap() - 1.0).abs() < 0.25;
            assert!(close, "{l2:?} for {true_l2:?}");
            if found.estimated {
                assert!((found.cosine.unwrap() - expected.cosine.unwrap()).abs() < 0.02);
                // What sketches do not tell is not told.
                assert_eq!((found.differing, found.max_ulps, found.row_relative_l2), (None, None, None));
                assert!(found.first.is_none() && found.largest.is_none() && found.rows.is_empty());
            }
        }
        assert!(report.findings.is_none(), "no place, no diagnosis");
    }
    let numbers = |report: &DiffReport| {
        report.entries.iter().map(|e| e.measurement.as_ref().and_then(|m| m.relative_l2)).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&reports[0]), numbers(&reports[1]));
    assert_eq!(numbers(&reports[0]), numbers(&reports[2]));
}

#[test]
fn an_error_is_fresh_where_the_inputs_are_equal_and_unknown_where_they_are_not() {
    let sketches = Sketched::of(&bundled(NAME), &[]);
    let fault = faulty();
    let report = diff(&sketches.open(), &Dump::open(fault.path()).unwrap());
    let Some(Divergence::Entry(first)) = report.first_divergence() else { panic!() };
    assert_eq!(report.entries[first].entry.name, "vision_model.radio_model.model.blocks.2.norm1");
    assert_eq!(report.entries[first].origin.kind, OriginKind::Fresh);
    let excess = report.entries[first].origin.excess.unwrap();
    assert!(excess.found > excess.limit && excess.row.is_none(), "{excess:?}");
    for entry in &report.entries[first + 1..] {
        let known = entry.is_bit_equal()
            || entry.origin.inputs.iter().all(|&input| report.entries[input].is_bit_equal());
        let kind = entry.origin.kind;
        assert_eq!(kind == OriginKind::Unknown, !known, "{}: {kind:?}", entry.entry.name);
    }
}

#[test]
fn rounding_is_not_taken_for_an_error() {
    // Every number one unit in the last place off: as large as a single rounding is.
    let candidate = Candidate::changing(FLOATS, "mlp1.0", |tensor| {
        tensor.map(|index, value| if index % 2 == 0 { f64::from((value as f32).next_up()) } else { value });
    });
    let sketches = Sketched::of(&bundled(FLOATS), &[]);
    let report = diff(&sketches.open(), &Dump::open(candidate.path()).unwrap());
    let entry = report.entries.iter().find(|entry| entry.entry.name == "mlp1.0").unwrap();
    assert_eq!((&entry.verdict, entry.origin.kind), (&Verdict::Pass, OriginKind::Rounding));
    assert!((1e-9..1e-7).contains(&entry.measurement.as_ref().unwrap().relative_l2.unwrap()));
}

#[test]
fn another_id_is_a_failure_to_the_bit() {
    let candidate = Candidate::changing(NAME, "input_ids", |tensor| tensor.set(3, 7.0));
    let (golden, sketched) = (Sketched::of(&bundled(NAME), &[]), Sketched::of(&candidate.path(), &[]));
    for candidate in [Dump::open(candidate.path()).unwrap(), sketched.open()] {
        let report = diff(&golden.open(), &candidate);
        let found = measurement(&report, "input_ids");
        assert!(!found.estimated, "ids are kept whole");
        assert_eq!((found.differing, found.first.as_ref().unwrap().index.clone()), (Some(1), vec![0, 3]));
    }
}

#[test]
fn whole_numbers_that_are_sketched_are_equal_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let dump = |name: &str, last: u8| {
        let mut writer = golden::DumpWriter::create(folder.path().join(name)).unwrap();
        let mut bytes = vec![1; 70_000];
        bytes[69_999] = last;
        writer
            .push_entry(NewEntry::new("mask", Role::Activation, ""), Dtype::Bool, &[70_000], &bytes, Some(0))
            .unwrap();
        writer
            .finish(golden::ManifestHead::new(golden::manifest::Producer::new("a test", "float32")))
            .unwrap();
        Dump::open(folder.path().join(name)).unwrap()
    };
    let (golden, same, other) = (dump("golden", 1), dump("same", 1), dump("other", 0));
    assert!(diff(&golden, &same).passes());
    let report = diff(&golden, &other);
    let unequal = Failure::Unequal { differing: None, elements: 70_000 };
    assert_eq!(report.entries[0].verdict, Verdict::Fail(unequal));
    let text = report::format("table").unwrap().render(&report, report::Options::default());
    assert!(text.contains("expected all 70000 elements equal, found another SHA-256"), "{text}");
}

#[test]
fn nan_in_another_place_is_a_failure_and_in_the_same_place_is_none() {
    let spoilt = |at: usize| Candidate::changing(FLOATS, "mlp1.3", move |tensor| tensor.set(at, f64::NAN));
    let (golden, same, other) = (spoilt(5), spoilt(5), spoilt(6));
    let moved = Candidate::changing(FLOATS, "mlp1.3", |tensor| {
        tensor.set(5, f64::NAN);
        tensor.set(6, 0.0);
    });
    let golden = Sketched::of(&golden.path(), &[]);
    let verdict = |candidate: &Candidate| {
        let report = diff(&golden.open(), &Dump::open(candidate.path()).unwrap());
        let entry = report.entries.into_iter().find(|entry| entry.entry.name == "mlp1.3").unwrap();
        (entry.verdict, entry.measurement.unwrap())
    };
    assert!(verdict(&same).1.bit_equal);
    let (failure, found) = verdict(&other);
    assert_eq!(failure, Verdict::Fail(Failure::NonFinite { mismatches: None }));
    assert_eq!((found.golden.nan, found.candidate.nan), (1, 1));
    let (failure, found) = verdict(&moved);
    assert!(!matches!(failure, Verdict::Fail(Failure::NonFinite { .. })), "{failure:?}");
    assert!(found.relative_l2.unwrap() > 0.0);
}

#[test]
fn another_shape_or_dtype_is_a_failure_as_it_is_in_full() {
    let golden = Sketched::of(&bundled(FLOATS), &[]);
    let reshaped = Candidate::of(FLOATS, |tensor| {
        if tensor.name == "mlp1.0" {
            tensor.shape.insert(0, 1);
        }
        true
    });
    let report = diff(&golden.open(), &Dump::open(reshaped.path()).unwrap());
    let failing: Vec<_> = report.entries.iter().filter(|entry| entry.is_failure()).collect();
    assert!(matches!(failing[..], [entry] if matches!(entry.verdict, Verdict::Fail(Failure::Shape { .. }))));
    let report = diff(&golden.open(), &Dump::open(bundled(NAME)).unwrap());
    assert!(matches!(
        report.entries.iter().find(|e| e.entry.name == "mlp1.0").unwrap().verdict,
        Verdict::Fail(Failure::Dtype { .. })
    ));
}

#[test]
fn the_noise_of_right_runs_is_estimated_too() {
    let golden = Sketched::of(&bundled(FLOATS), &[]);
    let run = Dump::open(bundled(NAME)).unwrap();
    let golden = golden.open();
    let noise = Noise::measure(&golden, std::slice::from_ref(&run), 3.0, true, &|_| ()).unwrap();
    let level = noise.level("mlp1.3").unwrap();
    assert_eq!((level.row_relative_l2, level.dtypes.as_slice()), (None, &[Dtype::BFloat16][..]));
    assert!((1e-4..1e-1).contains(&level.relative_l2));
    let report = validate::diff(
        &golden,
        &run,
        &DiffOptions { noise: Some(&noise), ..DiffOptions::new(&Policy::default()) },
    )
    .unwrap();
    assert!(report.passes(), "{:?}", report.first_divergence());
    let policy = validate::calibrate(&golden, std::slice::from_ref(&run), &noise);
    assert!(policy.contains("\nrelative_l2 = ") && !policy.contains("row_relative_l2"), "{policy}");
}

#[test]
fn sketches_of_other_seeds_are_refused_unless_nothing_differs() {
    let fault = faulty();
    let golden = Sketched::of(&bundled(NAME), &["--seed", "1"]);
    let other = Sketched::of(&fault.path(), &["--seed", "2"]);
    let error =
        validate::diff(&golden.open(), &other.open(), &DiffOptions::new(&Policy::default())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "entry `vision_model.radio_model.model.blocks.2.norm1`: expected a sketch of seed 1, as the golden dump has, \
         found one of seed 2"
    );
    assert!(
        matches!(&error, Error::Measure(error) if matches!(**error, measure::Error::Seeds { expected: 1, found: 2, .. }))
            && error.hint().is_some()
    );
    let same = Sketched::of(&bundled(NAME), &["--seed", "2"]);
    assert!(diff(&golden.open(), &same.open()).passes());
}

#[test]
fn a_map_of_names_leads_to_sketches_and_refuses_to_lay_those_of_a_candidate_out_anew() {
    const SITE: &str = "vision_model.radio_model.model.blocks.2.norm1";
    let golden = Sketched::of(&bundled(FLOATS), &[]);
    let candidate = Candidate::of(FLOATS, |tensor| {
        if tensor.name == SITE {
            tensor.name = "theirs".to_owned();
            tensor.map(|_, value| 1.3 * value);
        }
        true
    });
    let compared = |steps: &str| {
        let map = format!("version = 1\n[[rules]]\ncandidate = 'theirs'\ngolden = \"{SITE}\"\n{steps}");
        let map = NameMap::parse("map.toml", &map).unwrap();
        let other = Dump::open(candidate.path()).unwrap();
        validate::diff(
            &golden.open(),
            &other,
            &DiffOptions { names: Some(&map), ..DiffOptions::new(&Policy::default()) },
        )
    };
    let report = compared("").unwrap();
    let found = measurement(&report, SITE);
    let estimate = found.relative_l2.unwrap();
    assert!(found.estimated && (estimate / 0.3 - 1.0).abs() < 0.25, "{estimate}");
    assert_eq!(report.entries.iter().filter(|entry| entry.is_failure()).count(), 1);

    // A candidate in full is sketched in the golden layout.
    let report = compared("steps = [{ squeeze = 0 }, { unsqueeze = 0 }]").unwrap();
    assert_eq!(measurement(&report, SITE).relative_l2, Some(estimate));

    // Of a part of the golden tensor, or of the candidate's sketch in another layout, nothing can be told.
    let refused = format!(
        "name map `map.toml`: rules[0]: expected tensors in full for the layout of `{SITE}`, found a sketch"
    );
    let part = "steps = [{ last_tokens = 8 }]\ngolden_steps = [{ last_tokens = 8 }]";
    assert_eq!(compared(part).unwrap_err().to_string(), refused);
    let sketched = Sketched::of(&candidate.path(), &[]);
    let map = format!(
        "version = 1\n[[rules]]\ncandidate = 'theirs'\ngolden = \"{SITE}\"\nsteps = [{{ transpose = [1, 2] }}, {{ transpose = [1, 2] }}]"
    );
    let map = NameMap::parse("map.toml", &map).unwrap();
    let policy = Policy::default();
    let error = validate::diff(
        &golden.open(),
        &sketched.open(),
        &DiffOptions { names: Some(&map), ..DiffOptions::new(&policy) },
    )
    .unwrap_err();
    assert_eq!(error.to_string(), refused);
}

#[test]
fn a_sketched_golden_dump_judges_what_an_engine_recorded_in_full() {
    let golden = Sketched::of(&bundled(NAME), &[]);
    let candidate = Dump::open(bundled("../ports/vllm-nemotron-bfloat16")).unwrap();
    let map = NameMap::read("vllm-nemotron").unwrap();
    let policy = Policy::default();
    let by = |golden: &Dump| {
        validate::diff(golden, &candidate, &DiffOptions { names: Some(&map), ..DiffOptions::new(&policy) })
            .unwrap()
    };
    let (estimated, full) = (by(&golden.open()), by(&Dump::open(bundled(NAME)).unwrap()));
    let compared = |report: &DiffReport| report.entries.iter().filter(|e| e.measurement.is_some()).count();
    assert_eq!((compared(&estimated), compared(&full)), (99, 99));
    for (estimated, full) in estimated.entries.iter().zip(&full.entries) {
        let (Some(estimated), Some(full)) = (&estimated.measurement, &full.measurement) else { continue };
        assert_eq!(estimated.bit_equal, full.bit_equal);
        let (Some(estimated), Some(full)) = (estimated.relative_l2, full.relative_l2) else { continue };
        assert!((estimated - full).abs() <= 0.35 * full, "{estimated} for {full}");
    }
    let first = estimated
        .entries
        .iter()
        .find(|entry| entry.measurement.is_some() && !entry.measurement.as_ref().unwrap().bit_equal);
    assert_eq!(first.unwrap().entry.name, "vision_model.radio_model.model.patch_generator.cls_token");
}

#[test]
fn every_format_marks_estimates() {
    let golden = Sketched::of(&bundled(NAME), &[]);
    let fault = faulty();
    let report = diff(&golden.open(), &Dump::open(fault.path()).unwrap());
    let render = |name| report::format(name).unwrap().render(&report, report::Options::default());
    let table = render("table").replace(golden.path.to_str().unwrap(), "golden");
    let table = table.replace(fault.path().to_str().unwrap(), "candidate");
    assert_snapshot!(table, @r#"
    golden     golden
               Hugging Face modeling.py, bfloat16, cpu
    candidate  candidate
               Hugging Face modeling.py, bfloat16, cpu
    note: 9 entries are compared by sketches: numbers with a ~ are estimates, within
          25 % in 95 of 100 cases

    first divergence: vision_model.radio_model.model.blocks.2.norm1 (LayerNorm,
      order 27)
      relative L2: expected at most 2.0e-2, found 2.9e-1
      estimated from sketches: relative L2 2.9e-1, cosine 1; where in the tensor,
        they do not tell
      made here: its input vision_model.radio_model.model.blocks.1 is bit-equal
      last agreement: vision_model.radio_model.model.blocks.1 (Block, order 26),
        bit-equal

    vision…    vision_model.radio_model.model.blocks

     order  site                                   rel L2  max abs     ulps  verdict
      0-26  27 sites, all bit-equal                     0        0        0  equal
        27  vision….2.norm1                       ~2.9e-1        -        -  FRESH
        28  vision….2.attn.qkv                    ~3.0e-1        -        -  FAIL
        29  vision….2.attn.proj                   ~3.0e-1        -        -  FAIL
        30  vision….2.attn                        ~3.0e-1        -        -  FAIL
        31  vision….2.norm2                       ~3.0e-1        -        -  FAIL
        32  vision….2.mlp.fc1                     ~3.1e-1        -        -  FAIL
        33  vision….2.mlp.act                     ~3.1e-1        -        -  FAIL
        34  vision….2.mlp.fc2                     ~3.3e-1        -        -  FAIL
        35  vision….2.mlp                         ~3.3e-1        -        -  FAIL
    36-104  69 sites, all bit-equal                     0        0        0  equal

    105 entries: 96 pass, 96 bit-equal, 9 fail, 1 fresh
    worst relative L2: ~3.3e-1 at vision_model.radio_model.model.blocks.2.mlp.fc2
    prompt: equal
    generated ids: equal
    text: equal
    verdict: FAIL
    "#);
    let json: Value = serde_json::from_str(&render("json")).unwrap();
    let entry = &json["entries"][27]["measurement"];
    assert_eq!(entry["estimated"], true);
    for absent in ["differing", "max_abs", "max_ulps", "row_relative_l2", "first", "largest"] {
        assert!(entry[absent].is_null(), "{absent}: {}", entry[absent]);
    }
    assert!(json["notes"][0].as_str().unwrap().contains("compared by sketches"));
    assert_eq!(json["entries"][0]["measurement"]["estimated"], false);
    assert!(render("junit").contains("estimated from sketches"));
    assert!(render("markdown").contains(r"| \~3"), "{}", render("markdown"));
    assert!(render("html").contains("<td>~3"));
    assert!(render("html").contains(r#""estimated":true"#));
}
