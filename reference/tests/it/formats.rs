//! Pictures of every kind, against what Pillow makes of them.
//!
//! `scripts/make-preprocess-fixtures.py` makes the pictures. A larger set than the bundled one is named by the
//! environment variable `NVL_PICTURES`.

use std::path::PathBuf;

use reference::pictures::DecodeError;
use reference::pictures::decode::decode;
use reference::pictures::raster::Raster;
use reference::pictures::upscale::upscale_to_rgb;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::fixtures;

fn folder() -> PathBuf {
    std::env::var_os("NVL_PICTURES").map_or_else(|| fixtures::path("preprocess/formats"), PathBuf::from)
}

/// What differs between our picture and Pillow's, where anything does; else whether both have one.
fn compare(entry: &Value, result: Result<Raster, DecodeError>) -> Result<bool, String> {
    let support = entry["support"].as_str().unwrap();
    let by_pillow = entry["refused_by_pillow"].as_str();
    let raster = match (result, by_pillow) {
        (Err(_), Some(_)) => return Ok(false),
        (Err(_), None) if support != "equal" => return Ok(false),
        (Err(error), None) => return Err(format!("refused, although Pillow takes it: {error}")),
        (Ok(_), Some(_)) if ["anything", "equal where both take it"].contains(&support) => return Ok(false),
        (Ok(_), Some(reason)) => return Err(format!("taken, although Pillow refuses it: {reason}")),
        (Ok(_), None) if support == "refused" => {
            return Err("taken, although it should be refused".to_owned());
        }
        (Ok(raster), None) => raster,
    };
    let expected = (
        entry["mode"].as_str().unwrap(),
        entry["width"].as_u64().unwrap() as usize,
        entry["height"].as_u64().unwrap() as usize,
    );
    let found = (raster.mode.name(), raster.width, raster.height);
    if found != expected {
        return Err(format!("expected {expected:?}, found {found:?}"));
    }
    for (factor, expected) in entry["planes_sha256"].as_object().unwrap() {
        let rgb = upscale_to_rgb(&raster, factor.parse().unwrap()).data;
        let planes: Vec<u8> =
            (0..3).flat_map(|channel| rgb.iter().skip(channel).step_by(3).copied()).collect();
        let found: String = Sha256::digest(&planes).iter().map(|byte| format!("{byte:02x}")).collect();
        if support != "anything" && found != expected.as_str().unwrap() {
            return Err(format!("its pixels differ, enlarged by {factor}"));
        }
    }
    Ok(true)
}

#[test]
fn every_picture_is_equal_to_pillows_or_refused_by_name() {
    let index = std::fs::read_to_string(folder().join("index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let pictures = index["pictures"].as_array().unwrap();
    assert!(pictures.len() > 100, "{} pictures", pictures.len());
    let mut equal = 0;
    let mut wrong = Vec::new();
    for entry in pictures {
        let file = entry["file"].as_str().unwrap();
        let bytes = std::fs::read(folder().join(file)).unwrap();
        match compare(entry, decode(&bytes).map(|decoded| decoded.raster)) {
            Ok(taken) => equal += usize::from(taken),
            Err(difference) => wrong.push(format!("{file}: {difference}")),
        }
    }
    println!("{equal} of {} pictures are equal to Pillow's", pictures.len());
    assert!(wrong.is_empty(), "{} pictures:\n{}", wrong.len(), wrong.join("\n"));
}
