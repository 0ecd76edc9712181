//! Verification: nothing passes that was changed, and the change is named.

use std::fs;
use std::path::{Path, PathBuf};

use converter::architecture::Part;
use converter::ledger::Ledger;
use converter::plan::PlanOptions;
use converter::resolve::Settings;
use converter::source::Location;
use converter::write::Unwatched;
use converter::{Error, Verification, verify, verify_source};
use serde_json::json;
use tempfile::TempDir;

use crate::conversion::convert;
use crate::hand_made_source::Source;

/// Makes five files of the small checkpoint.
const IN_SHARDS: &str = "14KB";

fn converted() -> (TempDir, PathBuf) {
    let options = PlanOptions { max_shard_size: IN_SHARDS.parse().unwrap(), ..PlanOptions::KEEP };
    let (parent, out, _) = convert(Source::sound().write().path(), Settings::default(), options);
    (parent, out)
}

fn differences(out: &Path) -> Vec<String> {
    let verification = verify(out, &Unwatched).unwrap().1;
    verification.differences.iter().map(ToString::to_string).collect()
}

fn against(out: &Path, source: &Source) -> Verification {
    let dir = source.write();
    let ledger = verify(out, &Unwatched).unwrap().0;
    verify_source(out, &ledger, Location::parse(dir.path().to_str().unwrap()), &Unwatched).unwrap()
}

fn change_byte(path: &Path, from_end: usize) {
    let mut bytes = fs::read(path).unwrap();
    let place = bytes.len() - from_end;
    bytes[place] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_untouched_folder_is_clean_and_all_of_it_was_compared() {
    let (_parent, out) = converted();
    let verification = verify(&out, &Unwatched).unwrap().1;
    assert_eq!(verification.differences, []);
    assert_eq!(verification.tensors, 78);
    assert_eq!(verification.files, fs::read_dir(&out).unwrap().count() - 1);
    let of_source = against(&out, &Source::sound());
    assert_eq!(of_source.differences, []);
    assert_eq!(of_source.source_tensors, 68);
}

#[test]
fn one_bit_of_a_tensor_names_the_tensor() {
    let (_parent, out) = converted();
    let shard = out.join("model-00001-of-00005.safetensors");
    assert!(shard.exists(), "{:?}", fs::read_dir(&out).unwrap().collect::<Vec<_>>());
    change_byte(&shard, 1);
    let found = differences(&out);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("tensor `vision_model.encoder.layer."), "{found:?}");
    assert!(found[0].contains(": expected SHA-256 "), "{found:?}");
}

#[test]
fn a_changed_configuration_file_names_the_file() {
    for name in ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors.index.json"] {
        let (_parent, out) = converted();
        let mut bytes = fs::read(out.join(name)).unwrap();
        bytes.push(b' ');
        fs::write(out.join(name), bytes).unwrap();
        let found = differences(&out);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("file `{name}`: expected SHA-256 ")), "{found:?}");
    }
}

#[test]
fn a_missing_an_added_and_a_cut_file_are_named() {
    let (_parent, out) = converted();
    fs::remove_file(out.join("tokenizer.json")).unwrap();
    fs::remove_file(out.join("model-00002-of-00005.safetensors")).unwrap();
    fs::write(out.join("extra.safetensors"), "").unwrap();
    let cut = out.join("model-00003-of-00005.safetensors");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    let found = differences(&out);
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found[0], "file `tokenizer.json`: expected it, found no such file");
    assert_eq!(found[1], "file `model-00002-of-00005.safetensors`: expected it, found no such file");
    assert!(found[2].contains("model-00003-of-00005.safetensors`: expected a readable safetensors file"));
    assert!(found[2].contains("the file is cut off"), "{found:?}");
    assert_eq!(found[3], "file `extra.safetensors`: expected no such file, found it");
}

#[test]
fn a_changed_header_and_swapped_shards_are_named() {
    let (_parent, out) = converted();
    let shard = out.join("model-00004-of-00005.safetensors");
    let text = fs::read(&shard).unwrap();
    let place = text.windows(4).position(|window| window == b"\"pt\"").unwrap();
    let mut bytes = text.clone();
    bytes[place + 1] = b'q';
    fs::write(&shard, bytes).unwrap();
    let found = differences(&out);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("model-00004-of-00005.safetensors`: expected a header of SHA-256"),
        "{found:?}"
    );

    fs::copy(out.join("model-00005-of-00005.safetensors"), &shard).unwrap();
    let found = differences(&out);
    assert!(found.iter().any(|text| text.contains("expected no such tensor")), "{found:?}");
    assert!(found.iter().any(|text| text.ends_with("found no such tensor")), "{found:?}");
}

#[test]
fn a_ledger_that_was_edited_differs_from_the_tensors() {
    let (_parent, out) = converted();
    let path = out.join("conversion.json");
    let mut ledger: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let row = ledger["tensors"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|row| row["targets"].as_array().unwrap().len() == 1)
        .unwrap();
    row["targets"][0]["sha256"] = json!("0".repeat(64));
    let name = row["targets"][0]["name"].as_str().unwrap().to_string();
    fs::write(&path, ledger.to_string()).unwrap();
    let found = differences(&out);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("file `conversion.json`: expected SHA-256 "), "{found:?}");
    assert!(
        found[1].starts_with(&format!("tensor `{name}`: expected SHA-256 {}", "0".repeat(64))),
        "{found:?}"
    );
}

#[test]
fn no_ledger_no_answer() {
    let (_parent, out) = converted();
    let path = out.join("conversion.json");
    fs::write(&path, "{").unwrap();
    assert!(matches!(verify(&out, &Unwatched).unwrap_err(), Error::Json { .. }));
    fs::remove_file(&path).unwrap();
    assert!(matches!(verify(&out, &Unwatched).unwrap_err(), Error::MissingFile { .. }));
    fs::copy(out.join("config.json"), &path).unwrap();
    assert!(matches!(verify(&out, &Unwatched).unwrap_err(), Error::Json { .. }));
}

#[test]
fn another_source_differs_by_tensor_field_and_file() {
    let (_parent, out) = converted();
    let mut other = Source::sound().with("/llm_config/rms_norm_eps", json!(1e-6));
    other.tensors.iter_mut().find(|tensor| tensor.name == "mlp1.3.bias").unwrap().data[0] ^= 1;
    let found: Vec<String> = against(&out, &other).differences.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(
        found[0],
        "`config.json`, field `text_config.rms_norm_eps`: expected `1e-6`, as the source gives, found `0.00001`"
    );
    assert!(found[1].starts_with("source file `config.json`: expected SHA-256 "), "{found:?}");
    assert!(found[2].starts_with("source tensor `mlp1.3.bias`: expected SHA-256 "), "{found:?}");
}

#[test]
fn what_the_user_said_is_taken_from_the_ledger() {
    let settings = Settings { align_corners: Some(false), upscale_factor: Some(1), ..Settings::default() };
    let options =
        PlanOptions { dtype: Some(converter::normalized::TorchDtype::Float16), ..PlanOptions::KEEP };
    let (_parent, out, _) = convert(Source::sound().write().path(), settings, options);
    assert_eq!(against(&out, &Source::sound()).differences, []);
}

#[test]
fn a_file_that_was_put_beside_the_checkpoint_and_would_be_used_is_named() {
    for name in [
        "chat_template.jinja",
        "special_tokens_map.json",
        "generation_config.json",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.json",
    ] {
        // Without a template of its own, so that the source's is not written.
        let mut source = Source::sound();
        source.tokenizer_config.as_object_mut().unwrap().remove("chat_template").unwrap();
        let options = PlanOptions { max_shard_size: IN_SHARDS.parse().unwrap(), ..PlanOptions::KEEP };
        let (_parent, out, _) = convert(source.write().path(), Settings::default(), options);
        assert_eq!(differences(&out), Vec::<String>::new());
        assert_eq!(converter::files_not_in_ledger(&out).unwrap(), Vec::<String>::new());
        fs::write(out.join(name), "{}").unwrap();
        // What no program would use says nothing of the checkpoint.
        fs::write(out.join("README.md"), "mine").unwrap();
        assert_eq!(differences(&out), [format!("file `{name}`: expected no such file, found it")]);
        assert_eq!(converter::files_not_in_ledger(&out).unwrap(), [name]);
        fs::remove_file(out.join("conversion.json")).unwrap();
        assert_eq!(converter::files_not_in_ledger(&out).unwrap(), Vec::<String>::new());
    }
}

/// The normalized configuration beside a part.
const WHOLE_CONFIG: &str = "nemotron_vl_config.json";

/// Writes a file anew, and the ledger so that it tells of it.
fn write_and_seal(out: &Path, ledger: &mut Ledger, name: &str, text: &str) {
    fs::write(out.join(name), text).unwrap();
    let row = ledger.files.iter_mut().find(|file| file.name == name).unwrap();
    (row.sha256, row.bytes) = (store::hash::sha256(text.as_bytes()), text.len() as u64);
    fs::write(out.join("conversion.json"), ledger.seal().unwrap()).unwrap();
}

#[test]
fn a_ledger_that_was_sealed_again_does_not_hide_a_number_that_is_no_use() {
    for part in [Part::All, Part::Text] {
        let options = PlanOptions { part, ..PlanOptions::KEEP };
        let (_parent, out, mut ledger) =
            convert(Source::sound().write().path(), Settings::default(), options);
        let name = if part == Part::All { "config.json" } else { WHOLE_CONFIG };
        let text = fs::read_to_string(out.join(name)).unwrap();
        let changed = text.replace("\"rms_norm_eps\": 0.00001", "\"rms_norm_eps\": 1e308");
        assert_ne!(changed, text);
        write_and_seal(&out, &mut ledger, name, &changed);
        let found = differences(&out);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("field `text_config.rms_norm_eps`: expected a number above 0"),
            "{found:?}"
        );
    }
}

#[test]
fn the_configuration_beside_a_part_is_of_that_part() {
    let options = PlanOptions { part: Part::Text, ..PlanOptions::KEEP };
    let (_parent, out, mut ledger) = convert(Source::sound().write().path(), Settings::default(), options);
    let text = fs::read_to_string(out.join(WHOLE_CONFIG)).unwrap();
    for (part, found) in [(", \n  \"part\": \"vision\"", "`\"vision\"`"), ("", "no such field")] {
        let changed = text.replace(",\n  \"part\": \"text\"", part);
        assert_ne!(changed, text);
        write_and_seal(&out, &mut ledger, WHOLE_CONFIG, &changed);
        let differences = differences(&out);
        assert_eq!(differences.len(), 1, "{differences:?}");
        let expected = format!("field `part`: expected `\"text\"`, found {found}");
        assert!(differences[0].ends_with(&expected), "{differences:?}");
    }
}

#[test]
fn what_is_wrong_beside_a_part_has_its_place_in_the_file() {
    let options = PlanOptions { part: Part::Text, ..PlanOptions::KEEP };
    let (_parent, out, mut ledger) = convert(Source::sound().write().path(), Settings::default(), options);
    let text = fs::read_to_string(out.join(WHOLE_CONFIG)).unwrap();
    let place = text.find("\"downsample_ratio\"").unwrap();
    let (line, end) = (text[..place].lines().count(), place + text[place..].find('\n').unwrap());
    for (value, found) in [("NaN", "NaN"), ("\"half\"", "string")] {
        let changed = format!("{}\"downsample_ratio\": {value},{}", &text[..place], &text[end..]);
        write_and_seal(&out, &mut ledger, WHOLE_CONFIG, &changed);
        let differences = differences(&out);
        assert_eq!(differences.len(), 1, "{differences:?}");
        let is_told = [&format!("line {line}, "), "`downsample_ratio`", found];
        assert!(is_told.iter().all(|part| differences[0].contains(*part)), "{differences:?}");
        assert!(!differences[0].contains("map"), "{differences:?}");
    }
}
