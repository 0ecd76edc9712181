//! A golden of the 8B as sketches is small enough for git.

use std::path::Path;

use golden::{Dtype, DumpWriter, Entry, Flow, NewEntry, Role, RowAlignment};

use crate::folders::head;
use crate::sketches::word;

/// A picture of twelve tiles with its thumbnail, which with the text makes some 3,300 tokens.
const TILES: usize = 13;
const TOKENS: usize = 3340;

/// Every site that the bundled goldens have, at the 8B's depth: name, class and shape.
fn sites() -> Vec<(String, &'static str, Vec<usize>)> {
    let mut sites = vec![("pixel_values".to_owned(), "", vec![TILES, 3, 512, 512])];
    let tower = "vision_model.radio_model.model";
    let patches = 1024 + 8;
    let mut vision = |name: String, class, width| sites.push((name, class, vec![TILES, patches, width]));
    vision("vision_model.radio_model.input_conditioner".to_owned(), "InputConditioner", 768);
    for (name, class) in
        [("im_to_patches", "Im2Patches"), ("embedder", "ViTPatchLinear"), ("cls_token", "ClsToken")]
    {
        vision(format!("{tower}.patch_generator.{name}"), class, 1280);
    }
    vision(format!("{tower}.patch_generator"), "ViTPatchGenerator", 1280);
    for block in 0..32 {
        for (name, class, width) in [
            (".norm1", "LayerNorm", 1280),
            (".attn.qkv", "Linear", 3840),
            (".attn.proj", "Linear", 1280),
            (".attn", "Attention", 1280),
            (".norm2", "LayerNorm", 1280),
            (".mlp.fc1", "Linear", 5120),
            (".mlp.act", "GELU", 5120),
            (".mlp.fc2", "Linear", 1280),
            (".mlp", "Mlp", 1280),
            ("", "Block", 1280),
        ] {
            vision(format!("{tower}.blocks.{block}{name}"), class, width);
        }
    }
    for name in ["blocks", "norm"] {
        vision(format!("{tower}.{name}"), "Identity", 1280);
    }
    vision("vision_model".to_owned(), "RADIOModel", 1280);
    for (part, class) in ["LayerNorm", "Linear", "GELU", "Linear"].into_iter().enumerate() {
        sites.push((format!("mlp1.{part}"), class, vec![1, TOKENS, 4096]));
    }
    sites.push(("mlp1".to_owned(), "Sequential", vec![1, TOKENS, 4096]));
    sites.push(("inputs_embeds".to_owned(), "", vec![1, TOKENS, 4096]));
    sites.extend(decoder(TOKENS));
    sites.push(("step_logits".to_owned(), "", vec![128, 128_256]));
    sites
}

/// Those of the language model, for so many tokens.
fn decoder(tokens: usize) -> Vec<(String, &'static str, Vec<usize>)> {
    let mut sites = Vec::new();
    let mut text = |name: String, class, width| sites.push((name, class, vec![1, tokens, width]));
    text("language_model.model.embed_tokens".to_owned(), "Embedding", 4096);
    for name in ["cos", "sin"] {
        text(format!("language_model.model.rotary_emb.{name}"), "LlamaRotaryEmbedding", 128);
    }
    for layer in 0..32 {
        for (name, class, width) in [
            (".input_layernorm", "LlamaRMSNorm", 4096),
            (".self_attn.q_proj", "Linear", 4096),
            (".self_attn.k_proj", "Linear", 1024),
            (".self_attn.v_proj", "Linear", 1024),
            (".self_attn.o_proj", "Linear", 4096),
            (".self_attn", "LlamaAttention", 4096),
            (".post_attention_layernorm", "LlamaRMSNorm", 4096),
            (".mlp.gate_proj", "Linear", 14336),
            (".mlp.act_fn", "SiLU", 14336),
            (".mlp.up_proj", "Linear", 14336),
            (".mlp.down_proj", "Linear", 4096),
            (".mlp", "LlamaMLP", 4096),
            ("", "LlamaDecoderLayer", 4096),
        ] {
            text(format!("language_model.model.layers.{layer}{name}"), class, width);
        }
    }
    for (name, class, width) in [
        ("language_model.model.norm", "LlamaRMSNorm", 4096),
        ("language_model.model", "LlamaModel", 4096),
        ("language_model.lm_head", "Linear", 128_256),
        ("language_model", "LlamaForCausalLM", 128_256),
    ] {
        text(name.to_owned(), class, width);
    }
    sites
}

/// Appends a sketch of some numbers with all their digits: one takes as much of any tensor.
fn push(writer: &mut DumpWriter, entry: NewEntry) {
    let index = writer.entries().len() as u64;
    let values = (0..1000).map(|n| (word(index, n) >> 40) as f32 / 16_777_216.0 - 0.3);
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    // Thirteen tiles are 40 MB, which are sketched too: `pixel_values` is not kept as an input would be that is small.
    writer.push_entry(entry, Dtype::Float32, &[1000], &bytes, Some(0)).unwrap();
}

/// A dump's size with the shapes and counts of the 8B, which have some digits more, for all entries but the first.
fn size(target: &Path, shapes: &[Vec<usize>]) -> u64 {
    let path = target.join("manifest.json");
    let mut manifest: golden::Manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (entry, shape) in manifest.entries[1..].iter_mut().zip(shapes) {
        entry.shape.clone_from(shape);
        entry.sketch.as_mut().unwrap().count = shape.iter().product::<usize>() as u64;
    }
    std::fs::write(&path, manifest.to_json().unwrap()).unwrap();
    assert_eq!(golden::Dump::open(target).unwrap().entries().len(), shapes.len() + 1);
    std::fs::read_dir(target).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn begin(target: &Path) -> DumpWriter {
    let mut writer = DumpWriter::create(target).unwrap();
    let ids: Vec<u8> = (0..TOKENS as i64).flat_map(i64::to_le_bytes).collect();
    writer
        .push_entry(NewEntry::new("input_ids", Role::Input, ""), Dtype::Int64, &[1, TOKENS], &ids, Some(0))
        .unwrap();
    writer
}

#[test]
fn a_golden_of_the_8b_takes_less_than_two_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let mut writer = begin(&target);
    let sites = sites();
    assert!((750..800).contains(&sites.len()), "{}", sites.len());
    for (name, class, _) in &sites {
        push(&mut writer, NewEntry::new(name, Role::Activation, *class));
    }
    writer.finish(head()).unwrap();
    let shapes: Vec<Vec<usize>> = sites.into_iter().map(|(_, _, shape)| shape).collect();
    let bytes = size(&target, &shapes);
    assert!((1_000_000..2_000_000).contains(&bytes), "{bytes}");
}

/// What an entry of a class is computed from: as many of the entries before it, and by what.
fn flow(class: &str, before: &[Entry]) -> Flow {
    let (inputs, operations): (usize, &[(&str, u64)]) = match class {
        "Linear" => (1, &[("aten.linear", 1)]),
        "LlamaRMSNorm" => {
            (1, &[("_to_copy", 2), ("pow", 1), ("mean", 1), ("add", 1), ("rsqrt", 1), ("mul", 2)])
        }
        "LlamaAttention" => {
            (8, &[("mul", 4), ("neg", 2), ("cat", 4), ("add", 2), ("aten.scaled_dot_product_attention", 1)])
        }
        "" => (2, &[("aten.cat", 1), ("aten.mul", 2), ("aten.add", 1), ("aten.neg", 1)]),
        _ => (2, &[("aten.add", 1)]),
    };
    Flow {
        inputs: before.iter().rev().take(inputs).map(|entry| entry.key().into_owned()).collect(),
        input_rows: vec![RowAlignment::Mixed; if class == "LlamaAttention" { inputs } else { 0 }],
        operations: operations.iter().map(|&(name, count)| (format!("{name:0>10}"), count)).collect(),
    }
}

#[test]
fn sixty_four_steps_of_the_8b_with_their_cache_take_less_than_forty_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let mut writer = begin(&target);
    let mut shapes = Vec::new();
    for step in 0..64 {
        let mut sites = if step == 0 { sites() } else { decoder(1) };
        for layer in 0..32 {
            for kind in ["keys", "values"] {
                let shape = vec![1, 8, TOKENS + step, 128];
                sites.push((format!("past_key_values.{layer}.{kind}"), "", shape));
            }
        }
        for (name, class, shape) in sites {
            let flow = Some(flow(class, writer.entries()));
            let entry = NewEntry { step: step as u64, flow, ..NewEntry::new(name, Role::Activation, class) };
            push(&mut writer, entry);
            shapes.push(shape);
        }
    }
    writer.finish(head()).unwrap();
    let bytes = size(&target, &shapes);
    assert!((20_000_000..40_000_000).contains(&bytes), "{bytes} bytes of {} entries", shapes.len());
}
