//! A golden of the 8B as sketches is small enough for git.

use golden::{Dtype, DumpWriter, NewEntry, Role};

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
    let mut text = |name: String, class, width| sites.push((name, class, vec![1, TOKENS, width]));
    for (part, class) in ["LayerNorm", "Linear", "GELU", "Linear"].into_iter().enumerate() {
        text(format!("mlp1.{part}"), class, 4096);
    }
    text("mlp1".to_owned(), "Sequential", 4096);
    text("language_model.model.embed_tokens".to_owned(), "Embedding", 4096);
    text("inputs_embeds".to_owned(), "", 4096);
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
    sites.push(("step_logits".to_owned(), "", vec![128, 128_256]));
    sites
}

#[test]
fn a_golden_of_the_8b_takes_less_than_two_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let mut writer = DumpWriter::create(&target).unwrap();
    let ids: Vec<u8> = (0..TOKENS as i64).flat_map(i64::to_le_bytes).collect();
    writer
        .push_entry(NewEntry::new("input_ids", Role::Input, ""), Dtype::Int64, &[1, TOKENS], &ids, Some(0))
        .unwrap();
    let sites = sites();
    assert!((750..800).contains(&sites.len()), "{}", sites.len());
    for (index, (name, class, _)) in sites.iter().enumerate() {
        // A sketch takes as much of any tensor: these are of some numbers with all their digits.
        let values = (0..1000).map(|n| (word(index as u64, n) >> 40) as f32 / 16_777_216.0 - 0.3);
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        // Thirteen tiles are 40 MB, which are sketched too: `pixel_values` is not kept as an input would be that is small.
        writer
            .push_entry(
                NewEntry::new(name, Role::Activation, *class),
                Dtype::Float32,
                &[1000],
                &bytes,
                Some(0),
            )
            .unwrap();
    }
    writer.finish(head()).unwrap();
    // The shapes and counts of the 8B have some digits more.
    let path = target.join("manifest.json");
    let mut manifest: golden::Manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (entry, (_, _, shape)) in manifest.entries[1..].iter_mut().zip(&sites) {
        entry.shape.clone_from(shape);
        entry.sketch.as_mut().unwrap().count = shape.iter().product::<usize>() as u64;
    }
    std::fs::write(&path, manifest.to_json().unwrap()).unwrap();
    assert_eq!(golden::Dump::open(&target).unwrap().entries().len(), sites.len() + 1);
    let bytes: u64 =
        std::fs::read_dir(&target).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!((1_000_000..2_000_000).contains(&bytes), "{bytes}");
}
