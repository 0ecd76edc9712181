//! Pictures, against tiles that the public image processor made.

use converter::normalized::ImageProcessorConfig;
use reference::pictures::decode::decode;
use reference::pictures::grid::{self, MAX_NUM_TILES_LIMIT};
use reference::pictures::upscale::upscale_to_rgb;
use reference::pictures::{preprocess, tiles};
use sha2::{Digest, Sha256};
use tch::{IndexOp, Tensor};

use crate::fixtures;

#[test]
fn every_recorded_size_gets_the_recorded_grid() {
    let recorded = fixtures::json("preprocess/grids.json");
    let image_size = recorded["image_size"].as_u64().unwrap() as usize;
    let rows = recorded["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8000);
    for row in rows {
        let [max_num_tiles, width, height, columns, rows] =
            [0, 1, 2, 3, 4].map(|column| row[column].as_u64().unwrap() as usize);
        let candidates = grid::candidates(max_num_tiles).unwrap();
        // The sizes are those of the files: the public code doubles them first.
        let grid = grid::choose(&candidates, 2 * width, 2 * height, image_size);
        assert_eq!((grid.columns, grid.rows), (columns, rows), "{row}");
    }
}

#[test]
fn candidates_are_tried_in_the_recorded_order() {
    let recorded = fixtures::json("preprocess/candidates.json");
    let recorded = recorded["candidates"].as_object().unwrap();
    assert_eq!(recorded.len(), 12);
    for (max_num_tiles, expected) in recorded {
        let candidates = grid::candidates(max_num_tiles.parse().unwrap()).unwrap();
        let actual: Vec<_> =
            candidates.iter().map(|grid| serde_json::json!([grid.columns, grid.rows])).collect();
        assert_eq!(&serde_json::Value::from(actual), expected, "max_num_tiles {max_num_tiles}");
    }
}

/// `scripts/make-preprocess-fixtures.py` has the same digest from CPython 3.8 to 3.13.
#[test]
fn candidates_are_in_cpythons_order_for_every_limit() {
    let mut digest = Sha256::new();
    for max_num_tiles in 1..=MAX_NUM_TILES_LIMIT {
        let candidates = grid::candidates(max_num_tiles).unwrap();
        let line: Vec<_> = candidates.iter().map(|grid| format!("{}x{}", grid.columns, grid.rows)).collect();
        digest.update(line.join(" ") + "\n");
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "9a34dd7311a22d934d90faf00a4489249cb93e227d03e8537ef1fdef442a8439");
}

/// The tiles of a strip, left to right.
///
/// # Shapes
/// `[tiles, 3, side, side]`
fn read_strip(file: &str, tiles: i64, side: i64) -> Tensor {
    let bytes = std::fs::read(fixtures::path(&format!("preprocess/tiles/{file}"))).unwrap();
    let strip = upscale_to_rgb(&decode(&bytes).unwrap().raster, 1);
    assert_eq!((strip.width as i64, strip.height as i64), (tiles * side, side), "{file}");
    Tensor::from_slice(&strip.data).view([side, tiles, side, 3]).permute([1, 3, 0, 2]).contiguous()
}

#[test]
fn every_tile_of_every_recorded_picture_is_equal_to_the_last_bit() {
    let config = fixtures::image_processor();
    let index = fixtures::json("preprocess/tiles/index.json");
    let index = index.as_array().unwrap();
    assert_eq!(index.len(), 11);
    for entry in index {
        let image = entry["image"].as_str().unwrap();
        let count = entry["tiles"].as_i64().unwrap();
        let expected =
            read_strip(entry["strip"].as_str().unwrap(), count, entry["tile_size"][0].as_i64().unwrap());

        let bytes = std::fs::read(fixtures::path(&format!("preprocess/images/{image}"))).unwrap();
        let raster = decode(&bytes).unwrap().raster;
        assert_eq!(raster.mode.name(), entry["mode"], "{image}");
        let rgb = upscale_to_rgb(&raster, config.upscale_factor);
        let candidates = grid::candidates(config.max_num_tiles).unwrap();
        let grid = grid::choose(&candidates, rgb.width, rgb.height, config.image_size);
        let actual = tiles::cut(&rgb, grid, &config).unwrap();

        assert_eq!(actual.size(), expected.size(), "{image}");
        for tile in 0..count {
            let differing =
                actual.i(tile).not_equal_tensor(&expected.i(tile)).sum(tch::Kind::Int64).int64_value(&[]);
            assert_eq!(differing, 0, "{image}, tile {tile}: values that differ");
        }
    }
}

#[test]
fn pixel_values_of_every_golden_are_equal_to_the_last_bit() {
    let config = fixtures::image_processor();
    for golden in fixtures::goldens() {
        let request = fixtures::json(&format!("goldens/{golden}/manifest.json"))["request"].clone();
        let images = request["images"].as_array().unwrap();
        let paths: Vec<_> = images
            .iter()
            .map(|image| fixtures::path(&format!("goldens/images/{}", image["file"].as_str().unwrap())))
            .collect();
        let preprocessed = preprocess(&paths, &config).unwrap();

        for (picture, image) in preprocessed.pictures.iter().zip(images) {
            assert_eq!(picture.file, image["file"].as_str().unwrap());
            assert_eq!(picture.sha256, image["sha256"].as_str().unwrap());
            assert_eq!(picture.width as u64, image["width"].as_u64().unwrap());
            assert_eq!(picture.height as u64, image["height"].as_u64().unwrap());
            assert_eq!(picture.num_tiles as u64, image["tiles"].as_u64().unwrap());
            assert_eq!(picture.warnings, []);
        }
        let actual = preprocessed.pixel_values.map(|pixel_values| {
            let values: Vec<f32> = pixel_values.flatten(0, -1).try_into().unwrap();
            values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()
        });
        assert!(
            actual == fixtures::golden_tensor(&golden, "pixel_values"),
            "{golden}: `pixel_values` differ"
        );
    }
}

#[test]
fn pixel_values_under_other_configurations_are_those_of_transformers() {
    let cases = fixtures::json("preprocess/pixel_values.json");
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 40);
    for case in cases {
        let config: ImageProcessorConfig = serde_json::from_value(case["image_processor"].clone()).unwrap();
        let image = fixtures::path(&format!("preprocess/images/{}", case["image"].as_str().unwrap()));
        let preprocessed = preprocess(&[image], &config).unwrap();
        let picture = &preprocessed.pictures[0];
        assert_eq!(serde_json::to_value(picture.grid).unwrap(), case["grid"], "{case}");
        assert_eq!(picture.num_tiles as u64, case["tiles"].as_u64().unwrap(), "{case}");
        let values: Vec<f32> = preprocessed.pixel_values.unwrap().flatten(0, -1).try_into().unwrap();
        let mut digest = Sha256::new();
        for value in values {
            digest.update(value.to_le_bytes());
        }
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, case["sha256"].as_str().unwrap(), "{case}");
    }
}
