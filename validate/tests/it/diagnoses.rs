//! Known mistakes, planted one at a time: each is named, with the tokens and channels that it is in.

use golden::{Dtype, Dump, TensorView};
use validate::diagnosis::{DiagnosisKind, Place};
use validate::{DiffReport, report};

use crate::dumps::{Candidate, Tensor, bundled, compare, first_named};

const TILES: &str = "shapes-wide-bfloat16";
const ONE: &str = "shapes-describe-bfloat16";
const F32: &str = "shapes-describe-float32";
const TOWER: &str = "vision_model.radio_model.model";

/// Asserts that a change of a site is named first, with the mistake as its best explanation; tells what is said.
fn diagnosed(
    name: &str,
    site: &str,
    mistake: DiagnosisKind,
    change: impl FnOnce(&mut Tensor),
) -> Vec<String> {
    let report = compare(name, &Candidate::changing(name, site, change));
    assert_eq!(first_named(&report), site);
    said(&report, mistake)
}

fn said(report: &DiffReport, mistake: DiagnosisKind) -> Vec<String> {
    let findings = report.findings.as_ref().unwrap();
    let found: Vec<DiagnosisKind> = findings.diagnoses.iter().map(|diagnosis| diagnosis.kind).collect();
    assert_eq!(found.first(), Some(&mistake), "{findings:?}");
    let best = &findings.diagnoses[0];
    let explanation = &best.explanation;
    assert!(explanation.after < explanation.before, "{best:?}");
    findings.places.iter().map(report::place).chain([report::explanation(explanation)]).collect()
}

fn values(name: &str, site: &str) -> Vec<f64> {
    Dump::open(bundled(name)).unwrap().get(site).unwrap().to_f64_vec()
}

/// Takes every element from another place of the same tensor.
fn rearrange(tensor: &mut Tensor, from: impl Fn(usize) -> usize) {
    let view = TensorView::new(tensor.dtype, &tensor.shape, &tensor.data).unwrap();
    let values = view.to_f64_vec();
    tensor.map(|index, _| values[from(index)]);
}

#[test]
fn a_scale_factor() {
    let said =
        diagnosed(ONE, "language_model.model.layers.2.self_attn.o_proj", DiagnosisKind::Scale, |tensor| {
            tensor.map(|_, value| value / 32_f64.sqrt());
        });
    assert_eq!(said[0], "every one of 41 rows is off");
    assert!(said.last().unwrap().starts_with("it is 0.176"), "{said:?}");
}

#[test]
fn a_scale_factor_of_one_part() {
    let site = format!("{TOWER}.blocks.2.attn.qkv");
    let said = diagnosed(ONE, &site, DiagnosisKind::Scale, |tensor| {
        let row_len = tensor.row_len();
        tensor.map(|index, value| if index % row_len / 96 == 1 { value / 8.0 } else { value });
    });
    assert_eq!(said[1], "the error is in channels 96 to 191 of 288, all in the keys");
    assert_eq!(said.last().unwrap(), "its keys are 0.125 times the golden ones");
}

#[test]
fn an_error_that_is_small_everywhere_is_everywhere() {
    let site = format!("{TOWER}.blocks.1.attn.qkv");
    let said = diagnosed(ONE, &site, DiagnosisKind::Bias, |tensor| {
        let row_len = tensor.row_len();
        tensor.map(|index, value| {
            value + if index % row_len < 192 { 0.0 } else { (1 + index % row_len % 7) as f64 / 200.0 }
        });
    });
    assert_eq!(said[0], "every one of 72 rows is off");
    assert!(
        said[1].starts_with("the error is in channels 192 to ") && said[1].ends_with("in the values"),
        "{said:?}"
    );
}

#[test]
fn a_missing_bias() {
    let site = format!("{TOWER}.blocks.1.mlp.fc2");
    let said = diagnosed(ONE, &site, DiagnosisKind::Bias, |tensor| {
        let row_len = tensor.row_len();
        tensor.map(|index, value| value + (index % row_len) as f64 / 10.0 - 3.0);
    });
    assert!(said.last().unwrap().contains("is added to every row"), "{said:?}");
}

#[test]
fn rows_with_a_factor_of_their_own() {
    let said =
        diagnosed(ONE, "language_model.model.layers.1.input_layernorm", DiagnosisKind::RowScale, |tensor| {
            let row_len = tensor.row_len();
            tensor.map(|index, value| value * (1.0 - 0.5 / (1.0 + (index / row_len) as f64)));
        });
    assert!(said.last().unwrap().starts_with("each row is the golden one times 0.5 to 0.98"), "{said:?}");
}

#[test]
fn a_shift_by_one_token() {
    for (by, text) in [(-1_isize, "the one before"), (1, "the one after")] {
        let said = diagnosed(
            ONE,
            "language_model.model.layers.0.self_attn.v_proj",
            DiagnosisKind::Shift,
            |tensor| {
                let (row_len, len) = (tensor.row_len(), tensor.len());
                rearrange(tensor, |index| {
                    let from = index as isize + by * row_len as isize;
                    if (0..len as isize).contains(&from) { from as usize } else { index }
                });
            },
        );
        assert!(said.last().unwrap().contains(text), "{said:?}");
    }
}

#[test]
fn tiles_in_another_order() {
    for site in ["pixel_values", "vision_model", "mlp1.1"] {
        let said = diagnosed(TILES, site, DiagnosisKind::TileOrder, |tensor| {
            let per = tensor.len() / 3;
            rearrange(tensor, |index| (index / per + 1) % 3 * per + index % per);
        });
        assert_eq!(said.last().unwrap(), "its tiles are the golden ones 1, 2, 0", "{site}");
    }
}

#[test]
fn two_tiles_exchanged_are_told_from_the_third() {
    let said = diagnosed(TILES, "mlp1.3", DiagnosisKind::TileOrder, |tensor| {
        let per = tensor.len() / 3;
        rearrange(tensor, |index| match index / per {
            2 => index,
            tile => (1 - tile) * per + index % per,
        });
    });
    assert!(said[0].ends_with("in tiles 0, 1 only"), "{said:?}");
}

#[test]
fn a_transposed_picture() {
    // 8 prefix tokens and 8 by 8 patches; 4 by 4 after pixel shuffle.
    let sites = [(format!("{TOWER}.blocks.0"), 8, 8), ("mlp1.0".to_owned(), 0, 4)];
    for (site, prefix, side) in sites {
        let said = diagnosed(TILES, &site, DiagnosisKind::Transposed, |tensor| {
            let (row_len, tokens) = (tensor.row_len(), prefix + side * side);
            rearrange(tensor, |index| {
                let (row, column) = (index / row_len, index % row_len);
                match (row % tokens).checked_sub(prefix) {
                    None => index,
                    Some(patch) => {
                        let to = patch % side * side + patch / side;
                        (row - patch + to) * row_len + column
                    }
                }
            });
        });
        assert_eq!(said.last().unwrap().contains("pixel shuffle"), site == "mlp1.0", "{said:?}");
    }
}

#[test]
fn queries_keys_and_values_exchanged() {
    let site = format!("{TOWER}.blocks.1.attn.qkv");
    let said = diagnosed(ONE, &site, DiagnosisKind::QkvOrder, |tensor| {
        let (row_len, part) = (tensor.row_len(), tensor.row_len() / 3);
        rearrange(tensor, |index| {
            let (row, column) = (index / row_len, index % row_len);
            row * row_len + [1, 0, 2][column / part] * part + column % part
        });
    });
    assert!(said.contains(&"the error is in the queries and keys".to_owned()), "{said:?}");
    assert_eq!(said.last().unwrap(), "its keys are the golden queries, its queries are the golden keys");
}

#[test]
fn interleaved_halves() {
    for site in ["layers.1.self_attn.k_proj", "rotary_emb.sin"] {
        let site = format!("language_model.model.{site}");
        for pairs in [true, false] {
            diagnosed(ONE, &site, DiagnosisKind::Interleaved, |tensor| {
                // Heads of 32.
                rearrange(tensor, |index| {
                    let (head, place) = (index - index % 32, index % 32);
                    head + if pairs { place % 2 * 16 + place / 2 } else { place % 16 * 2 + place / 16 }
                });
            });
        }
    }
}

#[test]
fn another_activation_function() {
    let site = format!("{TOWER}.blocks.1.mlp.act");
    let given = values(F32, &format!("{TOWER}.blocks.1.mlp.fc1"));
    let tanh =
        |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
    let said =
        diagnosed(F32, &site, DiagnosisKind::Activation, |tensor| tensor.map(|index, _| tanh(given[index])));
    assert_eq!(said.last().unwrap(), "it is the GELU with tanh of its input");
    diagnosed(F32, &site, DiagnosisKind::Activation, |tensor| tensor.map(|index, _| given[index].max(0.0)));
}

#[test]
fn the_numbers_of_another_site() {
    // A norm that was left out.
    let site = format!("{TOWER}.blocks.1.norm1");
    let input = values(ONE, &format!("{TOWER}.blocks.0"));
    let said = diagnosed(ONE, &site, DiagnosisKind::OtherSite, |tensor| tensor.map(|index, _| input[index]));
    assert_eq!(said.last().unwrap(), &format!("it has the golden numbers of {TOWER}.blocks.0"));
}

#[test]
fn colours_and_their_normalisation() {
    let plane = 128 * 128;
    diagnosed(ONE, "pixel_values", DiagnosisKind::ColourOrder, |tensor| {
        rearrange(tensor, |index| (2 - index / plane) * plane + index % plane);
    });
    let site = "vision_model.radio_model.input_conditioner";
    let pixels = values(ONE, "pixel_values");
    let said =
        diagnosed(ONE, site, DiagnosisKind::Normalisation, |tensor| tensor.map(|index, _| pixels[index]));
    assert_eq!(said.last().unwrap(), "the pixels are not normalised");
    let (mean, std) = ([0.4815, 0.4578, 0.4082], [0.2686, 0.2613, 0.2758]);
    let said = diagnosed(F32, site, DiagnosisKind::Normalisation, |tensor| {
        let once = tensor.len();
        assert_eq!(once, 3 * plane);
        let view = TensorView::new(tensor.dtype, &tensor.shape, &tensor.data).unwrap().to_f64_vec();
        // As the golden run has it: a line through two of its own points in each channel.
        let pixels = values(F32, "pixel_values");
        let line = |channel: usize| {
            let at = |index: usize| (pixels[channel * plane + index], view[channel * plane + index]);
            let other = (1..plane).find(|&index| (at(index).0 - at(0).0).abs() > 0.1);
            let Some(other) = other else { return (1.0 / std[channel], -mean[channel] / std[channel]) };
            let factor = (at(other).1 - at(0).1) / (at(other).0 - at(0).0);
            (factor, at(0).1 - factor * at(0).0)
        };
        let lines = [line(0), line(1), line(2)];
        tensor.map(|index, value| lines[index / plane].0 * value + lines[index / plane].1);
    });
    assert_eq!(said.last().unwrap(), "the pixels are normalised twice");
}

#[test]
fn parts_of_a_patch_in_another_order() {
    let site = format!("{TOWER}.patch_generator.im_to_patches");
    let said = diagnosed(ONE, &site, DiagnosisKind::PatchOrder, |tensor| {
        rearrange(tensor, |index| index - index % 768 + index % 768 % 3 * 256 + index % 768 / 3);
    });
    assert_eq!(said.last().unwrap(), "each patch has its colours last, and not first");
}

#[test]
fn bfloat16_in_a_float32_run() {
    diagnosed(F32, "mlp1.1", DiagnosisKind::Bfloat16, |tensor| {
        assert_eq!(tensor.dtype, Dtype::Float32);
        tensor.map(|_, value| half::bf16::from_f64(value).to_f64());
    });
}

#[test]
fn one_number_far_off_is_no_mistake_of_places() {
    // Most of the pixels are equal to their neighbours.
    let report = compare(ONE, &Candidate::changing(ONE, "pixel_values", |tensor| tensor.set(1, -3e4)));
    let findings = report.findings.unwrap();
    let places: Vec<String> = findings.places.iter().map(report::place).collect();
    assert_eq!(places, ["1 of 384 rows is off: row 0", "the error is in channel 1 of 128"]);
    assert_eq!(findings.diagnoses, []);
}

#[test]
fn what_no_mistake_explains_has_no_diagnosis() {
    let site = format!("{TOWER}.blocks.1.mlp.fc2");
    let candidate = Candidate::changing(ONE, &site, |tensor| {
        tensor.map(
            |index, value| if index.wrapping_mul(2_654_435_761) % 97 < 40 { 1.3 * value } else { value },
        );
    });
    let report = compare(ONE, &candidate);
    assert_eq!(first_named(&report), site);
    assert_eq!(report.findings.unwrap().diagnoses, []);
}

#[test]
fn a_norm_whose_weight_is_off_by_one() {
    let tower = [format!("{TOWER}.blocks.1.norm1"), format!("{TOWER}.blocks.0")];
    let llama = ["language_model.model.layers.0.input_layernorm", "inputs_embeds"].map(str::to_owned);
    for ([site, input], subtracts_mean) in [(tower, true), (llama, false)] {
        let given = values(ONE, &input);
        let normalised = |row_len: usize, index: usize| {
            let row = &given[index / row_len * row_len..][..row_len];
            let mean_of = |numbers: &mut dyn Iterator<Item = f64>| numbers.sum::<f64>() / row_len as f64;
            let mean = if subtracts_mean { mean_of(&mut row.iter().copied()) } else { 0.0 };
            let variance = mean_of(&mut row.iter().map(|value| (value - mean) * (value - mean)));
            (given[index] - mean) / variance.sqrt()
        };
        for (times, says) in [(1.0, "the norm's weight is applied as 1 + weight"), (-1.0, "too small by 1")] {
            let said = diagnosed(ONE, &site, DiagnosisKind::UnitOffset, |tensor| {
                let row_len = tensor.row_len();
                tensor.map(|index, value| value + times * normalised(row_len, index));
            });
            assert!(said.last().unwrap().contains(says), "{site}: {said:?}");
        }
    }
}

#[test]
fn another_epsilon() {
    // The variance of what is normalised tells by how much each row changes.
    let site = "language_model.model.layers.0.input_layernorm";
    let given = values(F32, "inputs_embeds");
    let said = diagnosed(F32, site, DiagnosisKind::Epsilon, |tensor| {
        let width = tensor.row_len();
        let variance = |row: usize| {
            given[row * width..][..width].iter().map(|value| value * value).sum::<f64>() / width as f64
        };
        tensor.map(|index, value| {
            let variance = variance(index / width);
            value * ((variance + 1e-5) / (variance + 1e-6)).sqrt()
        });
    });
    assert_eq!(
        said.last().unwrap(),
        "each row is longer or shorter as with an epsilon of 1e-6, and not 1e-5"
    );
}

#[test]
fn heads_that_carry_the_error() {
    let site = "language_model.model.layers.1.self_attn.q_proj";
    let candidate = Candidate::changing(ONE, site, |tensor| {
        // Of two of four heads of 32 the numbers are spoilt, each in another way.
        tensor.map(|index, value| match index % 128 / 32 {
            1 | 3 => value * [0.3, 1.9, -1.0, 0.7][index * 7 % 4],
            _ => value,
        });
    });
    let findings = compare(ONE, &candidate).findings.unwrap();
    assert!(findings.places.contains(&Place::Heads(vec![1, 3], 4)), "{findings:?}");
    let said = diagnosed(ONE, site, DiagnosisKind::HeadOrder, |tensor| {
        rearrange(tensor, |index| {
            let (row, head, place) = (index - index % 128, index % 128 / 32, index % 32);
            row + [0, 2, 1, 3][head] * 32 + place
        });
    });
    assert_eq!(said[1..], ["the error is in heads 1, 2 of 4", "its heads 1, 2 are the golden ones 2, 1"]);
}

#[test]
fn tokens_of_a_tile_that_stand_some_places_too_late() {
    let site = "vision_model";
    let said = diagnosed(TILES, site, DiagnosisKind::Shift, |tensor| {
        let (row_len, tokens) = (tensor.row_len(), 64);
        rearrange(tensor, |index| {
            let token = index / row_len % tokens;
            if token < 4 { index } else { index - 4 * row_len }
        });
    });
    assert_eq!(said.last().unwrap(), "each row is that of 4 places before in the golden run");
}

#[test]
fn image_tokens_one_place_too_late() {
    let ids = values(ONE, "input_ids");
    let image = |row: usize| ids[row] == 494.0;
    let said = diagnosed(ONE, "inputs_embeds", DiagnosisKind::Shift, |tensor| {
        let row_len = tensor.row_len();
        rearrange(tensor, |index| {
            let row = index / row_len;
            if row > 0 && image(row - 1) { index - row_len } else { index }
        });
    });
    assert_eq!(said.last().unwrap(), "each image row is that of the one before in the golden run");
}

#[test]
fn tiles_and_tokens_that_only_one_side_has() {
    let without = |name: &'static str,
                   site: &'static str,
                   parts: std::ops::Range<usize>,
                   dimension: usize| {
        let candidate = Candidate::of(name, |tensor| {
            if tensor.name == site {
                let inner = tensor.data.len() / tensor.shape[..=dimension].iter().product::<usize>();
                let count = tensor.shape[dimension];
                let kept =
                    tensor.data.chunks(inner).enumerate().filter(|(at, _)| !parts.contains(&(at % count)));
                tensor.data = kept.flat_map(|(_, part)| part.to_vec()).collect();
                tensor.shape[dimension] -= parts.len();
            }
            true
        });
        let report = compare(name, &candidate);
        assert_eq!(first_named(&report), site);
        report
    };
    let report = without(TILES, "pixel_values", 2..3, 0);
    let found = &report.findings.as_ref().unwrap().diagnoses[0];
    assert_eq!(found.kind, DiagnosisKind::MissingTiles);
    assert_eq!(
        report::explanation(&found.explanation),
        "it lacks tile 2 of 3, the thumbnail, which is the others, 2 by 1, made smaller"
    );
    // The first of two is no picture of the others.
    let report = without(TILES, "pixel_values", 0..1, 0);
    let found = &report.findings.as_ref().unwrap().diagnoses[0];
    assert_eq!(report::explanation(&found.explanation), "it lacks tile 0 of 3");

    let site = "vision_model.radio_model.model.patch_generator.cls_token";
    let report = without(TILES, site, 4..8, 1);
    let found = &report.findings.as_ref().unwrap().diagnoses[0];
    assert_eq!(
        (found.kind, report::explanation(&found.explanation)),
        (DiagnosisKind::MissingRows, "it lacks rows 4 to 7 of 72".to_owned())
    );
    assert!(found.explanation.after == 0.0 && found.explanation.before > 0.0, "{found:?}");
}

#[test]
fn rows_that_are_not_the_golden_ones_are_not_called_missing() {
    let candidate = Candidate::of(TILES, |tensor| {
        if tensor.name == "vision_model" {
            tensor.map(|index, value| if index % 5 == 0 { -value } else { value });
            tensor.data.truncate(tensor.data.len() / 3 * 2);
            tensor.shape[0] = 2;
        }
        true
    });
    let report = compare(TILES, &candidate);
    assert_eq!(first_named(&report), "vision_model");
    assert_eq!(report.findings, None);
}

#[test]
fn other_frequencies() {
    let stem = "language_model.model.rotary_emb";
    let candidate = Candidate::of(F32, |tensor| {
        if let Some(part) = tensor.name.strip_prefix(stem) {
            let cos = part == ".cos";
            tensor.map(|index, _| {
                let (position, place) = ((index / 32) as f64, (index % 16) as f64);
                let angle = position * 10_000_f64.powf(-place / 16.0);
                if cos { angle.cos() } else { angle.sin() }
            });
        }
        true
    });
    let report = compare(F32, &candidate);
    assert_eq!(first_named(&report), format!("{stem}.cos"));
    let said = said(&report, DiagnosisKind::Frequencies);
    assert_eq!(said.last().unwrap(), "its frequencies are those of a base (`rope_theta`) of 10000");
}

#[test]
fn what_only_decoding_shows() {
    let from = |step: usize| {
        Candidate::changing(F32, "step_logits", move |tensor| {
            let row_len = tensor.row_len();
            tensor
                .map(|index, value| if index / row_len >= step { value + (index % 7) as f64 } else { value });
        })
    };
    let report = compare(F32, &from(2));
    let told = said(&report, DiagnosisKind::Decoding);
    assert!(told.last().unwrap().starts_with("the logits agree up to step 1 and part at step 2"), "{told:?}");
    let report = compare(F32, &from(0));
    let findings = report.findings.unwrap();
    assert!(findings.diagnoses.iter().all(|told| told.kind != DiagnosisKind::Decoding), "{findings:?}");
}

#[test]
fn an_output_of_an_attention_that_no_mistake_is_like() {
    for (name, site) in [
        (ONE, "language_model.model.layers.1.self_attn.o_proj".to_owned()),
        (ONE, format!("{TOWER}.blocks.1.attn.proj")),
    ] {
        // The one as some channels give it, the other in every direction alike.
        let part = |index: usize, value: f64| {
            if index.wrapping_mul(2_654_435_761) % 97 < 40 { 1.3 * value } else { value }
        };
        let noise = |index: usize, value: f64| {
            let random = (index as u64).wrapping_mul(6_364_136_223_846_793_005).rotate_left(31);
            value + (random.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        for change in [&part as &dyn Fn(usize, f64) -> f64, &noise] {
            let report = compare(name, &Candidate::changing(name, &site, |tensor| tensor.map(change)));
            assert_eq!(first_named(&report), site);
            assert_eq!(report.findings.unwrap().diagnoses, [], "{site}");
        }
    }
}
