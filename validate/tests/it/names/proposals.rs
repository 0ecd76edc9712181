//! Maps that are proposed from names, shapes and contents.

use golden::{Dtype, Dump};
use validate::DiffReport;
use validate::tolerance::{Failure, Verdict};

use super::layouts::otherwise;
use super::ready_made::vllm;
use super::{LAYERS, NAME, compare, engine};
use crate::dumps::{Candidate, Tensor, bundled, failing};

/// The proposal for a candidate, and the report of a comparison by it.
fn proposed(name: &str, candidate: &Candidate) -> (validate::names::Proposal, DiffReport) {
    let golden = Dump::open(bundled(name)).unwrap();
    let proposal = validate::names::propose(&golden, &Dump::open(candidate.path()).unwrap()).unwrap();
    let report = compare(name, candidate, &proposal.text).unwrap();
    (proposal, report)
}

#[test]
fn a_proposal_finds_what_lies_otherwise() {
    let (proposal, report) = proposed(NAME, &otherwise());
    let act_fn: Vec<String> = (0..4).map(|layer| format!("{LAYERS}.{layer}.mlp.act_fn")).collect();
    let absent =
        |layer| ["self_attn.attn_weights", "mlp.act_fn"].map(|site| format!("{LAYERS}.{layer}.{site}"));
    assert_eq!(proposal.unmatched, (0..4).flat_map(absent).collect::<Vec<_>>());
    assert_eq!(proposal.left, [""; 0]);
    assert_eq!(proposal.matched, 101);
    assert_eq!(failing(&report), act_fn, "{}", proposal.text);
    assert_eq!(report.summary().bit_equal, 101);
    // Layers share rules.
    assert!(proposal.text.matches("[[rules]]").count() < 40, "{}", proposal.text);
    assert!(proposal.text.contains(r"candidate = 'decoder\.(?<layer>\d+)\.qkv'"), "{}", proposal.text);
}

#[test]
fn a_proposal_finds_sums_and_fused_projections() {
    let (proposal, report) = proposed(NAME, &vllm());
    for site in &proposal.unmatched {
        let is_absent =
            [".cos", ".sin", ".act_fn", ".attn_weights", "step_logits"].iter().any(|end| site.ends_with(end));
        assert!(is_absent, "{site}\n{}", proposal.text);
    }
    assert!(
        failing(&report).iter().all(|site| proposal.unmatched.contains(&(*site).to_owned())),
        "{:?}",
        failing(&report)
    );
    assert!(
        proposal.text.contains("add = true") && proposal.text.contains("split = -1"),
        "{}",
        proposal.text
    );
}

#[test]
fn a_proposal_pairs_what_a_mistake_changed_by_its_place() {
    let name = "shapes-text-float32";
    let candidate = engine(name, |mut tensor| {
        let broken = tensor.name == "language_model.model.layers.2.mlp.down_proj";
        tensor.name =
            tensor.name.replace("language_model.model.layers.", "h.").replace("mlp.down_proj", "ffn.down");
        tensor.name = tensor.name.replace(".mlp", ".ffn.whole");
        if broken {
            tensor.map(|index, _| f64::from(index as u32 % 7) * 1e3);
        }
        vec![tensor]
    });
    let (proposal, report) = proposed(name, &candidate);
    assert_eq!(proposal.unmatched, [""; 0], "{}", proposal.text);
    assert_eq!(failing(&report), ["language_model.model.layers.2.mlp.down_proj"]);
    assert!(proposal.text.contains("1 more by their names only"), "{}", proposal.text);
    // The same bytes in bfloat16: alike, in another dtype.
    let rounded = Candidate { folder: engine(name, |tensor| vec![rounded(tensor)]).folder };
    let (proposal, report) = proposed(name, &rounded);
    assert_eq!(proposal.unmatched, [""; 0]);
    assert!(proposal.text.contains("dtype = \"any\""), "{}", proposal.text);
    let other_dtype = |verdict: &Verdict| matches!(verdict, Verdict::Fail(Failure::Dtype { .. }));
    assert!(!report.entries.iter().any(|entry| other_dtype(&entry.verdict)));
}

/// Floats as bfloat16, under another name.
fn rounded(tensor: Tensor) -> Tensor {
    if tensor.dtype != Dtype::Float32 {
        return tensor;
    }
    let bfloat16 = |at: usize| half::bf16::from_f64(tensor.get(at)).to_le_bytes();
    let data = (0..tensor.len()).flat_map(bfloat16).collect();
    Tensor {
        name: format!("engine.{}", tensor.name),
        dtype: Dtype::BFloat16,
        shape: tensor.shape.clone(),
        data,
    }
}
