//! The maps that come with the program, and its commands for them.

use std::fs;

use golden::{Dtype, Dump};
use validate::tolerance::Verdict;
use validate::{DiffOptions, NameMap, Note, Policy};

use super::{BLOCKS, LAYERS, NAME, engine, index, renamed};
use crate::dumps::{Candidate, Tensor, bundled, failing};

#[test]
fn every_ready_made_map_can_be_read_and_says_where_it_comes_from() {
    for map in validate::names::BUILTIN {
        NameMap::read(map.name).unwrap();
        assert!(map.text.contains("\n# Source: ") && map.text.contains(".py"), "{}", map.name);
    }
    // A golden dump under the names of the map that includes both parts.
    let candidate = engine(NAME, |tensor| {
        let name = tensor.name.replace("language_model.model", "model.language_model.model");
        vec![Tensor { name: name.replace("mlp1.0", "multi_modal_projector.layer_norm"), ..tensor }]
    });
    let golden = Dump::open(bundled(NAME)).unwrap();
    let candidate = Dump::open(candidate.path()).unwrap();
    let map = NameMap::read("transformers-nemotron").unwrap();
    let report = validate::diff(
        &golden,
        &candidate,
        &DiffOptions { names: Some(&map), ..DiffOptions::new(&Policy::default()) },
    )
    .unwrap();
    assert_eq!(failing(&report), [""; 0]);
}

#[test]
fn the_example_in_the_document_is_a_map() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/names.md")).unwrap();
    let example = text.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    NameMap::parse("names.md", example).unwrap();
    for map in validate::names::BUILTIN {
        assert!(text.contains(&format!("| `{}` | {} |", map.name, map.about)), "{}", map.name);
    }
}

/// A bundled dump as vLLM's whole model would record it.
pub fn vllm() -> Candidate {
    let dump = Dump::open(bundled(NAME)).unwrap();
    let values = |name: &str| dump.get(name).unwrap().elements::<f32>().unwrap().into_owned();
    let flat = |name: String, columns: usize, values: Vec<f32>| Tensor {
        name,
        dtype: Dtype::Float32,
        shape: vec![values.len() / columns, columns],
        data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    engine(NAME, |tensor| {
        let name = tensor.name.clone();
        let is_absent = [".act_fn", ".attn_weights"].iter().any(|site| name.ends_with(site));
        if is_absent || name == "step_logits" || name.contains("rotary_emb") {
            return Vec::new();
        }
        if let Some((number, site)) = index(&name, BLOCKS) {
            let linear = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"].contains(&site.as_str());
            let site = site.replace("mlp.act", "mlp.activation_fn");
            let name = format!(
                "vision_model.model.encoder.layers.{number}.{site}{}",
                if linear { ".0" } else { "" }
            );
            return vec![renamed(tensor, &name)];
        }
        if let Some(rest) = name.strip_prefix("vision_model.radio_model.") {
            if rest == "input_conditioner" {
                return vec![renamed(tensor, "vision_model.pixel_values")];
            }
            let rest = rest
                .replace("model.blocks.", "model.encoder.layers.")
                .replace("model.blocks", "model.encoder");
            return vec![renamed(tensor, &format!("vision_model.{rest}"))];
        }
        let of = |number: &str, site: &str| format!("{LAYERS}.{number}.{site}");
        let fused = |name: String, parts: &[String]| {
            let rows: Vec<(Vec<f32>, usize)> = parts
                .iter()
                .map(|part| (values(part), *dump.get(part).unwrap().shape().last().unwrap()))
                .collect();
            let columns = rows.iter().map(|(_, columns)| columns).sum();
            let row = |row: usize| rows.iter().flat_map(move |(v, n)| v[row * n..(row + 1) * n].to_vec());
            flat(name, columns, (0..41).flat_map(row).collect())
        };
        let language = |rest: &str| format!("language_model.model.{rest}");
        if let Some((number, site)) = index(&name, LAYERS) {
            return match site.as_str() {
                "self_attn.q_proj" => {
                    let parts = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
                    vec![fused(
                        language(&format!("layers.{number}.self_attn.qkv_proj.0")),
                        &parts.map(|p| of(&number, p)),
                    )]
                }
                "mlp.gate_proj" => {
                    let parts = ["mlp.gate_proj", "mlp.up_proj"];
                    vec![fused(
                        language(&format!("layers.{number}.mlp.gate_up_proj.0")),
                        &parts.map(|p| of(&number, p)),
                    )]
                }
                "self_attn.k_proj" | "self_attn.v_proj" | "mlp.up_proj" => Vec::new(),
                site => vec![flat(language(&format!("layers.{number}.{site}")), 128, values(&name))],
            };
        }
        if let Some(number) = name.strip_prefix(LAYERS).and_then(|rest| rest.strip_prefix('.')) {
            let before = match number.parse::<usize>().unwrap() {
                0 => "inputs_embeds".to_owned(),
                layer => format!("{LAYERS}.{}", layer - 1),
            };
            // What the second norm adds: the same sum as the public code's.
            let residual =
                values(&before).iter().zip(values(&of(number, "self_attn"))).map(|(a, b)| a + b).collect();
            return vec![
                flat(language(&format!("layers.{number}.0")), 128, values(&of(number, "mlp"))),
                flat(language(&format!("layers.{number}.1")), 128, residual),
            ];
        }
        match name.as_str() {
            "vision_model" => vec![renamed(tensor, "vision_model.1")],
            "language_model.lm_head" => {
                vec![flat("language_model.logits_processor".to_owned(), 512, values(&name))]
            }
            "language_model.model" => Vec::new(),
            "language_model.model.norm" => vec![flat(language("norm.0"), 128, values(&name))],
            "language_model.model.embed_tokens" => vec![flat(name.clone(), 128, values(&name))],
            "language_model" => vec![flat(name.clone(), 128, values("language_model.model.norm"))],
            "inputs_embeds" => vec![flat(name.clone(), 128, values(&name))],
            "input_ids" => vec![Tensor { shape: vec![41], ..tensor }],
            _ => vec![tensor],
        }
    })
}

#[test]
fn what_vllm_records_is_equal_through_its_map() {
    let golden = Dump::open(bundled(NAME)).unwrap();
    let candidate = vllm();
    let candidate = Dump::open(candidate.path()).unwrap();
    let map = NameMap::read("vllm-nemotron").unwrap();
    let report = validate::diff(
        &golden,
        &candidate,
        &DiffOptions { names: Some(&map), ..DiffOptions::new(&Policy::default()) },
    )
    .unwrap();
    assert_eq!(failing(&report), ["step_logits"], "there was an answer, and no logits of it");
    let ignored = |entry: &&validate::EntryReport| matches!(entry.verdict, Verdict::Ignored { .. });
    // The golden entries come first.
    let entries = report.entries[..105].iter().filter(ignored);
    let entries: Vec<&str> = entries.map(|entry| entry.entry.name.as_str()).collect();
    let expected = [
        "language_model.model.rotary_emb.cos",
        "language_model.model.rotary_emb.sin",
        "language_model.model.layers.0.self_attn.attn_weights",
        "language_model.model.layers.0.mlp.act_fn",
        "language_model.model.layers.1.self_attn.attn_weights",
        "language_model.model.layers.1.mlp.act_fn",
        "language_model.model.layers.2.self_attn.attn_weights",
        "language_model.model.layers.2.mlp.act_fn",
        "language_model.model.layers.3.self_attn.attn_weights",
        "language_model.model.layers.3.mlp.act_fn",
    ];
    assert_eq!(entries, expected);
    assert_eq!(report.summary().bit_equal, 109 - 1 - expected.len());
    assert_eq!(report.notes, [Note::AttnWeights { count: 4, only_candidate: false }]);
}

#[test]
fn the_programs_commands_for_maps() {
    let run = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_nvl-validate"));
        let output = command.current_dir(crate::dumps::goldens()).args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (status, list, _) = run(&["maps"]);
    assert_eq!((status, list.lines().count()), (0, validate::names::BUILTIN.len()));
    let (status, map, _) = run(&["maps", "vllm-llama"]);
    assert_eq!(status, 0);
    NameMap::parse("printed", &map).unwrap();
    assert_eq!(run(&["maps", "mine"]).0, 2);

    let candidate = vllm();
    let path = candidate.path();
    let path = path.to_str().unwrap();
    let out = candidate.folder.path().join("maps/mine.toml");
    let (status, stdout, stderr) = run(&["names", NAME, path, "--out", out.to_str().unwrap()]);
    assert_eq!((status, stdout.as_str()), (1, ""));
    assert!(stderr.contains("of 109 golden entries have a counterpart"), "{stderr}");
    assert!(stderr.contains("golden entries without one: "), "{stderr}");
    let (status, stdout, _) = run(&["diff", NAME, path, "--names", out.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(stdout.contains("not recorded by the candidate"), "{stdout}");
    assert_eq!(run(&["diff", NAME, path, "--names", "vllm-nemotron", "--policy", "nowhere.toml"]).0, 2);
    let (status, _, stderr) = run(&["diff", NAME, path, "--names", "nowhere.toml"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("hint: `nvl-validate maps` lists the ready-made maps"), "{stderr}");
}
