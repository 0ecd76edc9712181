//! Limits from right runs.

use std::fs;

use golden::{Dtype, Dump};
use half::bf16;
use validate::tolerance::Tolerance;
use validate::{DiffOptions, DiffReport, Noise, Note, Policy};

use crate::dumps::{Candidate, bundled, compare_by, failing, first_named};

const BF16: &str = "shapes-describe-bfloat16";
const F32: &str = "shapes-describe-float32";

/// The float32 run of the same request, rounded to the dtypes of the bfloat16 run.
fn right() -> Candidate {
    spoilt("", 1.0)
}

/// The same with one site scaled.
fn spoilt(site: &str, factor: f64) -> Candidate {
    let other = Dump::open(bundled(F32)).unwrap();
    Candidate::of(BF16, |tensor| {
        if tensor.dtype == Dtype::BFloat16 {
            let scale = if tensor.name == site { factor } else { 1.0 };
            let values = other.get(&tensor.name).unwrap().to_f64_vec();
            let bytes = values.into_iter().flat_map(|value| bf16::from_f64(scale * value).to_le_bytes());
            tensor.data = bytes.collect();
        }
        true
    })
}

fn diff(golden: &str, candidate: &Dump, runs: &[Dump], factor: f64) -> DiffReport {
    let golden = Dump::open(bundled(golden)).unwrap();
    let noise = Noise::measure(&golden, runs, factor, true, &|_| ()).unwrap();
    validate::diff(
        &golden,
        candidate,
        &DiffOptions { noise: Some(&noise), ..DiffOptions::new(&Policy::default()) },
    )
    .unwrap()
}

#[test]
fn a_run_is_within_its_own_noise() {
    let right = right();
    let right = Dump::open(right.path()).unwrap();
    let report = diff(BF16, &right, std::slice::from_ref(&right), 1.0);
    assert!(report.passes(), "{:?}", failing(&report));
    let levels = report.entries.iter().filter(|entry| entry.noise.is_some()).count();
    assert_eq!(levels, 104, "all but the token ids");
}

#[test]
fn noise_narrows_the_limits_where_right_runs_are_near() {
    let (noise, site) = (right(), "vision_model.radio_model.model.blocks.0.mlp.fc1");
    let noise = Dump::open(noise.path()).unwrap();
    // 1.2e-2 is within the limit of 2e-2, and 3 times the noise of 3.4e-3 is not.
    let candidate = spoilt(site, 1.012);
    let candidate = Dump::open(candidate.path()).unwrap();
    let plain = validate::diff(
        &Dump::open(bundled(BF16)).unwrap(),
        &candidate,
        &DiffOptions::new(&Policy::default()),
    );
    assert!(plain.unwrap().passes());
    assert_eq!(first_named(&diff(BF16, &candidate, &[noise], 3.0)), site);
}

#[test]
fn a_run_in_another_dtype_is_judged_by_a_right_one_in_it() {
    // The golden run is in float32, the engine's in bfloat16.
    let engine = Dump::open(bundled(BF16)).unwrap();
    let plain =
        validate::diff(&Dump::open(bundled(F32)).unwrap(), &engine, &DiffOptions::new(&Policy::default()));
    assert!(!plain.unwrap().passes());
    let report = diff(F32, &engine, &[Dump::open(bundled(BF16)).unwrap()], 1.5);
    assert!(report.passes(), "{:?}", failing(&report));
    assert!(report.notes.contains(&Note::AllowedDtypes { count: 102 }), "{:?}", report.notes);

    let site = "mlp1.1";
    let wrong = Candidate::changing(BF16, site, |tensor| tensor.map(|_, value| 1.05 * value));
    let wrong = Dump::open(wrong.path()).unwrap();
    assert_eq!(first_named(&diff(F32, &wrong, &[engine], 1.5)), site);
}

#[test]
fn a_calibrated_policy_passes_the_runs_that_it_is_from_and_no_wrong_one() {
    let right = right();
    let golden = Dump::open(bundled(BF16)).unwrap();
    let runs = [Dump::open(right.path()).unwrap()];
    let noise = Noise::measure(&golden, &runs, 1.5, true, &|_| ()).unwrap();
    let text = validate::calibrate(&golden, &runs, &noise);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &text).unwrap();
    let policy = Policy::read(file.path()).unwrap();
    let report = compare_by(BF16, &right, &policy);
    assert!(report.passes(), "{:?}", failing(&report));
    // Every rule matches something; and the pixels are those of a float32 run, whose caller need not round them.
    assert!(report.notes.iter().all(|note| matches!(note, Note::PixelDtypes { .. })), "{:?}", report.notes);
    // A layer's glob matches what is inside it as well, and must not decide there.
    let site = "language_model.model.layers.1.input_layernorm";
    let level = noise.level(site).unwrap().relative_l2;
    let entry = report.entries.iter().find(|entry| entry.entry.name == site).unwrap();
    let Tolerance::Bounds(bounds) = &entry.tolerance else { panic!() };
    let limit = bounds.relative_l2.unwrap();
    assert!((1.5 * level..2e-2).contains(&limit), "{limit} for {level}");
    let wrong = spoilt(site, 1.015);
    assert_eq!(first_named(&compare_by(BF16, &wrong, &policy)), site);
}

#[test]
fn presets_hold_all_entries_to_one_dtype() {
    let preset = |name: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("version = 1\npreset = \"{name}\"\n")).unwrap();
        Policy::read(file.path()).unwrap()
    };
    let scaled = |name: &str, factor: f64| {
        Candidate::of(name, move |tensor| {
            if tensor.dtype.is_float() && tensor.name != "pixel_values" {
                tensor.map(|_, value| factor * value);
            }
            true
        })
    };
    let near = scaled(F32, 1.000_001);
    assert!(compare_by(F32, &near, &preset("float32")).passes());
    assert!(!compare_by(F32, &near, &preset("exact")).passes());
    // An engine that computes in bfloat16 and records float32.
    let far = scaled(F32, 1.003);
    assert!(!compare_by(F32, &far, &preset("float32")).passes());
    assert!(compare_by(F32, &far, &preset("bfloat16")).passes());
    assert!(!compare_by(BF16, &right(), &preset("float32")).passes());
}
