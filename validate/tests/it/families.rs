//! The same mistakes in dumps of several families.

use golden::Dump;
use validate::origin::{OriginKind, Step};
use validate::{DiffOptions, DiffReport, EntryReport, Policy};

use crate::dumps::{Candidate, Tensor, bundled, first_named};

const WHOLE: &str = "shapes-text-float32";
const QUERIES: &str = "model.layers.2.self_attn.q_proj";

/// The name in a recording of `LlamaForCausalLM` by itself of a site of the whole model; `None` where it has none.
fn name_alone(name: &str) -> Option<&str> {
    match name {
        "inputs_embeds" => None,
        // What the outermost module returns.
        "language_model" => Some("output"),
        _ => Some(name.strip_prefix("language_model.").unwrap_or(name)),
    }
}

/// The heads of a query projection the other way round, so that all that follows is off a little; and wrong logits.
fn plant(name: &str, tensor: &mut Tensor, begun: &mut bool) {
    if name == QUERIES {
        *begun = true;
        let heads = 4;
        let width = tensor.row_len() / heads;
        let right: Vec<f64> = (0..tensor.len()).map(|index| tensor.get(index)).collect();
        tensor.map(|index, _| {
            let (row, column) = (index / (heads * width), index % (heads * width));
            right[(row * heads + heads - 1 - column / width) * width + column % width]
        });
    } else if *begun && name == "lm_head" {
        tensor.map(|_, value| 1.5 * value);
    } else if *begun && !name.ends_with("k_proj") && !name.ends_with("v_proj") {
        tensor.map(|index, value| value * (1.0 + 0.01 * (index as f64).sin()));
    }
}

/// The report on that mistake; of the language model alone, or of the whole model.
fn report(alone: bool) -> DiffReport {
    let written = |planted: bool| {
        let mut begun = false;
        Candidate::of(WHOLE, |tensor| {
            let name = name_alone(&tensor.name).map(str::to_owned);
            if planted {
                plant(name.as_deref().unwrap_or_default(), tensor, &mut begun);
            }
            if alone && let Some(name) = &name {
                tensor.name.clone_from(name);
            }
            !alone || name.is_some()
        })
    };
    let (golden, candidate) = (written(false), written(true));
    let [golden, candidate] = [&golden, &candidate].map(|dump| Dump::open(dump.path()).unwrap());
    validate::diff(&golden, &candidate, &DiffOptions::new(&Policy::default())).unwrap()
}

/// What is said of an entry, with the names of the language model alone.
fn said(report: &DiffReport, entry: &EntryReport) -> (OriginKind, Step, Vec<String>) {
    let inputs = entry.origin.inputs.iter().map(|&input| report.entries[input].entry.name.as_str());
    let inputs = inputs.map(|input| name_alone(input).unwrap_or("model.embed_tokens").to_owned());
    (entry.origin.kind, entry.origin.step, inputs.collect())
}

#[test]
fn the_language_model_alone_is_judged_as_in_the_whole_model() {
    let (whole, alone) = (report(false), report(true));
    assert_eq!(first_named(&whole), format!("language_model.{QUERIES}"));
    assert_eq!(first_named(&alone), QUERIES);
    for entry in &alone.entries {
        let name = &entry.entry.name;
        let in_whole =
            whole.entries.iter().find(|other| name_alone(&other.entry.name) == Some(name)).unwrap();
        assert_eq!(said(&alone, entry), said(&whole, in_whole), "{name}");
        assert_eq!(entry.site_role, in_whole.site_role, "{name}");
    }
    let kind = |site: &str| alone.entries.iter().find(|entry| entry.entry.name == site).unwrap().origin.kind;
    assert_eq!(kind("model.layers.2.self_attn.o_proj"), OriginKind::Inherited);
    assert_eq!(kind("model.layers.3"), OriginKind::Inherited);
    assert_eq!(kind("lm_head"), OriginKind::Fresh);
    let found = |report: &DiffReport| report.findings.as_ref().map(|found| found.diagnoses.clone());
    assert_eq!(found(&alone).unwrap()[0].kind.name(), "head_order");
    assert_eq!(found(&alone), found(&whole));
}

#[test]
fn another_decoder_is_not_taken_for_a_llama() {
    // vLLM's fused projections have inputs of their own.
    let dump = Dump::open(bundled("../ports/vllm-llama-float32")).unwrap();
    let report = validate::diff(&dump, &dump, &DiffOptions::new(&Policy::default())).unwrap();
    let output = report.entries.iter().find(|entry| entry.entry.name == "model.layers.1.mlp").unwrap();
    assert_eq!(output.origin.step, Step::Unknown);
}
