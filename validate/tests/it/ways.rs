//! Runs that are right and computed in another way: another attention, or pixels that were rounded first.

use golden::{Dtype, Dump, DumpWriter, Role};
use half::bf16;
use serde_json::Value;
use validate::diagnosis::DiagnosisKind;
use validate::report::{Options, format};
use validate::tolerance::{Preset, Verdict};
use validate::{DiffOptions, DiffReport, Policy};

use crate::dumps::{Candidate, Tensor, bundled, compare, compare_by, first_named};

const B16: &str = "shapes-describe-bfloat16";
const F32: &str = "shapes-describe-float32";
const CONDITIONER: &str = "vision_model.radio_model.input_conditioner";
const SELF_ATTN: &str = ".self_attn";

/// CLIP's mean and standard deviation.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

fn text(report: &DiffReport, name: &str, options: Options) -> String {
    format(name).unwrap().render(report, options)
}

/// The table in one line, however it was wrapped.
fn table(report: &DiffReport) -> String {
    text(report, "table", Options::default()).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn exact() -> Policy {
    let mut policy = Policy::default();
    policy.preset = Some(Preset::Exact);
    policy
}

/// A golden with weights behind each attention of the decoder, as a run with eager attention has them.
fn with_attn_weights(name: &str) -> Candidate {
    let folder = tempfile::tempdir().unwrap();
    let dump = Dump::open(bundled(name)).unwrap();
    let mut writer = DumpWriter::create(folder.path().join("candidate")).unwrap();
    for (entry, view) in dump.tensors() {
        writer.push(&entry.name, entry.role, &entry.module, entry.dtype, view.shape(), view.data()).unwrap();
        if entry.name.ends_with(SELF_ATTN) {
            let name = format!("{}.attn_weights", entry.name);
            let module = format!("{} attn_weights", entry.module);
            writer.push(&name, Role::Activation, &module, Dtype::Float32, &[1, 1, 2, 2], &[0; 16]).unwrap();
        }
    }
    writer.finish(dump.manifest().head()).unwrap();
    Candidate { folder }
}

#[test]
fn weights_that_one_attention_does_not_return_are_told_in_a_line_and_not_judged() {
    let (eager, sdpa) = (with_attn_weights(B16), Candidate::copied(B16));
    for (golden, candidate, side) in [(&eager, &sdpa, "golden run"), (&sdpa, &eager, "candidate")] {
        let (from, to) = (Dump::open(golden.path()).unwrap(), Dump::open(candidate.path()).unwrap());
        let report = validate::diff(&from, &to, &DiffOptions::new(&exact())).unwrap();
        assert!(report.passes());
        let ignored = report.entries.iter().filter(|entry| matches!(entry.verdict, Verdict::Ignored { .. }));
        assert_eq!(ignored.count(), 4);
        assert_eq!(report.not_recorded().count(), 0);
        let shown = table(&report);
        let note = format!(
            "note: 4 `attn_weights` of the {side} only, which not every attention returns: not judged"
        );
        assert!(shown.contains(&note), "{shown}");
        assert!(shown.contains("0-104 105 sites, all bit-equal") || shown.contains("109 entries"), "{shown}");
        assert!(!shown.contains("MISSING") && !shown.contains("EXTRA"), "{shown}");
        // The line is all: the table has no row of them, unless every entry is asked for.
        assert!(!shown.contains("ignored 0") && shown.matches("attn_weights").count() == 1, "{shown}");
        let all = text(&report, "table", Options { all: true, colour: false });
        assert_eq!(
            all.lines().filter(|line| line.contains("attn_weights ") && line.ends_with("ignored")).count(),
            4,
            "{all}"
        );
        let json: Value = serde_json::from_str(&text(&report, "json", Options::default())).unwrap();
        let weights = json["entries"].as_array().unwrap().iter().filter(|entry| {
            entry["name"].as_str().unwrap().ends_with("attn_weights") && entry["verdict"] == "ignored"
        });
        assert_eq!(weights.count(), 4);
    }
}

#[test]
fn weights_that_both_have_are_judged() {
    let golden = with_attn_weights(B16);
    let dump = Dump::open(golden.path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("candidate");
    let mut writer = DumpWriter::create(&out).unwrap();
    for (entry, view) in dump.tensors() {
        let mut data = view.data().to_vec();
        if entry.name.ends_with("layers.2.self_attn.attn_weights") {
            data[..4].copy_from_slice(&1.0_f32.to_le_bytes());
        }
        writer.push(&entry.name, entry.role, &entry.module, entry.dtype, view.shape(), &data).unwrap();
    }
    writer.finish(dump.manifest().head()).unwrap();
    let report =
        validate::diff(&dump, &Dump::open(out).unwrap(), &DiffOptions::new(&Policy::default())).unwrap();
    assert_eq!(first_named(&report), "language_model.model.layers.2.self_attn.attn_weights");
}

#[test]
fn another_site_that_one_side_lacks_is_missing_as_ever() {
    let candidate = Candidate::of(B16, |tensor| !tensor.name.ends_with("layers.1.self_attn"));
    let report = compare(B16, &candidate);
    assert!(!report.passes());
    assert!(table(&report).contains("MISSING"));
}

fn bfloat16(value: f32) -> f32 {
    bf16::from_f32(value).to_f32()
}

/// Sets a conditioner's output to what it gives for pixels that are rounded first, or are not; with statistics that are.
fn condition(pixels: &[f64], rounds: bool, statistics_are_rounded: bool, tensor: &mut Tensor) {
    let stored = |values: [f32; 3]| if statistics_are_rounded { values.map(bfloat16) } else { values };
    let (mean, deviation) = (stored(MEAN), stored(DEVIATION));
    let per_channel = tensor.shape[2] * tensor.shape[3];
    tensor.map(|index, _| {
        let channel = index / per_channel % 3;
        let pixel = pixels[index] as f32;
        let pixel = if rounds { bfloat16(pixel) } else { pixel };
        f64::from((pixel - mean[channel]) / deviation[channel])
    });
}

fn pixels(name: &str) -> Vec<f64> {
    Dump::open(bundled(name)).unwrap().get("pixel_values").unwrap().to_f64_vec()
}

#[test]
fn pixels_that_were_rounded_first_are_told_from_those_that_were_not() {
    // Mean and deviation may be stored in bfloat16.
    for stored_rounded in [true, false] {
        let pixels = pixels(B16);
        let dump = |rounds: bool| {
            let change = |tensor: &mut Tensor| condition(&pixels, rounds, stored_rounded, tensor);
            let candidate = Candidate::changing(B16, CONDITIONER, change);
            (Dump::open(candidate.path()).unwrap(), candidate.folder)
        };
        let ((whole, _whole), (rounded, _rounded)) = (dump(false), dump(true));
        told_apart(&whole, &rounded, ["float32", "bfloat16"], "the pixels are rounded to bfloat16 before");
        told_apart(&rounded, &whole, ["bfloat16", "float32"], "the pixels are not rounded before");
    }
}

fn told_apart(golden: &Dump, candidate: &Dump, [from, to]: [&str; 2], says: &str) {
    // Within the limits of bfloat16 it is no fault, and said all the same.
    let report = validate::diff(golden, candidate, &DiffOptions::new(&Policy::default())).unwrap();
    assert!(report.passes());
    let note =
        format!("note: `pixel_values` reached the golden run's tower in {from}, the candidate's in {to}");
    let shown = table(&report);
    assert!(shown.contains(&note), "{shown}");

    let report = validate::diff(golden, candidate, &DiffOptions::new(&exact())).unwrap();
    assert_eq!(first_named(&report), CONDITIONER);
    let best = &report.findings.as_ref().unwrap().diagnoses[0];
    assert_eq!(best.kind, DiagnosisKind::PixelRounding);
    assert!(validate::report::explanation(&best.explanation).starts_with(says), "{best:?}");
    assert_eq!(best.explanation.after, 0.0);
}

#[test]
fn pixels_that_were_rounded_in_a_float32_run_are_beyond_its_limits() {
    let pixels = pixels(F32);
    let change = |tensor: &mut Tensor| condition(&pixels, true, true, tensor);
    let report = compare(F32, &Candidate::changing(F32, CONDITIONER, change));
    assert_eq!(first_named(&report), CONDITIONER);
    assert_eq!(report.findings.unwrap().diagnoses[0].kind, DiagnosisKind::PixelRounding);
}

#[test]
fn another_error_of_that_size_is_not_called_rounding() {
    // One step of bfloat16 in every third element, wherever the pixels are.
    let candidate = Candidate::changing(B16, CONDITIONER, |tensor| {
        tensor.map(|index, value| if index % 3 == 0 { value * (1.0 + 1.0 / 128.0) } else { value });
    });
    let report = compare_by(B16, &candidate, &exact());
    assert_eq!(first_named(&report), CONDITIONER);
    let diagnoses = &report.findings.as_ref().unwrap().diagnoses;
    assert!(
        diagnoses.iter().all(|diagnosis| diagnosis.kind != DiagnosisKind::PixelRounding),
        "{diagnoses:?}"
    );
    assert!(!table(&report).contains("reached the golden run's tower"));
}

#[test]
fn what_the_manifests_say_of_the_pixels_is_enough() {
    let candidate = Candidate::with(
        B16,
        |head| head.producer.pixel_values_dtype = Some("bfloat16".to_owned()),
        |entry, _| entry.name != CONDITIONER,
    );
    let golden = Candidate::with(
        B16,
        |head| head.producer.pixel_values_dtype = Some("float32".to_owned()),
        |entry, _| entry.name != CONDITIONER,
    );
    let (golden, candidate) = (Dump::open(golden.path()).unwrap(), Dump::open(candidate.path()).unwrap());
    let note = |golden, candidate| {
        table(&validate::diff(golden, candidate, &DiffOptions::new(&exact())).unwrap())
            .contains("reached the golden run's tower in float32, the candidate's in bfloat16")
    };
    assert!(note(&golden, &candidate));
    assert!(!note(&golden, &golden));
}
