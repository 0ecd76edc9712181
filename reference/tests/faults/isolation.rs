//! `nvl-reference isolate`: a module at fault is found behind others that are, and none that only passes an error on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use converter::normalized::TorchDtype;
use golden::{Dump, DumpWriter};
use reference::isolate::{in_any_variant, isolate};
use reference::mistakes as bank;
use reference::{Math, NemotronVl};
use serde_json::Value;
use tch::Device;
use tempfile::TempDir;

use crate::edit::Edit;
use crate::mistakes;
use crate::runs::{self, B16, F32, WIDE};

const TOWER: &str = "vision_model.radio_model.model";
const LLAMA: &str = "language_model.model";

/// A run of a golden's request with faults planted.
fn faulty(golden: &str, planted: &[bank::Mistake], math: Math) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("candidate");
    let golden = Dump::open(runs::golden(golden)).unwrap();
    runs::run_with(runs::checkpoint(), &golden, None, math, planted, &out);
    (folder, out)
}

/// The sites at fault, as the library tells them.
fn at_fault(golden: &str, candidate: &Path) -> Vec<String> {
    let golden = Dump::open(runs::golden(golden)).unwrap();
    let dtype = runs::dtype_of(&golden);
    let mut model = NemotronVl::load(runs::checkpoint(), Some(dtype), Device::Cpu, Math::Exact).unwrap();
    model.set_pixel_values_dtype(runs::pixel_values_dtype_of(&golden));
    let candidate = Dump::open(candidate).unwrap();
    let inputs = runs::inputs_of(runs::checkpoint(), &model, &candidate);
    let variants = [Math::Exact, Math::Fast].map(|math| {
        model.set_math(math);
        isolate(&model, &golden, &candidate, &inputs).unwrap()
    });
    let found = in_any_variant(variants.into());
    assert!(found.iter().all(|isolated| isolated.fault.is_some() || isolated.measurement.is_some()));
    found
        .into_iter()
        .filter(|isolated| isolated.fault.is_some())
        .map(|isolated| isolated.entry.name)
        .collect()
}

fn program(golden: &str, candidate: &Path, more: &[&str]) -> Output {
    program_on(runs::checkpoint(), &runs::golden(golden), candidate, more)
}

fn program_on(checkpoint: &Path, golden: &Path, candidate: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nvl-reference"));
    command.args(["isolate", "--model"]).arg(checkpoint).args([golden, candidate]);
    command.args(more).output().unwrap()
}

/// What a program says on stderr, and its exit status.
fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

/// A dump of sketches.
fn sketched(dump: &Path, out: &Path) -> PathBuf {
    let dump = Dump::open(dump).unwrap();
    let mut writer = DumpWriter::create(out).unwrap();
    for entry in dump.entries() {
        writer.push_of(&dump, &entry.name, Some(3)).unwrap();
    }
    writer.finish(dump.manifest().head()).unwrap();
    out.to_owned()
}

#[test]
fn nothing_is_at_fault_in_a_right_run_however_it_is_computed() {
    runs::prepare();
    for (golden, math) in [(F32, Math::Exact), (F32, Math::Fast), (B16, Math::Fast), (WIDE, Math::Fast)] {
        let (_folder, candidate) = faulty(golden, &[], math);
        assert_eq!(at_fault(golden, &candidate), [""; 0], "{golden} {math:?}");
    }
}

#[test]
fn the_second_of_two_faults_is_found_behind_the_first() {
    runs::prepare();
    let (_folder, candidate) = faulty(F32, &[bank::TANH_GELU, bank::KV_HEADS_IN_TURN], Math::Exact);
    let tower = (0..3).map(|block| format!("{TOWER}.blocks.{block}.mlp.act"));
    let decoder = (0..4).map(|layer| format!("{LLAMA}.layers.{layer}.self_attn.o_proj"));
    let expected: Vec<String> =
        tower.chain(["mlp1.2".to_owned()]).chain(decoder).chain(["step_logits".to_owned()]).collect();
    assert_eq!(at_fault(F32, &candidate), expected);
    // The comparison alone cannot see behind the first as far as this.
    let golden = Dump::open(runs::golden(F32)).unwrap();
    let report = runs::diff(&golden, &candidate, &validate::Policy::default());
    let fresh: Vec<&str> = report.fresh().map(|entry| entry.entry.name.as_str()).collect();
    assert_eq!(fresh.first(), Some(&expected[0].as_str()));
    assert!(fresh.len() < expected.len(), "{fresh:?}");
}

#[test]
fn faults_of_a_checkpoint_are_found_in_bfloat16_too() {
    runs::prepare();
    let mut edit = Edit::open(runs::checkpoint());
    edit.scale("vision_model.encoder.layer.1.mlp.fc2.bias", 0.0);
    let gate = |part: &str| format!("{LLAMA}.layers.2.mlp.{part}.weight");
    edit.exchange(&gate("gate_proj"), &gate("up_proj"));
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, out) = (folder.path().join("checkpoint"), folder.path().join("candidate"));
    edit.write(runs::checkpoint(), &checkpoint);
    let golden = Dump::open(runs::golden(B16)).unwrap();
    runs::run(&checkpoint, &golden, None, Math::Exact, &out);
    let expected = [
        format!("{TOWER}.blocks.1.mlp.fc2"),
        format!("{LLAMA}.layers.2.mlp.gate_proj"),
        format!("{LLAMA}.layers.2.mlp.up_proj"),
        "step_logits".to_owned(),
    ];
    assert_eq!(at_fault(B16, &out), expected);

    let output = program(B16, &out, &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["at_fault"], serde_json::json!(expected));
    let named = |entry: &&Value| entry["name"] == expected[0].as_str();
    let entry = report["entries"].as_array().unwrap().iter().find(named).unwrap();
    assert_eq!((&entry["at_fault"], &entry["module"]), (&true.into(), &"Linear".into()));
    assert!(entry["relative_l2"].as_f64().unwrap() > 0.01, "{entry}");
}

#[test]
fn what_a_run_was_given_is_compared_with_the_golden_run() {
    runs::prepare();
    let folder = tempfile::tempdir().unwrap();
    let (given, out) = (folder.path().join("given"), folder.path().join("candidate"));
    // Modules that compute rightly of wrong pixels are not at fault.
    mistakes::give(
        &runs::golden(B16),
        |given| given.pixels.iter_mut().for_each(|pixel| *pixel = 1.0 - *pixel),
        &given,
    );
    runs::run(runs::checkpoint(), &Dump::open(&given).unwrap(), None, Math::Exact, &out);
    assert_eq!(at_fault(B16, &out), ["pixel_values"]);
}

#[test]
fn a_site_that_was_not_recorded_is_computed_on_the_way() {
    runs::prepare();
    let (folder, candidate) = faulty(F32, &[bank::TANH_GELU], Math::Exact);
    let without = folder.path().join("without");
    let dump = Dump::open(&candidate).unwrap();
    let mut writer = DumpWriter::create(&without).unwrap();
    for (entry, view) in dump.tensors().filter(|(entry, _)| !entry.name.ends_with("blocks.1.mlp.act")) {
        writer.push(&entry.name, entry.role, &entry.module, entry.dtype, view.shape(), view.data()).unwrap();
    }
    writer.finish(dump.manifest().head()).unwrap();
    let act = |block: usize| format!("{TOWER}.blocks.{block}.mlp.act");
    let expected = [act(0), format!("{TOWER}.blocks.1.mlp.fc2"), act(2), "mlp1.2".to_owned()];
    assert_eq!(at_fault(F32, &without), expected);
}

#[test]
fn the_exit_status_tells_whether_a_module_is_at_fault() {
    runs::prepare();
    let (_right, candidate) = faulty(B16, &[], Math::Fast);
    let output = program(B16, &candidate, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "105 of 105 entries computed again from the run's own inputs; at fault: 0\n");

    let (_wrong, candidate) = faulty(B16, &[bank::GELU_FOR_SILU], Math::Exact);
    let output = program(B16, &candidate, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let sites: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(sites[0], format!("{LLAMA}.layers.0.mlp.act_fn"), "{text}");
    assert!(sites[..4].iter().all(|site| site.ends_with(".mlp.act_fn")), "{text}");
}

#[test]
fn a_model_that_is_told_to_compute_otherwise_does_as_one_that_was_loaded_so() {
    runs::prepare();
    let golden = Dump::open(runs::golden(F32)).unwrap();
    let load = |math| {
        NemotronVl::load(runs::checkpoint(), Some(runs::dtype_of(&golden)), Device::Cpu, math).unwrap()
    };
    // Prefill and decoding: how far each entry is from what this model computes of the same inputs.
    let computed = |model: &NemotronVl| {
        let inputs = runs::inputs_of(runs::checkpoint(), model, &golden);
        let found = isolate(model, &golden, &golden, &inputs).unwrap();
        found.iter().map(|isolated| isolated.relative_l2()).collect::<Vec<_>>()
    };
    let mut model = load(Math::Exact);
    let exact = computed(&model);
    model.set_math(Math::Fast);
    assert_eq!(model.math(), Math::Fast);
    let fast = computed(&model);
    assert_eq!(fast, computed(&load(Math::Fast)));
    assert_ne!(fast, exact);
    model.set_math(Math::Exact);
    assert_eq!(computed(&model), exact);
}

#[test]
fn another_checkpoint_than_the_goldens_is_refused() {
    runs::prepare();
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("another");
    let mut edit = Edit::open(runs::checkpoint());
    edit.scale("multi_modal_projector.linear_1.weight", 1.5);
    edit.write(runs::checkpoint(), &checkpoint);
    // A golden of sketches tells as much.
    let picture = runs::golden("images/red-circle-above-blue-square.png");
    let images = ["--image", picture.to_str().unwrap()];
    for golden in [runs::golden(B16), sketched(&runs::golden(B16), &folder.path().join("sketched"))] {
        let (status, stderr) = said(&program_on(&checkpoint, &golden, &runs::golden(B16), &images));
        assert_eq!(status, Some(2));
        assert!(
            stderr.contains("`mlp1.1`: expected what the model computes of the recorded inputs"),
            "{stderr}"
        );
        assert!(stderr.contains("hint: `--model` must be the golden run's own checkpoint"), "{stderr}");
    }
}

#[test]
fn a_golden_of_sketches_judges_a_run_in_full() {
    runs::prepare();
    let folder = tempfile::tempdir().unwrap();
    let golden = sketched(&runs::golden(B16), &folder.path().join("golden"));
    let picture = runs::golden("images/red-circle-above-blue-square.png");
    let images = ["--image", picture.to_str().unwrap()];
    let (_right, right) = faulty(B16, &[], Math::Fast);
    let output = program_on(runs::checkpoint(), &golden, &right, &images);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output).1);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "105 of 105 entries computed again from the run's own inputs; at fault: 0\n");

    let (_wrong, wrong) = faulty(B16, &[bank::TANH_GELU, bank::GELU_FOR_SILU], Math::Exact);
    let sites = |golden: &Path| {
        let output = program_on(runs::checkpoint(), golden, &wrong, &[&images[..], &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{}", said(&output).1);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["at_fault"].clone()
    };
    assert_eq!(sites(&golden), sites(&runs::golden(B16)));

    // Its own numbers take the place of what is computed: of sketches there are none.
    let candidate = sketched(&right, &folder.path().join("candidate"));
    let (status, stderr) = said(&program_on(runs::checkpoint(), &golden, &candidate, &images));
    assert_eq!(status, Some(2));
    assert!(
        stderr
            .contains("102 of its entries are sketches, `vision_model.radio_model.input_conditioner` first"),
        "{stderr}"
    );
    assert!(stderr.contains("hint: record the candidate without `--sketch`"), "{stderr}");
}

#[test]
fn a_run_is_judged_as_it_says_that_it_was_computed() {
    runs::prepare();
    let folder = tempfile::tempdir().unwrap();
    let golden = Dump::open(runs::golden(F32)).unwrap();
    // Of a float32 run the rounding of the pixels is more than rounding explains.
    let rounded = folder.path().join("rounded");
    let (checkpoint, pixels) = (runs::checkpoint(), TorchDtype::Bfloat16);
    runs::run_on_pixels(checkpoint, &golden, None, Math::Exact, pixels, &rounded);
    let output = program(F32, &rounded, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output).1);
    let note = "note: `pixel_values` reached the candidate's tower in bfloat16, the golden run's in float32";
    assert!(said(&output).1.contains(note), "{}", said(&output).1);
    let output = program(F32, &rounded, &["--pixel-values-dtype", "float32", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["at_fault"], serde_json::json!(["vision_model.radio_model.input_conditioner"]));
}
