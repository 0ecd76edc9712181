//! The tower's fields, which its constructor's arguments and its buffers give.

use converter::source::Evidence;
use serde_json::{Value, json};

use super::{evidence, prepare, refusal};
use crate::hand_made::Made;
use crate::hand_made_source::{Source, summary_idxs};

#[test]
fn registers_fill_up_to_the_next_multiple() {
    // Cases of (multiple, asked for) with 3 class tokens, and the registers that follow.
    for (multiple, asked, registers) in [
        (json!(8), Value::Null, 5),
        (json!(3), Value::Null, 3),
        (json!(1), Value::Null, 1),
        (json!(0), Value::Null, 0),
        (Value::Null, Value::Null, 0),
        (json!(8), json!(2), 2),
        (json!(8), json!(0), 5),
        (Value::Null, json!(4), 4),
    ] {
        let mut source = Source::sound()
            .with("/vision_config/args/register_multiple", multiple.clone())
            .with("/vision_config/args/cpe_num_registers", asked.clone());
        let name = "vision_model.radio_model.model.patch_generator.cls_token.token";
        source = source.without_tensor(name);
        source.tensors.push(Made::new(name, safetensors::Dtype::BF16, &[3 + registers, 12]));
        assert_eq!(prepare(&source).0.vision_config.num_registers, registers, "{multiple}, {asked}");
    }
}

#[test]
fn class_tokens_are_the_distinct_teachers_or_one() {
    let name = "vision_model.radio_model.model.patch_generator.cls_token.token";
    let teachers = json!([{ "name": "clip" }, { "name": "clip", "use_summary": null }, { "name": "sam", "use_summary": false }]);
    let mut source = Source::sound().with("/vision_config/args/teachers", teachers).without_tensor(name);
    source.tensors.push(Made::new(name, safetensors::Dtype::BF16, &[8, 12]));
    let tower = prepare(&source).0.vision_config;
    assert_eq!((tower.num_cls_tokens, tower.num_registers, tower.summary_idxs), (2, 6, vec![0]));

    let source = source.with("/vision_config/args/cls_token_per_teacher", json!(false));
    let tower = prepare(&source).0.vision_config;
    assert_eq!((tower.num_cls_tokens, tower.num_registers), (1, 7));
}

#[test]
fn the_position_table_is_rounded_to_whole_patches() {
    // 21 / 4 = 5.25 rounds to 5; 22 / 4 = 5.5 is a tie and rounds to the even 6, of which there are too few positions.
    let source = Source::sound().with("/vision_config/args/cpe_max_size", json!(21));
    assert_eq!(prepare(&source).0.vision_config.max_img_size, 20);
    let message = refusal(&Source::sound().with("/vision_config/args/cpe_max_size", json!(22)));
    assert!(message.contains("pos_embed`: expected shape [1, 36, 12], found [1, 25, 12]"), "{message}");
    let message = refusal(&Source::sound().with("/vision_config/args/cpe_max_size", json!(224)));
    assert!(message.contains("a size other than the registered 224"), "{message}");
}

#[test]
fn layer_scale_and_the_final_norm_are_known_by_their_arguments() {
    for leaf in ["gamma", "grandma"] {
        let mut source = Source::sound()
            .with("/vision_config/args/model_kwargs/init_values", json!(1e-5))
            .with("/vision_config/args/model_norm", json!(true));
        for i in 0..3 {
            for scale in ["ls1", "ls2"] {
                let name = format!("vision_model.radio_model.model.blocks.{i}.{scale}.{leaf}");
                source = source.with_tensor(&name, safetensors::Dtype::BF16, &[12]);
            }
        }
        for name in ["weight", "bias"] {
            let name = format!("vision_model.radio_model.model.norm.{name}");
            source = source.with_tensor(&name, safetensors::Dtype::BF16, &[12]);
        }
        let tower = prepare(&source).0.vision_config;
        assert_eq!((tower.layerscale_value, tower.model_norm), (Some(1e-5), true));
        let message = refusal(&source.with("/vision_config/args/model_norm", json!(false)));
        assert!(
            message.contains("tensor `vision_model.radio_model.model.norm.weight`: expected no such tensor"),
            "{message}"
        );
    }
    // timm builds no LayerScale for 0.
    let source = Source::sound().with("/vision_config/args/model_kwargs/init_values", json!(0.0));
    assert_eq!(prepare(&source).0.vision_config.layerscale_value, None);
}

#[test]
fn buffers_win_over_arguments_and_a_contradiction_is_told() {
    let mut source = Source::sound();
    source.tensors.push(summary_idxs(&[0, 2]));
    let (config, findings) = prepare(&source);
    assert_eq!(config.vision_config.summary_idxs, [0, 2]);
    assert_eq!(findings.warnings.len(), 1);
    assert!(findings.warnings[0].contains("`summary_idxs` is [0, 2] as stored and [0, 1] by the teachers"));

    let mut source = Source::sound();
    source.tensors.push(summary_idxs(&[3]));
    assert!(
        refusal(&source)
            .contains("field `vision_config.args.teachers`: expected indices below `num_cls_tokens`, 3")
    );
    let mut source = Source::sound();
    source.tensors.push(summary_idxs(&[-1]));
    assert!(refusal(&source).contains("summary_idxs`: expected indices from 0, found `-1`"));
}

#[test]
fn a_checkpoint_without_its_conditioner_is_assumed_to_have_clips() {
    let source = Source::sound()
        .without_tensor("vision_model.radio_model.input_conditioner.norm_mean")
        .without_tensor("vision_model.radio_model.input_conditioner.norm_std");
    let (config, findings) = prepare(&source);
    assert_eq!(config.vision_config.norm_mean, [0.48145466, 0.4578275, 0.40821073]);
    assert_eq!(config.vision_config.norm_std, [0.26862954, 0.26130258, 0.27577711]);
    assert!(matches!(evidence(&findings, "vision_config.norm_std"), Evidence::Assumed { .. }));
}
