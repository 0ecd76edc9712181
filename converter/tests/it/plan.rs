//! The plan: every tensor of the source exactly once, and exactly what the configuration implies.

use std::collections::BTreeSet;

use converter::TensorProblem;
use converter::architecture::{Part, TensorLayout};
use converter::nemotron_vl::ARCHITECTURE;
use converter::normalized::{Config, TorchDtype};
use converter::plan::{Action, Plan, PlanOptions, ShardSize, Slice, SourceTensor};
use proptest::prelude::*;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::hand_made::{layout, normalized_config};

const KEEP: PlanOptions = PlanOptions::KEEP;

/// The configuration of the 8B, as its public files and tensors say.
fn eight_billion() -> Config {
    let mut config = normalized_config();
    let set = |config: &mut Value, fields: &[(&str, Value)]| {
        for (pointer, value) in fields {
            *config.pointer_mut(pointer).unwrap() = value.clone();
        }
    };
    set(
        &mut config,
        &[
            ("/text_config/vocab_size", json!(128_512)),
            ("/text_config/hidden_size", json!(4096)),
            ("/text_config/intermediate_size", json!(14_336)),
            ("/text_config/num_hidden_layers", json!(32)),
            ("/text_config/num_attention_heads", json!(32)),
            ("/text_config/num_key_value_heads", json!(8)),
            ("/text_config/head_dim", json!(128)),
            ("/vision_config/hidden_size", json!(1280)),
            ("/vision_config/num_hidden_layers", json!(32)),
            ("/vision_config/num_attention_heads", json!(16)),
            ("/vision_config/patch_size", json!(16)),
            ("/vision_config/image_size", json!(512)),
            ("/vision_config/max_img_size", json!(2048)),
            ("/vision_config/num_cls_tokens", json!(4)),
            ("/vision_config/num_registers", json!(4)),
            ("/projector_hidden_size", json!(4096)),
            ("/vision_hidden_size", json!(1280)),
            ("/image_seq_length", json!(256)),
            ("/image_token_id", json!(128_256)),
            ("/image_processor/image_size", json!(512)),
        ],
    );
    let config: Config = serde_json::from_value(config).unwrap();
    config.validate("config.json".as_ref()).unwrap();
    config
}

/// The source tensors of which a configuration's are made, with the conditioner's buffers.
fn sources(config: &Config) -> Vec<SourceTensor> {
    let mut seen = BTreeSet::new();
    let mut tensors: Vec<SourceTensor> = layout(config)
        .into_iter()
        .filter_map(|tensor| {
            let name = ARCHITECTURE.names.of_target(&tensor.name).unwrap().sources.remove(0);
            let mut shape = tensor.shape;
            if name.contains(".qkv.") {
                shape[0] *= 3;
            }
            seen.insert(name.clone()).then(|| source(&name, &shape))
        })
        .collect();
    for name in ["norm_mean", "norm_std"] {
        tensors.push(source(&format!("vision_model.radio_model.input_conditioner.{name}"), &[3, 1, 1]));
    }
    tensors
}

fn source(name: &str, shape: &[usize]) -> SourceTensor {
    SourceTensor {
        name: name.into(),
        dtype: Dtype::BF16,
        shape: shape.to_vec(),
        file: "model-00001-of-00004.safetensors".into(),
    }
}

#[test]
fn the_8b_has_686_tensors_and_fits_into_four_files() {
    let config = eight_billion();
    let tensors = sources(&config);
    assert_eq!(tensors.len(), 686);
    let plan = Plan::new(&ARCHITECTURE, tensors, &config, KEEP).unwrap();
    assert_eq!(plan.rows.len(), 686);
    let parameters: usize = plan.outputs.iter().map(|output| output.shape.iter().product::<usize>()).sum();
    // Llama with its 128,512 tokens, the tower, the projector: each added up by hand.
    assert_eq!(parameters, 8_032_358_400 + 651_642_880 + 37_767_168);
    assert_eq!(plan.shards.len(), 4);
    assert_eq!(plan.shards[3].file, "model-00004-of-00004.safetensors");
    for shard in &plan.shards {
        assert!(shard.header.len() + shard.data_bytes <= 5_000_000_000, "{}", shard.file);
    }
    let count = |action: Action| plan.rows.iter().filter(|row| row.action == action).count();
    assert_eq!(
        [Action::Kept, Action::Renamed, Action::Split, Action::Skipped].map(count),
        [291, 3 + 32 * 10 + 6, 64, 2]
    );
}

#[test]
fn a_split_takes_three_contiguous_thirds() {
    let config: Config = serde_json::from_value(normalized_config()).unwrap();
    let plan = Plan::new(&ARCHITECTURE, sources(&config), &config, KEEP).unwrap();
    let row = plan
        .rows
        .iter()
        .find(|row| row.source.name == "vision_model.radio_model.model.blocks.1.attn.qkv.weight")
        .unwrap();
    let targets: Vec<_> = row
        .outputs
        .iter()
        .map(|&i| (plan.outputs[i].name.as_str(), plan.outputs[i].only_input().unwrap().clone()))
        .collect();
    let place = plan.rows.iter().position(|other| other == row).unwrap();
    let rows = |rows| Slice { row: place, rows, columns: 0..12 };
    assert_eq!(
        targets,
        [
            ("vision_model.encoder.layer.1.attention.q_proj.weight", rows(0..12)),
            ("vision_model.encoder.layer.1.attention.k_proj.weight", rows(12..24)),
            ("vision_model.encoder.layer.1.attention.v_proj.weight", rows(24..36)),
        ]
    );
}

#[test]
fn several_wrong_tensors_are_named_together() {
    let config: Config = serde_json::from_value(normalized_config()).unwrap();
    let mut tensors = sources(&config);
    tensors.retain(|tensor| tensor.name != "vision_model.radio_model.model.blocks.0.attn.qkv.weight");
    tensors.push(source("vision_model.radio_model.model.blocks.9.norm1.weight", &[12]));
    tensors.push(source("head.weight", &[12]));
    tensors.push(source("vision_model.radio_model.adaptors.clip.weight", &[12]));
    for tensor in &mut tensors {
        match tensor.name.as_str() {
            "mlp1.1.weight" => tensor.shape.reverse(),
            "mlp1.3.bias" => tensor.dtype = Dtype::F8_E4M3,
            _ => {}
        }
    }
    let problems = Plan::new(&ARCHITECTURE, tensors, &config, KEEP).unwrap_err();
    let file = || "model-00001-of-00004.safetensors".to_string();
    assert_eq!(
        problems,
        [
            TensorProblem::Shape {
                name: "mlp1.1.weight".into(),
                expected: vec![36, 48],
                found: vec![48, 36]
            },
            TensorProblem::Dtype {
                name: "mlp1.3.bias".into(),
                expected: "`F32`, `BF16` or `F16`",
                found: Dtype::F8_E4M3
            },
            TensorProblem::Unknown {
                name: "vision_model.radio_model.model.blocks.9.norm1.weight".into(),
                file: file()
            },
            TensorProblem::Unknown { name: "head.weight".into(), file: file() },
            TensorProblem::Refused {
                name: "vision_model.radio_model.adaptors.clip.weight".into(),
                reason: "adaptors are not supported"
            },
            TensorProblem::Missing {
                name: "vision_model.radio_model.model.blocks.0.attn.qkv.weight".into(),
                shape: vec![36, 12]
            },
        ]
    );
}

#[test]
fn two_sources_of_one_tensor_collide() {
    let mut config = normalized_config();
    config["vision_config"]["layerscale_value"] = json!(1e-5);
    let config: Config = serde_json::from_value(config).unwrap();
    let mut tensors = sources(&config);
    tensors.push(source("vision_model.radio_model.model.blocks.2.ls1.grandma", &[12]));
    assert_eq!(
        Plan::new(&ARCHITECTURE, tensors, &config, KEEP).unwrap_err(),
        [TensorProblem::Collision {
            name: "vision_model.radio_model.model.blocks.2.ls1.grandma".into(),
            target: "vision_model.encoder.layer.2.layer_scale1.lambda1".into(),
            first: "vision_model.radio_model.model.blocks.2.ls1.gamma".into(),
        }]
    );
}

#[test]
fn a_part_leaves_the_others_out_and_says_so() {
    let config: Config = serde_json::from_value(normalized_config()).unwrap();
    let tensors = sources(&config);
    // Of the tower, queries, keys and values stay one tensor; its buffers come from the configuration.
    for (part, written, buffers) in [(Part::Text, 21, 0), (Part::Vision, 57 - 3 * 4, 3)] {
        let options = PlanOptions { part, ..KEEP };
        let plan = Plan::new(&ARCHITECTURE, tensors.clone(), &config, options).unwrap();
        assert_eq!(plan.outputs.len(), written);
        assert_eq!(plan.shards.iter().map(|shard| shard.buffers.len()).sum::<usize>(), buffers);
        let of_text = |name: &str| name.starts_with("model.") || name == "lm_head.weight";
        for output in &plan.outputs {
            assert_eq!(of_text(&output.name), part == Part::Text, "{}", output.name);
        }
        assert_eq!(plan.rows.len(), tensors.len());
        let left_out = plan.rows.iter().filter(|row| row.reason.contains("not in the part")).count();
        assert_eq!(left_out, if part == Part::Text { 45 } else { 21 });
    }
}

#[test]
fn wider_elements_come_first_so_that_all_are_aligned() {
    let config: Config = serde_json::from_value(normalized_config()).unwrap();
    let mut tensors = sources(&config);
    for tensor in tensors.iter_mut().filter(|tensor| tensor.name.contains("norm")) {
        tensor.dtype = Dtype::F32;
    }
    let plan = Plan::new(&ARCHITECTURE, tensors, &config, KEEP).unwrap();
    for shard in &plan.shards {
        assert!(shard.header.len().is_multiple_of(8));
        for &i in &shard.outputs {
            let output = &plan.outputs[i];
            assert!(output.offset.is_multiple_of(output.dtype.elem_bytes()), "{}", output.name);
        }
    }
}

fn dtype() -> impl Strategy<Value = Option<TorchDtype>> {
    prop_oneof![
        Just(None),
        Just(Some(TorchDtype::Float32)),
        Just(Some(TorchDtype::Bfloat16)),
        Just(Some(TorchDtype::Float16))
    ]
}

fn small_config() -> impl Strategy<Value = Config> {
    (1usize..4, 1usize..4, any::<[bool; 6]>()).prop_map(|(layers, blocks, flags)| {
        let mut config = normalized_config();
        config["text_config"]["num_hidden_layers"] = json!(layers);
        config["vision_config"]["num_hidden_layers"] = json!(blocks);
        config["text_config"]["tie_word_embeddings"] = json!(flags[0]);
        config["text_config"]["attention_bias"] = json!(flags[1]);
        config["text_config"]["mlp_bias"] = json!(flags[2]);
        config["vision_config"]["qkv_bias"] = json!(flags[3]);
        config["vision_config"]["model_norm"] = json!(flags[4]);
        if flags[5] {
            config["vision_config"]["layerscale_value"] = json!(1e-5);
        }
        serde_json::from_value(config).unwrap()
    })
}

proptest! {
    /// Whatever the model, each source tensor has one row, each byte of a written one goes to one target, and the
    /// targets are the configuration's, each in one file, behind one another.
    #[test]
    fn every_byte_has_one_place(
        config in small_config(),
        part in prop_oneof![Just(Part::All), Just(Part::Text), Just(Part::Vision)],
        dtype in dtype(),
        max in 500u64..40_000,
        order in any::<u64>(),
    ) {
        let mut tensors = sources(&config);
        // The order of the source must not matter.
        tensors.sort_by_key(|tensor| tensor.name.bytes().fold(order, |hash, byte| hash.rotate_left(5) ^ u64::from(byte)));
        let max_shard_size: ShardSize = max.to_string().parse().unwrap();
        let options = PlanOptions { part, dtype, max_shard_size };
        let plan = Plan::new(&ARCHITECTURE, tensors.clone(), &config, options).unwrap();

        let rows: Vec<&SourceTensor> = plan.rows.iter().map(|row| &row.source).collect();
        prop_assert_eq!(rows, tensors.iter().collect::<Vec<_>>());
        for (i, row) in plan.rows.iter().enumerate() {
            let mut covered = 0;
            for &output in &row.outputs {
                let input = plan.outputs[output].only_input().unwrap();
                prop_assert_eq!((input.row, input.rows.start), (i, covered));
                prop_assert_eq!(input.columns.len(), row.source.columns());
                covered = input.rows.end;
            }
            let expected = if row.action == Action::Skipped { 0 } else { row.source.rows() };
            prop_assert_eq!(covered, expected, "{}", row.source.name);
        }
        let names: Vec<&str> = plan.outputs.iter().map(|output| output.name.as_str()).collect();
        let expected = (ARCHITECTURE.layout)(&config, part).into_iter().map(|TensorLayout { name, .. }| name);
        let expected: Vec<String> = match part {
            Part::All => expected.collect(),
            Part::Text => expected.map(|name| name.replacen("language_model.", "", 1)).collect(),
            Part::Vision => expected
                .filter(|name| !name.contains("k_proj") && !name.contains("v_proj"))
                .map(|name| name.replace("attention.q_proj", "attn.qkv").replace("attention.o_proj", "attn.proj"))
                .map(|name| name.replacen("vision_model.", "", 1))
                .collect(),
        };
        prop_assert_eq!(names, expected);

        let mut placed = 0;
        for (i, shard) in plan.shards.iter().enumerate() {
            let mut end = shard.buffers.iter().map(|buffer| buffer.bytes.len()).sum();
            for &output in &shard.outputs {
                let output = &plan.outputs[output];
                prop_assert_eq!((output.shard, output.offset), (i, end));
                end += output.bytes();
                placed += 1;
            }
            prop_assert_eq!(end, shard.data_bytes);
            let size = (shard.header.len() + shard.data_bytes) as u64;
            let is_projector = shard.file == "multi_modal_projector.safetensors";
            let may_be_large = shard.outputs.len() == 1 || is_projector;
            prop_assert!(size <= max || may_be_large, "{} bytes in {}", size, shard.file);
        }
        prop_assert_eq!(placed, plan.outputs.len());
    }
}
