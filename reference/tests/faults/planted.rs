//! The mistakes, each with the site where it must be found and the name that it must be called by.

use converter::normalized::TorchDtype;
use reference::mistakes as bank;
use serde_json::{Value, json};
use validate::diagnosis::DiagnosisKind;

use crate::edit::Edit;
use crate::plant::{Plant, Planted};
use crate::runs::{B16, F32, WIDE};

const TOWER: &str = "vision_model.radio_model.model";
const LLAMA: &str = "language_model.model";

fn tower_layer(layer: usize, rest: &str) -> String {
    format!("vision_model.encoder.layer.{layer}.{rest}")
}

fn llama_layer(layer: usize, rest: &str) -> String {
    format!("{LLAMA}.layers.{layer}.{rest}")
}

/// From halves to pairs in each head of 32: how Meta's own checkpoints have the rows.
fn to_pairs(edit: &mut Edit) {
    for name in ["q_proj", "k_proj"] {
        let tensor = edit.get(&llama_layer(0, &format!("self_attn.{name}.weight")));
        let rows = tensor.shape[0];
        tensor.rows((0..rows).map(|row| row - row % 32 + row % 2 * 16 + row % 32 / 2));
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn all() -> Vec<Planted> {
    let tower = |site: &str| format!("{TOWER}.{site}");
    let llama = |site: &str| format!("{LLAMA}.{site}");
    let planted = |what, plant, golden, site: &str, mistake| Planted {
        what,
        plant,
        golden,
        site: site.to_owned(),
        mistake,
    };
    let code = |mistake: bank::Mistake, golden, site: &str, told| {
        planted(mistake.what, Plant::Code(mistake), golden, site, told)
    };
    use DiagnosisKind as M;
    use Plant::{Checkpoint, CodeOn, Given, Pictures, Pixels, Recorded};
    vec![
        // What the model is given.
        planted(
            "pixels from 0 to 255, and not from 0 to 1",
            Given(|given| {
                given.pixels.iter_mut().for_each(|pixel| *pixel *= 255.0);
            }),
            F32,
            "pixel_values",
            Some(M::Scale),
        ),
        planted(
            "blue, green and red, and not red, green and blue",
            Given(|given| {
                let plane = given.shape[2] * given.shape[3];
                for tile in given.pixels.chunks_exact_mut(3 * plane) {
                    let (red, rest) = tile.split_at_mut(plane);
                    red.swap_with_slice(&mut rest[plane..]);
                }
            }),
            B16,
            "pixel_values",
            Some(M::ColourOrder),
        ),
        planted(
            "the thumbnail first, and not last",
            Given(|given| {
                let tile = given.pixels.len() / 3;
                given.pixels.rotate_right(tile);
            }),
            WIDE,
            "pixel_values",
            Some(M::TileOrder),
        ),
        planted(
            "no thumbnail",
            Given(|given| {
                let tile = given.pixels.len() / 3;
                given.pixels.truncate(2 * tile);
                given.shape[0] = 2;
                let first = given.ids.iter().position(|&id| id == 494).unwrap();
                given.ids.drain(first..first + 16);
                given.prompt = given.prompt.replacen(&"<image>".repeat(16), "", 1);
            }),
            WIDE,
            "prompt",
            Some(M::MissingTiles),
        ),
        planted(
            "the picture is not doubled",
            Pictures {
                file: "rgb-301x97.png",
                change: |edit| edit.config["image_processor"]["upscale_factor"] = json!(1),
            },
            B16,
            "prompt",
            None,
        ),
        // The tower.
        planted(
            "pixels are not normalised",
            Checkpoint(|edit| {
                edit.config["vision_config"]["norm_mean"] = json!([0.0, 0.0, 0.0]);
                edit.config["vision_config"]["norm_std"] = json!([1.0, 1.0, 1.0]);
            }),
            B16,
            "vision_model.radio_model.input_conditioner",
            Some(M::Normalisation),
        ),
        code(
            bank::NORMALISED_TWICE,
            B16,
            "vision_model.radio_model.input_conditioner",
            Some(M::Normalisation),
        ),
        planted(
            "pixels are normalised by ImageNet's mean and deviation, and not CLIP's",
            Checkpoint(|edit| {
                edit.config["vision_config"]["norm_mean"] = json!([0.485, 0.456, 0.406]);
                edit.config["vision_config"]["norm_std"] = json!([0.229, 0.224, 0.225]);
            }),
            F32,
            "vision_model.radio_model.input_conditioner",
            Some(M::Normalisation),
        ),
        planted(
            "pixels are rounded to bfloat16 before they are normalised",
            Pixels { golden: TorchDtype::Float32, candidate: TorchDtype::Bfloat16 },
            B16,
            "vision_model.radio_model.input_conditioner",
            Some(M::PixelRounding),
        ),
        planted(
            "the same in a float32 run",
            Pixels { golden: TorchDtype::Float32, candidate: TorchDtype::Bfloat16 },
            F32,
            "vision_model.radio_model.input_conditioner",
            Some(M::PixelRounding),
        ),
        planted(
            "pixels are not rounded before they are normalised, where the golden run's caller rounds them",
            Pixels { golden: TorchDtype::Bfloat16, candidate: TorchDtype::Float32 },
            WIDE,
            "vision_model.radio_model.input_conditioner",
            Some(M::PixelRounding),
        ),
        code(bank::COLOURS_LAST, B16, &tower("patch_generator.im_to_patches"), Some(M::PatchOrder)),
        planted(
            "positions are resized without `align_corners`",
            Checkpoint(|edit| {
                edit.config["vision_config"]["position_interpolation_align_corners"] = json!(false);
            }),
            B16,
            &tower("patch_generator.cls_token"),
            Some(M::AlignCorners),
        ),
        code(bank::POSITIONS_CUT, B16, &tower("patch_generator.cls_token"), None),
        code(bank::PREFIX_BEHIND, B16, &tower("patch_generator.cls_token"), Some(M::Shift)),
        planted(
            "registers are dropped: class tokens alone stand in front",
            Checkpoint(|edit| {
                edit.config["vision_config"]["num_registers"] = json!(0);
                edit.get("vision_model.embeddings.cls_register_token").rows(0..4);
            }),
            B16,
            &tower("patch_generator.cls_token"),
            Some(M::MissingRows),
        ),
        code(bank::REGISTERS_KEPT, B16, "vision_model", Some(M::Shift)),
        planted(
            "queries and keys are exchanged",
            Checkpoint(|edit| {
                for rest in ["weight", "bias"] {
                    let name = |part: &str| tower_layer(1, &format!("attention.{part}.{rest}"));
                    edit.exchange(&name("q_proj"), &name("k_proj"));
                }
            }),
            B16,
            &tower("blocks.1.attn.qkv"),
            Some(M::QkvOrder),
        ),
        planted(
            "the scale of the scores is multiplied into the queries, and applied again",
            Checkpoint(|edit| {
                for rest in ["weight", "bias"] {
                    edit.scale(&tower_layer(2, &format!("attention.q_proj.{rest}")), 24.0_f32.powf(-0.5));
                }
            }),
            F32,
            &tower("blocks.2.attn.qkv"),
            Some(M::Scale),
        ),
        code(bank::QKV_BY_HEAD, B16, &tower("blocks.0.attn.proj"), Some(M::HeadLayout)),
        code(bank::CAUSAL_TOWER, B16, &tower("blocks.0.attn.proj"), Some(M::Mask)),
        code(bank::TANH_GELU, F32, &tower("blocks.0.mlp.act"), Some(M::Activation)),
        planted(
            "the bias of `fc2` is missing",
            Checkpoint(|edit| {
                edit.scale(&tower_layer(1, "mlp.fc2.bias"), 0.0);
            }),
            B16,
            &tower("blocks.1.mlp.fc2"),
            Some(M::Bias),
        ),
        planted(
            "the tower's norms have an epsilon of 1e-5, and not 1e-6",
            Checkpoint(|edit| {
                edit.config["vision_config"]["layer_norm_eps"] = json!(1e-5);
            }),
            F32,
            &tower("blocks.0.norm1"),
            Some(M::Epsilon),
        ),
        code(bank::NORM_AFTER, B16, &tower("blocks.0.norm1"), None),
        code(bank::RESIDUAL_LOST, B16, &tower("blocks.0.norm2"), None),
        planted(
            "a final norm too many behind the tower",
            Checkpoint(|edit| {
                edit.config["vision_config"]["model_norm"] = json!(true);
                for (name, value) in [("weight", 1.0), ("bias", 0.0)] {
                    let tensor = crate::edit::Tensor { shape: vec![96], values: vec![value; 96] };
                    edit.tensors.insert(format!("vision_model.layernorm.{name}"), tensor);
                }
            }),
            B16,
            "vision_model",
            None,
        ),
        // The projector.
        planted(
            "pixel shuffle `v1`: a transposed picture",
            Checkpoint(|edit| {
                edit.config["ps_version"] = json!("v1");
            }),
            WIDE,
            "mlp1.0",
            Some(M::Transposed),
        ),
        planted(
            bank::FEATURES_NOT_CAST.what,
            CodeOn {
                checkpoint: |edit| edit.config["vision_config"]["dtype"] = json!("float32"),
                mistake: bank::FEATURES_NOT_CAST,
            },
            B16,
            "mlp1.0",
            None,
        ),
        planted(
            "the projector's norm has an epsilon of 1e-2, and not 1e-5",
            Checkpoint(|edit| {
                edit.config["projector_layer_norm_eps"] = json!(1e-2);
            }),
            F32,
            "mlp1.0",
            Some(M::Epsilon),
        ),
        code(bank::MERGED_ONE_LATE, B16, "inputs_embeds", Some(M::Shift)),
        code(bank::MERGED_TILES_REVERSED, WIDE, "inputs_embeds", Some(M::TileOrder)),
        // The decoder.
        planted(
            "embeddings are multiplied by the root of their width",
            Checkpoint(|edit| {
                edit.scale(&format!("{LLAMA}.embed_tokens.weight"), 128.0_f32.sqrt());
            }),
            B16,
            &llama("embed_tokens"),
            Some(M::Scale),
        ),
        planted(
            "no `llama3` scaling of the frequencies",
            Checkpoint(|edit| {
                edit.config["text_config"]["rope_scaling"] = Value::Null;
            }),
            B16,
            &llama("rotary_emb.sin"),
            Some(M::Frequencies),
        ),
        planted(
            "`rope_theta` 10,000, and not 500,000",
            Checkpoint(|edit| {
                edit.config["text_config"]["rope_theta"] = json!(1e4);
            }),
            F32,
            &llama("rotary_emb.cos"),
            Some(M::Frequencies),
        ),
        code(bank::POSITIONS_FROM_ONE, F32, &llama("rotary_emb.cos"), Some(M::Shift)),
        planted(
            "rows of `q_proj` and `k_proj` for pairs, and not for halves",
            Checkpoint(to_pairs),
            B16,
            &llama("layers.0.self_attn.q_proj"),
            Some(M::Interleaved),
        ),
        code(bank::ROTARY_PAIRS, B16, &llama("layers.0.self_attn.o_proj"), Some(M::Interleaved)),
        code(bank::KEYS_NOT_ROTATED, B16, &llama("layers.0.self_attn.o_proj"), Some(M::NotRotated)),
        code(bank::MASK_LEAK, B16, &llama("layers.0.self_attn.o_proj"), Some(M::Mask)),
        code(bank::MASK_ONE_AHEAD, B16, &llama("layers.0.self_attn.o_proj"), Some(M::Mask)),
        code(bank::SCALED_BY_WIDTH, B16, &llama("layers.0.self_attn.o_proj"), Some(M::AttentionScale)),
        code(bank::NOT_SCALED, B16, &llama("layers.0.self_attn.o_proj"), Some(M::AttentionScale)),
        code(bank::KV_HEADS_IN_TURN, B16, &llama("layers.0.self_attn.o_proj"), Some(M::KvHeads)),
        planted(
            "the decoder's norms have an epsilon of 1e-6, and not 1e-5",
            Checkpoint(|edit| {
                edit.config["text_config"]["rms_norm_eps"] = json!(1e-6);
            }),
            F32,
            &llama("layers.0.input_layernorm"),
            Some(M::Epsilon),
        ),
        code(bank::NORM_PLUS_ONE, B16, &llama("layers.0.input_layernorm"), Some(M::UnitOffset)),
        code(bank::GELU_FOR_SILU, B16, &llama("layers.0.mlp.act_fn"), Some(M::Activation)),
        planted(
            "`gate_proj` and `up_proj` are exchanged",
            Checkpoint(|edit| {
                edit.exchange(&llama_layer(2, "mlp.gate_proj.weight"), &llama_layer(2, "mlp.up_proj.weight"));
            }),
            B16,
            &llama("layers.2.mlp.gate_proj"),
            Some(M::OtherSite),
        ),
        planted(
            "query heads 1 and 2 are exchanged",
            Checkpoint(|edit| {
                let tensor = edit.get(&llama_layer(1, "self_attn.q_proj.weight"));
                tensor.rows((0..4).flat_map(|head| [0, 2, 1, 3][head] * 32..([0, 2, 1, 3][head] + 1) * 32));
            }),
            B16,
            &llama("layers.1.self_attn.q_proj"),
            Some(M::HeadOrder),
        ),
        planted(
            "`o_proj` is transposed",
            Checkpoint(|edit| {
                edit.get(&llama_layer(1, "self_attn.o_proj.weight")).transpose();
            }),
            B16,
            &llama("layers.1.self_attn.o_proj"),
            None,
        ),
        planted(
            "the last layer is left out",
            Checkpoint(|edit| {
                edit.config["text_config"]["num_hidden_layers"] = json!(3);
                edit.tensors.retain(|name, _| !name.starts_with("language_model.model.layers.3."));
            }),
            B16,
            &llama("norm"),
            None,
        ),
        code(bank::NORM_TWICE, B16, LLAMA, None),
        code(bank::LAST_BUT_ONE, B16, "language_model.lm_head", None),
        planted(
            "`lm_head` is taken for tied to the embedding",
            Checkpoint(|edit| {
                edit.config["text_config"]["tie_word_embeddings"] = json!(true);
                edit.tensors.remove("language_model.lm_head.weight");
            }),
            B16,
            "language_model.lm_head",
            None,
        ),
        // Rounding.
        planted(
            "computed in bfloat16, recorded in float32, and held to the limits of float32",
            Recorded { run: B16 },
            F32,
            "vision_model.radio_model.input_conditioner",
            Some(M::Bfloat16),
        ),
        // Decoding.
        code(bank::CACHE_OVERWRITES, F32, "step_logits", Some(M::Decoding)),
        code(bank::POSITION_STANDS, B16, "step_logits", Some(M::Decoding)),
    ]
}
