//! Requests with pictures: tiles are found by their pixels.

use validate::{Fact, Relation};

use super::runs::{Run, cat, copy, garbage, pad};
use super::{assert_equal_but, compare, facts, first, largest};
use crate::dumps::Tensor;

const PICTURE: &str = "shapes-describe-float32";

/// The request in the second sequence of a batch, behind `tiles` tiles of the first one.
fn batch(plain: &Run, tiles: usize) -> Run {
    let mut in_tower = true;
    plain.map(|item| {
        in_tower &= item.tensor.name != "language_model.model.embed_tokens";
        let tensor = &item.tensor;
        let other = garbage(tensor, 2);
        let made = match tensor.name.as_str() {
            "step_logits" => copy(tensor),
            "input_ids" => cat(&[&pad(&other, 1, [2, 0], 1), &pad(tensor, 1, [2, 0], 1)], 0),
            _ if in_tower => {
                let mut all: Vec<&Tensor> = vec![&other; tiles];
                all.push(tensor);
                cat(&all, 0)
            }
            name if name.ends_with("attn_weights") => {
                let padded = pad(&pad(tensor, 2, [2, 0], 1), 3, [2, 0], 1);
                cat(&[&garbage(&padded, 1), &padded], 0)
            }
            _ if tensor.shape[1] == 41 => {
                let padded = pad(tensor, 1, [2, 0], 1);
                cat(&[&garbage(&padded, 1), &padded], 0)
            }
            _ => cat(&[&other, tensor], 0),
        };
        vec![(0, made)]
    })
}

#[test]
fn tiles_of_a_batch_are_found_by_their_pixels() {
    let plain = Run::bundled(PICTURE);
    // With one tile before it there are as many tiles as sequences; with two, tiles and sequences part.
    for tiles in [1, 2, 5] {
        let report = compare(&plain, &batch(&plain, tiles), Relation::Batched).unwrap();
        assert_eq!(assert_equal_but(&report, |key| key == "step_logits"), 108, "{tiles}");
    }
}

#[test]
fn as_many_tiles_as_sequences_are_told_apart_by_their_modules() {
    // The request's tile is the first, its sequence the second.
    let plain = Run::bundled(PICTURE);
    let swapped = batch(&plain, 1).map(|item| {
        let is_of_tower = item.tensor.name.starts_with("vision") || item.tensor.name.starts_with("mlp1");
        let mut tensor = copy(&item.tensor);
        if is_of_tower || tensor.name == "pixel_values" {
            let half = tensor.data.len() / 2;
            tensor.data.rotate_left(half);
        }
        vec![(0, tensor)]
    });
    let report = compare(&plain, &swapped, Relation::Batched).unwrap();
    assert_eq!(assert_equal_but(&report, |key| key == "step_logits"), 108);
}

#[test]
fn a_wrong_tile_is_found() {
    let plain = Run::bundled(PICTURE);
    let mut batch = batch(&plain, 2);
    let site = "vision_model.radio_model.model.blocks.1.mlp.fc1";
    batch.change(site, 0, |tensor| tensor.set(2 * 72 * 384 + 30 * 384 + 1, 90.0));
    let report = compare(&plain, &batch, Relation::Batched).unwrap();
    assert_eq!((first(&report).entry.name.as_str(), largest(&report)), (site, vec![0, 30, 1]));
}

#[test]
fn pictures_of_cached_tokens_need_not_be_there() {
    let plain = Run::bundled(PICTURE);
    let mut end = plain.map(|item| {
        let tensor = &item.tensor;
        let dim = if tensor.name.ends_with("attn_weights") { 2 } else { 1 };
        let is_text = tensor.shape.get(dim) == Some(&41);
        vec![(0, if is_text { super::runs::slice(tensor, dim, 30..41) } else { copy(tensor) })]
    });
    let is_of_tower =
        |name: &str| name.starts_with("vision") || name.starts_with("mlp1") || name == "pixel_values";
    end.items.retain(|item| !is_of_tower(&item.tensor.name));
    let report = compare(&plain, &end, Relation::PrefixCache).unwrap();
    assert_eq!(assert_equal_but(&report, is_of_tower), 66);
    assert_eq!(facts(&report)[0], &Fact::Cached(0..30));
    // What has tokens of its own must be there all the same.
    end.items.retain(|item| item.tensor.name != "language_model.model.norm");
    assert!(!compare(&plain, &end, Relation::PrefixCache).unwrap().passes());
}
