//! What vLLM itself recorded, through the ready-made maps; `golden/fixtures/ports/README.md` says how it was made.

use golden::{Dump, DumpWriter};
use validate::diagnosis::DiagnosisKind;
use validate::origin::OriginKind;
use validate::tolerance::Verdict;
use validate::{Comparison, DiffOptions, DiffReport, EntryReport, NameMap, Note, Policy};

use crate::dumps::{bundled, failing, first_named, goldens};

const TOWER: &str = "vision_model.radio_model.model";
const LAYERS: &str = "language_model.model.layers";

fn compare(golden: &str, candidate: &str, map: &str) -> DiffReport {
    compare_with(golden, candidate, &NameMap::read(map).unwrap())
}

fn compare_with(golden: &str, candidate: &str, map: &NameMap) -> DiffReport {
    let golden = Dump::open(bundled(golden)).unwrap();
    let candidate = Dump::open(goldens().join("../ports").join(candidate)).unwrap();
    validate::diff(
        &golden,
        &candidate,
        &DiffOptions { names: Some(map), ..DiffOptions::new(&Policy::default()) },
    )
    .unwrap()
}

/// The golden sites that were compared, and those that the map says vLLM does not have.
fn sites(report: &DiffReport, count: usize) -> (Vec<&EntryReport>, Vec<&str>) {
    // The golden entries come first.
    let (compared, left): (Vec<_>, Vec<_>) =
        report.entries[..count].iter().partition(|entry| entry.measurement.is_some());
    assert!(left.iter().all(|entry| matches!(entry.verdict, Verdict::Ignored { .. })), "{left:?}");
    (compared, left.iter().map(|entry| entry.entry.name.as_str()).collect())
}

/// Tables that vLLM keeps in a cache, and activations that it computes in one with the product behind them.
fn without_a_module() -> Vec<String> {
    let rotary = ["cos", "sin"].map(|table| format!("language_model.model.rotary_emb.{table}"));
    rotary.into_iter().chain((0..4).map(|layer| format!("{LAYERS}.{layer}.mlp.act_fn"))).collect()
}

#[test]
fn the_whole_model_differs_where_vllm_resizes_positions_otherwise() {
    let report = compare("shapes-describe-bfloat16", "vllm-nemotron-bfloat16", "vllm-nemotron");
    let (compared, left) = sites(&report, 105);
    assert_eq!(compared.len(), 99);
    assert_eq!(left, without_a_module());

    let fresh: Vec<&EntryReport> =
        compared.iter().copied().filter(|entry| entry.origin.kind == OriginKind::Fresh).collect();
    assert_eq!(fresh.len(), 1);
    assert_eq!(fresh[0].entry.name, format!("{TOWER}.patch_generator.cls_token"));
    let findings = report.findings.as_ref().unwrap();
    assert_eq!(report.entries[findings.index].entry.name, fresh[0].entry.name);
    let places: Vec<String> = findings.places.iter().map(validate::report::place).collect();
    assert_eq!(places, ["all 64 patch tokens are off and no prefix token is"]);
    let mistakes: Vec<DiagnosisKind> = findings.diagnoses.iter().map(|diagnosis| diagnosis.kind).collect();
    assert_eq!(mistakes, [DiagnosisKind::AlignCorners]);

    // Before it all is equal to the last bit, and so are the token ids; attention in bfloat16 makes more of what it inherits
    // than the built-in limits allow.
    let equal = compared.iter().filter(|entry| entry.measurement.as_ref().unwrap().bit_equal);
    let equal: Vec<&str> = equal.map(|entry| entry.entry.name.as_str()).collect();
    let expected = [
        "pixel_values",
        "input_ids",
        "vision_model.radio_model.input_conditioner",
        "vision_model.radio_model.model.patch_generator.im_to_patches",
        "vision_model.radio_model.model.patch_generator.embedder",
        "language_model.model.embed_tokens",
    ];
    assert_eq!(equal, expected);
    let expected = [
        format!("{TOWER}.patch_generator.cls_token"),
        format!("{LAYERS}.2.self_attn.o_proj"),
        format!("{LAYERS}.2.self_attn"),
        format!("{LAYERS}.3.self_attn.o_proj"),
        format!("{LAYERS}.3.self_attn"),
    ];
    assert_eq!(failing(&report), expected);
    assert_eq!(report.answer.prompt, Comparison::Equal);
    assert_eq!(report.answer.generated_ids, Comparison::Equal);
    // Every rule matched; the engine has token ids as `int32`, and looks them up after the tower.
    let notes = [
        Note::Order { name: "vision_model.radio_model.input_conditioner".to_owned() },
        Note::MappedDtypes { count: 1 },
    ];
    assert_eq!(report.notes, notes);
}

#[test]
fn the_language_model_alone_passes() {
    let report = compare("shapes-text-float32", "vllm-llama-float32", "vllm-llama");
    let failing = failing(&report);
    assert!(failing.is_empty(), "{failing:?}");
    let (compared, mut left) = sites(&report, 66);
    assert_eq!(compared.len(), 55);
    let mut expected = without_a_module();
    expected.push("inputs_embeds".to_owned());
    expected.extend((0..4).map(|layer| format!("{LAYERS}.{layer}.self_attn.attn_weights")));
    expected.sort();
    left.sort_unstable();
    assert_eq!(left, expected);
    for entry in compared {
        let found = entry.measurement.as_ref().unwrap().relative_l2;
        assert!(found.is_none_or(|found| found < 1e-6), "{}: {found:?}", entry.entry.name);
    }
    assert_eq!(report.answer.generated_ids, Comparison::Equal);
    let weights = Note::AttnWeights { count: 4, only_candidate: false };
    assert_eq!(report.notes, [weights, Note::MappedDtypes { count: 1 }]);
}

#[test]
fn halves_of_a_fused_projection_are_not_taken_for_each_other() {
    let map = validate::names::BUILTIN.iter().find(|map| map.name == "vllm-llama").unwrap().text;
    let [gate, up] = ["gate", "up"].map(|half| format!("\"{LAYERS}.$layer.mlp.{half}_proj\",\n"));
    let swapped = map.replace(&gate, "GATE").replace(&up, &gate).replace("GATE", &up);
    assert_ne!(swapped, map);
    let report = compare_with(
        "shapes-text-float32",
        "vllm-llama-float32",
        &NameMap::parse("swapped.toml", &swapped).unwrap(),
    );
    let halves = |layer| ["gate", "up"].map(|half| format!("{LAYERS}.{layer}.mlp.{half}_proj"));
    assert_eq!(failing(&report), (0..4).flat_map(halves).collect::<Vec<_>>());
}

/// vLLM takes the tower of the 8B from the checkpoint's own code: it then has the golden names.
#[test]
fn a_tower_of_the_public_code_keeps_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("candidate");
    let golden = Dump::open(bundled("shapes-describe-bfloat16")).unwrap();
    let recorded = Dump::open(goldens().join("../ports/vllm-nemotron-bfloat16")).unwrap();
    let mut writer = DumpWriter::create(&path).unwrap();
    let towers = golden.tensors().filter(|(entry, _)| entry.name.starts_with("vision_model"));
    let others = recorded.tensors().filter(|(entry, _)| !entry.name.starts_with("vision_model"));
    for (entry, view) in towers.chain(others) {
        // The class gives a summary as well.
        let name = if entry.name == "vision_model" { "vision_model.features" } else { &entry.name };
        writer.push(name, entry.role, &entry.module, entry.dtype, &entry.shape, view.data()).unwrap();
        if name == "vision_model.features" {
            writer
                .push(
                    "vision_model.summary",
                    entry.role,
                    &entry.module,
                    entry.dtype,
                    &entry.shape,
                    view.data(),
                )
                .unwrap();
        }
    }
    writer.finish(recorded.manifest().head()).unwrap();
    let candidate = Dump::open(&path).unwrap();
    let map = NameMap::read("vllm-nemotron").unwrap();
    let report = validate::diff(
        &golden,
        &candidate,
        &DiffOptions { names: Some(&map), ..DiffOptions::new(&Policy::default()) },
    )
    .unwrap();
    let (compared, left) = sites(&report, 105);
    assert_eq!((compared.len(), left), (99, without_a_module().iter().map(String::as_str).collect()));
    let tower = compared.iter().filter(|entry| entry.entry.name.starts_with("vision_model"));
    let equal: Vec<bool> = tower.map(|entry| entry.measurement.as_ref().unwrap().bit_equal).collect();
    assert_eq!(equal, [true; 37]);
    // The features of vLLM's own tower went into the projector that was recorded.
    assert_eq!(first_named(&report), "mlp1.0");
    assert!(!report.entries.iter().any(EntryReport::is_unpaired));
}
