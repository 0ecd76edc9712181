//! Times the preprocessing of pictures: `preprocess_seconds THREADS REPEATS FILE...`.
//!
//! Prints a JSON object: for each file the seconds of each repeat, after one that does not count, and the SHA-256 of its
//! pixel values. `scripts/bench preprocess` runs it beside the public processor.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use converter::normalized::ImageProcessorConfig;
use reference::pictures::preprocess;
use reference::settings::Settings;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [threads, repeats, files @ ..] = arguments.as_slice() else {
        bail!("expected THREADS REPEATS FILE..., found {arguments:?}");
    };
    let (threads, repeats): (u64, usize) = (threads.parse()?, repeats.parse()?);
    Settings { threads: Some(threads), ..Settings::default() }.apply();

    // As the 8B has it.
    let config = ImageProcessorConfig {
        image_size: 512,
        max_num_tiles: 12,
        use_thumbnail: true,
        upscale_factor: 2,
        do_rescale: true,
        rescale_factor: 1.0 / 255.0,
        do_normalize: false,
        image_mean: vec![0.0; 3],
        image_std: vec![1.0; 3],
    };
    let mut result = Map::new();
    for file in files {
        let mut seconds = Vec::with_capacity(repeats);
        let (mut tiles, mut sha256) = (0, String::new());
        for repeat in 0..=repeats {
            let start = Instant::now();
            let preprocessed = preprocess(&[file], &config)?;
            let elapsed = start.elapsed().as_secs_f64();
            tiles = preprocessed.pictures.first().context("no picture")?.num_tiles;
            if repeat > 0 {
                seconds.push(elapsed);
                continue;
            }
            let values: Vec<f32> =
                preprocessed.pixel_values.context("no pixels")?.flatten(0, -1).try_into()?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        }
        result.insert(file.clone(), json!({"tiles": tiles, "sha256": sha256, "seconds": seconds}));
    }
    println!("{}", Value::from(result));
    Ok(())
}
