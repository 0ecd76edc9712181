//! Layouts that a map undoes, and what is then found behind it.

use std::fs;

use golden::{Dtype, Dump, DumpWriter};
use validate::tolerance::{Failure, Verdict};
use validate::{Error, Note};

use super::{BLOCKS, LAYERS, NAME, compare, engine, index, one, permuted, renamed, rule, split};
use crate::dumps::{Candidate, Tensor, bundled, failing, first_named};

/// An engine that does everything otherwise that a map can undo.
pub fn otherwise() -> Candidate {
    engine(NAME, |tensor| {
        let name = tensor.name.clone();
        if name.ends_with(".attn_weights") {
            return Vec::new();
        }
        if let Some((number, site)) = index(&name, BLOCKS) {
            return match site.as_str() {
                // Three projections for one, with heads before tokens.
                "attn.qkv" => split(&tensor, &[("q", 96), ("k", 96), ("v", 96)])
                    .into_iter()
                    .map(|part| {
                        let heads = permuted(&part, &[1, 72, 4, 24], &[0, 2, 1, 3]);
                        renamed(heads, &format!("tower.{number}.{}", part.name))
                    })
                    .collect(),
                // Without the prefix tokens.
                "norm2" => {
                    let mut patches = renamed(tensor, &format!("tower.{number}.norm2"));
                    patches.data.drain(..8 * 96 * 4);
                    patches.shape = vec![64, 96];
                    vec![patches]
                }
                _ => vec![renamed(tensor, &format!("tower.{number}.{site}"))],
            };
        }
        if let Some((number, site)) = index(&name, LAYERS) {
            let layer = format!("decoder.{number}");
            let mut flat = tensor;
            flat.shape = vec![flat.len() / flat.row_len(), flat.row_len()];
            return match site.as_str() {
                "self_attn.q_proj" | "self_attn.k_proj" | "mlp.gate_proj" | "mlp.act_fn" => Vec::new(),
                "self_attn.v_proj" | "mlp.up_proj" => {
                    let dump = Dump::open(bundled(NAME)).unwrap();
                    let (parts, fused): (&[&str], _) = if site == "mlp.up_proj" {
                        (&["mlp.gate_proj", "mlp.up_proj"], "gate_up")
                    } else {
                        (&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], "qkv")
                    };
                    let of = |part: &&str| dump.get(&format!("{LAYERS}.{number}.{part}")).unwrap();
                    let views: Vec<_> = parts.iter().map(of).collect();
                    let mut data = Vec::new();
                    for row in 0..41 {
                        for view in &views {
                            let len = view.shape()[2] * 4;
                            data.extend_from_slice(&view.data()[row * len..(row + 1) * len]);
                        }
                    }
                    let columns = views.iter().map(|view| view.shape()[2]).sum();
                    let name = format!("{layer}.{fused}");
                    vec![Tensor { name, dtype: Dtype::Float32, shape: vec![41, columns], data }]
                }
                site => vec![renamed(flat, &format!("{layer}.{site}"))],
            };
        }
        match name.as_str() {
            "input_ids" => {
                let ids: Vec<u8> =
                    (0..tensor.len()).flat_map(|at| (tensor.get(at) as i32).to_le_bytes()).collect();
                vec![Tensor { name, dtype: Dtype::Int32, shape: vec![41], data: ids }]
            }
            // Logits of all tokens, of which the golden run has the last.
            "language_model.lm_head" => {
                let mut all = Tensor { shape: vec![1, 3, 512], ..tensor };
                let last = all.data.clone();
                all.data = [vec![0; 2 * last.len()], last].concat();
                vec![all]
            }
            _ => vec![tensor],
        }
    })
}

const OTHERWISE: &str = r#"
version = 1

[[rules]]
candidate = ['tower\.(?<n>\d+)\.q', 'tower\.(?<n>\d+)\.k', 'tower\.(?<n>\d+)\.v']
golden = "vision_model.radio_model.model.blocks.$n.attn.qkv"
each = [{ permute = [0, 2, 1, 3] }, { flatten = [2, 3] }]
concat = -1

[[rules]]
candidate = 'tower\.(\d+)\.norm2'
golden = "vision_model.radio_model.model.blocks.$1.norm2"
steps = [{ unsqueeze = 0 }]
golden_steps = [{ last_tokens = "candidate" }]

[[rules]]
candidate = 'tower\.(\d+)\.(norm1|attn|attn\.proj|mlp.*)'
golden = "vision_model.radio_model.model.blocks.$1.$2"

[[rules]]
candidate = 'decoder\.(\d+)\.qkv'
golden = [
    "language_model.model.layers.$1.self_attn.q_proj",
    "language_model.model.layers.$1.self_attn.k_proj",
    "language_model.model.layers.$1.self_attn.v_proj",
]
split = -1
pieces = [{ reshape = "golden" }]

[[rules]]
candidate = 'decoder\.(\d+)\.gate_up'
golden = ["language_model.model.layers.$1.mlp.gate_proj", "language_model.model.layers.$1.mlp.up_proj"]
split = 1
sizes = [352, 352]
pieces = [{ unsqueeze = 0 }]

[[rules]]
candidate = 'decoder\.(\d+)\.(.*norm|self_attn|self_attn\.o_proj|mlp|mlp\.down_proj)'
golden = "language_model.model.layers.$1.$2"
steps = [{ reshape = "golden" }]

[[rules]]
candidate = 'input_ids'
golden = "input_ids"
dtype = "any"
steps = [{ reshape = "golden" }]

[[rules]]
candidate = 'language_model\.lm_head'
golden = "language_model.lm_head"
steps = [{ last_tokens = "golden" }]

[[absent]]
golden = 'language_model\.model\.layers\.\d+\.mlp\.act_fn'
reason = "fused with the product"
"#;

#[test]
fn other_layouts_are_undone_to_the_last_bit() {
    let report = compare(NAME, &otherwise(), OTHERWISE).unwrap();
    assert_eq!(failing(&report), [""; 0]);
    let summary = report.summary();
    assert_eq!((summary.entries, summary.ignored, summary.bit_equal), (109, 8, 101));
    let of = |name: &str| report.entries.iter().find(|entry| entry.entry.name == name).unwrap();
    let qkv = of(&format!("{BLOCKS}.1.attn.qkv")).counterpart.as_ref().unwrap();
    assert_eq!(qkv.tensors, ["tower.1.q", "tower.1.k", "tower.1.v"]);
    assert_eq!(qkv.layout, ["each permute [0, 2, 1, 3]", "each flatten [2, 3]", "concat 2"]);
    let norm2 = of(&format!("{BLOCKS}.1.norm2"));
    assert_eq!(norm2.entry.shape, [1, 64, 96]);
    assert_eq!(norm2.counterpart.as_ref().unwrap().recorded_shape, [1, 72, 96]);
    let act_fn = of(&format!("{LAYERS}.0.mlp.act_fn"));
    assert_eq!(act_fn.verdict, Verdict::Ignored { reason: "fused with the product".to_owned() });
    assert!(report.notes.contains(&Note::MappedDtypes { count: 1 }), "{:?}", report.notes);
}

#[test]
fn an_error_behind_a_map_is_found_in_its_golden_place() {
    let mut candidate = otherwise();
    // Of the keys of the second block, the second head's token 70 (behind 8 prefix tokens) and its channel 5.
    let dump = Dump::open(candidate.path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut writer = DumpWriter::create(folder.path().join("candidate")).unwrap();
    for (entry, view) in dump.tensors() {
        let mut data = view.data().to_vec();
        if entry.name == "tower.1.k" {
            assert_eq!(entry.shape, [1, 4, 72, 24]);
            let at = 4 * ((72 + 70) * 24 + 5);
            data[at..at + 4].copy_from_slice(&1e3_f32.to_le_bytes());
        }
        writer.push(&entry.name, entry.role, &entry.module, entry.dtype, &entry.shape, &data).unwrap();
    }
    writer.finish(dump.manifest().head()).unwrap();
    candidate.folder = folder;
    let report = compare(NAME, &candidate, OTHERWISE).unwrap();
    let site = format!("{BLOCKS}.1.attn.qkv");
    assert_eq!(failing(&report), [site.as_str()]);
    assert_eq!(first_named(&report), site);
    let entry = report.entries.iter().find(|entry| entry.entry.name == site).unwrap();
    let largest = entry.measurement.as_ref().unwrap().largest.as_ref().unwrap();
    assert_eq!((largest.index.as_slice(), largest.candidate), (&[0, 70, 96 + 24 + 5][..], 1e3));
    let places = &report.findings.as_ref().unwrap().places;
    assert!(validate::report::place(&places[0]).contains("row 7, column 6"), "{places:?}");
}

#[test]
fn a_sum_of_two_tensors_is_rounded_once() {
    let name = "shapes-text-float32";
    let site = "language_model.model.layers.1";
    // Halves add up to the whole exactly.
    let halves = one(name, site, |mut tensor| {
        tensor.map(|_, value| value / 2.0);
        let other = Tensor {
            name: "hidden".to_owned(),
            shape: tensor.shape.clone(),
            data: tensor.data.clone(),
            ..tensor
        };
        vec![renamed(tensor, "residual"), other]
    });
    let map =
        rule("candidate = ['hidden', 'residual']\ngolden = 'language_model.model.layers.1'\nadd = true");
    let report = compare(name, &halves, &map).unwrap();
    assert!(report.passes());
    assert_eq!(report.summary().bit_equal, 66);
}

#[test]
fn sizes_that_differ_are_a_finding_and_not_a_wrong_rule() {
    let name = "shapes-text-float32";
    let site = "language_model.model.norm";
    let shorter = one(name, site, |mut tensor| {
        let row = tensor.row_len();
        let tokens = tensor.len() / row - 1;
        tensor.data.truncate(tokens * row * 4);
        tensor.shape = vec![tokens, row];
        vec![renamed(tensor, "norm")]
    });
    let map =
        rule("candidate = 'norm'\ngolden = 'language_model.model.norm'\nsteps = [{ reshape = 'golden' }]");
    let report = compare(name, &shorter, &map).unwrap();
    let entry = report.entries.iter().find(|entry| entry.entry.name == site).unwrap();
    assert!(matches!(&entry.verdict, Verdict::Fail(Failure::Shape { .. })), "{:?}", entry.verdict);
}

#[test]
fn bytes_behind_a_map_are_held_to_their_hashes() {
    let name = "shapes-text-float32";
    let site = "language_model.model.norm";
    let candidate = one(name, site, |tensor| vec![renamed(tensor, "norm")]);
    let dump = Dump::open(candidate.path()).unwrap();
    let file = candidate.path().join("tensors.safetensors");
    let bytes = fs::read(&file).unwrap();
    let tensor = dump.get("norm").unwrap().data().to_vec();
    let at = bytes.windows(tensor.len()).position(|window| window == tensor).unwrap();
    drop(dump);
    let map = rule("candidate = 'norm'\ngolden = 'language_model.model.norm'");
    // The bytes are there twice, since the model's output is the same; the norm's come first.
    let mut spoilt = bytes.clone();
    spoilt[at] ^= 1;
    fs::write(&file, spoilt).unwrap();
    let error = compare(name, &candidate, &map).unwrap_err();
    assert!(
        matches!(error, Error::Dump(golden::Error::HashMismatch { ref name, .. }) if name == "norm"),
        "{error}"
    );
    fs::write(&file, bytes).unwrap();
    assert!(compare(name, &candidate, &map).unwrap().passes());
}

#[test]
fn a_mapped_report_satisfies_its_schema_and_tells_the_candidates_names() {
    let schema = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/diff-report.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap();
    // The act_fn sites are missing without the map's last table.
    let map = OTHERWISE.split("[[absent]]").next().unwrap();
    let report = compare(NAME, &otherwise(), map).unwrap();
    let of = |format: &str| {
        let options = validate::report::Options { all: true, colour: false };
        validate::report::format(format).unwrap().render(&report, options)
    };
    let json: serde_json::Value = serde_json::from_str(&of("json")).unwrap();
    if let Err(error) = schema.validate(&json) {
        panic!("{error} at {}", error.instance_path());
    }
    assert_eq!(json["names"], "map.toml");
    let missing: Vec<String> = (0..4).map(|layer| format!("{LAYERS}.{layer}.mlp.act_fn")).collect();
    assert_eq!(json["not_recorded"], serde_json::json!(missing));
    let entry =
        |name: &str| json["entries"].as_array().unwrap().iter().find(|e| e["name"] == name).unwrap().clone();
    assert_eq!(
        entry(&format!("{BLOCKS}.0.norm2"))["counterpart"],
        serde_json::json!({
            "tensors": ["tower.0.norm2"],
            "rule": { "map": "map.toml", "index": 1 },
            "layout": ["unsqueeze 0", "golden last_tokens candidate"],
            "compared_shape": [1, 64, 96],
        })
    );
    assert_eq!(entry(&format!("{BLOCKS}.0.norm2"))["shape"], serde_json::json!([1, 72, 96]));
    for (format, told) in [
        ("table", "tower.0.q, tower.0.k, tower.0.v"),
        ("table", "4 not recorded by the candidate:"),
        ("markdown", "decoder.0.qkv (rules\\[3\\] of map.toml): piece 1 of 3 along -1, reshape"),
        ("markdown", "4 not recorded by the candidate:"),
        (
            "junit",
            "<property name=\"candidate\" value=\"in the candidate tower.2.norm2 (rules[1] of map.toml)",
        ),
        ("html", "<small>in the candidate tower.2.norm2 (rules[1] of map.toml)"),
        ("html", "4 not recorded by the candidate:"),
    ] {
        let text = of(format).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(told), "{format}: {told}\n{text}");
    }
}
