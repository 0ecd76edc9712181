//! A replay computes as its golden did: its attention, its pixels, its dtypes; from whatever of it there is.

use std::path::{Path, PathBuf};

use golden::manifest::ManifestHead;
use golden::{Dump, DumpWriter, Entry, Role};
use serde_json::{Value, json};

use super::bundled::{checkpoint, golden, nvl_reference, picture};
use super::replay::replay_to;

const B16: &str = "shapes-describe-bfloat16";
const F32: &str = "shapes-describe-float32";
const HISTORY: &str = "shapes-history-bfloat16";
const TEXT: &str = "shapes-text-float32";
const SEED: u64 = 7;
const CONDITIONER: &str = "vision_model.radio_model.input_conditioner";

/// What becomes of an entry in a copy of a dump.
enum Kept {
    Full,
    Sketch,
    Nothing,
}

/// A copy of a dump with another head, and some entries as sketches or not at all.
fn copy(
    of: &Path,
    out: &Path,
    change_head: impl FnOnce(&mut ManifestHead),
    kept: impl Fn(&Entry) -> Kept,
) -> PathBuf {
    let dump = Dump::open(of).unwrap();
    let mut writer = DumpWriter::create(out).unwrap();
    for (entry, view) in dump.tensors().filter(|(entry, _)| !matches!(kept(entry), Kept::Nothing)) {
        let Entry { name, role, module, dtype, shape, .. } = entry;
        writer.push(name, *role, module, *dtype, shape, view.data()).unwrap();
    }
    let mut head = dump.manifest().head();
    change_head(&mut head);
    writer.finish(head).unwrap();
    // By hand, whatever writers keep of small tensors.
    let sketches: Vec<(&str, Value)> = dump
        .tensors()
        .filter(|(entry, _)| matches!(kept(entry), Kept::Sketch))
        .map(|(entry, view)| (entry.name.as_str(), json!(golden::Sketch::of(&view, SEED))))
        .collect();
    if !sketches.is_empty() {
        put_sketches(out, &sketches);
    }
    out.to_owned()
}

/// Puts sketches in the place of tensors.
fn put_sketches(dir: &Path, sketches: &[(&str, Value)]) {
    let path = dir.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for entry in manifest["entries"].as_array_mut().unwrap() {
        if let Some((_, sketch)) = sketches.iter().find(|(name, _)| entry["name"] == *name) {
            entry["sketch"] = sketch.clone();
        }
    }
    std::fs::write(&path, manifest.to_string()).unwrap();
    let path = dir.join("tensors.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors();
    let kept = tensors.into_iter().filter(|(name, _)| sketches.iter().all(|(other, _)| name != other));
    std::fs::write(&path, safetensors::serialize(kept, None).unwrap()).unwrap();
}

/// A copy of sketches only, the token ids in full.
fn sketched(of: &Path, out: &Path) -> PathBuf {
    copy(of, out, |_| (), |entry| if entry.name == "input_ids" { Kept::Full } else { Kept::Sketch })
}

/// The runtime's own run of a golden's request, with this machine's last bits, which in float32 are not every machine's.
fn own(name: &str, dir: &Path, more: &[&str]) -> PathBuf {
    let out = dir.join("own");
    replay_to(&golden(name), &out, more);
    out
}

/// The bundled golden of a history in full: it is of sketches, and computed again it is what they are sketches of.
fn whole_history(dir: &Path) -> PathBuf {
    let out = dir.join("whole");
    let (summary, whole, _) = replay_to(&golden(HISTORY), &out, &[]);
    assert!(bit_equal(&summary, &Dump::open(golden(HISTORY)).unwrap()), "{summary}");
    assert_eq!(whole.tensors().count(), whole.entries().len());
    out
}

fn picture_path(name: &str) -> String {
    picture(name).to_str().unwrap().to_owned()
}

/// What a replay that is refused says.
fn refusal(model: &Path, golden: &Path, more: &[&str]) -> String {
    let out = tempfile::tempdir().unwrap();
    let mut command = nvl_reference();
    command.args(["replay", "--model"]).arg(model).arg(golden).args(more);
    let assert = command.arg("--record").arg(out.path().join("replay")).assert().code(2);
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

fn bit_equal(summary: &Value, of: &Dump) -> bool {
    summary["bit_equal"] == of.entries().len() && summary["generated_ids_equal"] == true
}

#[test]
fn the_attention_is_the_goldens_unless_another_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    let (summary, sdpa, _) = replay_to(&golden(HISTORY), &out("sdpa"), &["--attention", "sdpa"]);
    let first = "language_model.model.layers.0.self_attn.o_proj";
    assert_eq!(summary["first_difference"], first);
    let text = |dump: &Dump| dump.manifest().producer.attention.as_ref().unwrap().text.clone().unwrap();
    assert_eq!(text(&sdpa), "sdpa");
    let (summary, again, _) = replay_to(&out("sdpa"), &out("again"), &[]);
    assert!(bit_equal(&summary, &sdpa), "{summary}");
    assert_eq!(text(&again), "sdpa");
    let (summary, eager, _) = replay_to(&out("sdpa"), &out("eager"), &["--attention", "eager"]);
    assert_eq!((&summary["first_difference"], text(&eager).as_str()), (&first.into(), "eager"));
    // Who asks for the fast way asks for its attention.
    let (_, fast, _) = replay_to(&golden(HISTORY), &out("fast"), &["--math", "fast"]);
    assert_eq!(text(&fast), "sdpa");
}

#[test]
fn an_attention_that_is_not_here_has_sdpa_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let flash = copy(
        &golden(TEXT),
        &dir.path().join("flash"),
        |head| head.producer.attention.as_mut().unwrap().text = Some("flash_attention_2".to_owned()),
        |_| Kept::Full,
    );
    let (_, dump, said) = replay_to(&flash, &dir.path().join("replay"), &[]);
    assert_eq!(dump.manifest().producer.attention.as_ref().unwrap().text.as_deref(), Some("sdpa"));
    assert!(
        said.contains("note: the golden's attention is `flash_attention_2`, which is not here: sdpa"),
        "{said}"
    );
}

#[test]
fn pixels_reach_the_tower_as_the_goldens_did() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    let pixels = |dump: &Dump| dump.manifest().producer.pixel_values_dtype.clone().unwrap();
    // A manifest that does not tell is no obstacle: the conditioner does.
    let silent =
        copy(&golden(B16), &out("silent"), |head| head.producer.pixel_values_dtype = None, |_| Kept::Full);
    let (summary, rounded, said) = replay_to(&silent, &out("rounded"), &["--pixel-values-dtype", "model"]);
    assert_eq!(pixels(&rounded), "bfloat16");
    assert!(!said.contains("note"), "{said}");
    let rounded_is_golden = bit_equal(&summary, &rounded);
    let (summary, whole, _) = replay_to(&silent, &out("whole"), &["--pixel-values-dtype", "float32"]);
    assert_eq!(pixels(&whole), "float32");
    assert_ne!(rounded_is_golden, bit_equal(&summary, &whole));
    assert_ne!(rounded.entry(CONDITIONER).unwrap().sha256, whole.entry(CONDITIONER).unwrap().sha256);

    for (name, dtype) in [("rounded", "bfloat16"), ("whole", "float32")] {
        let (summary, dump, said) = replay_to(&out(name), &out(&format!("{name} told")), &[]);
        assert!(bit_equal(&summary, &dump), "{summary}");
        assert_eq!((pixels(&dump).as_str(), said.as_str()), (dtype, ""));
        let forget = |head: &mut ManifestHead| head.producer.pixel_values_dtype = None;
        let silent = copy(&out(name), &out(&format!("{name} untold")), forget, |_| Kept::Full);
        let (summary, dump, said) = replay_to(&silent, &out(&format!("{name} found")), &[]);
        assert!(bit_equal(&summary, &dump), "{summary}");
        assert_eq!(pixels(&dump), dtype);
        let note = format!("reached the tower: assumed {dtype}, by what it computed of them");
        assert!(said.contains(&note), "{said}");
    }
    let nothing = copy(
        &out("rounded"),
        &out("nothing"),
        |head| head.producer.pixel_values_dtype = None,
        |entry| if entry.name == CONDITIONER { Kept::Nothing } else { Kept::Full },
    );
    let (_, dump, said) = replay_to(&nothing, &out("taken"), &[]);
    assert_eq!(pixels(&dump), "float32");
    assert!(said.contains("assumed float32, which was not to be found out"), "{said}");
}

#[test]
fn the_manifest_tells_what_ran() {
    let dir = tempfile::tempdir().unwrap();
    let (_, dump, _) = replay_to(&golden(B16), &dir.path().join("picture"), &[]);
    let producer = &dump.manifest().producer;
    let dtypes: Vec<(&str, &str)> =
        producer.dtypes.iter().map(|(part, dtype)| (part.as_str(), dtype.as_str())).collect();
    assert_eq!(dtypes, [("vision_model", "bfloat16"), ("mlp1", "bfloat16"), ("language_model", "bfloat16")]);
    assert_eq!(producer.attention.as_ref().unwrap().vision.as_deref(), Some("sdpa"));
    // Without a picture the tower does not run.
    let (_, dump, _) = replay_to(&golden(TEXT), &dir.path().join("text"), &[]);
    let producer = &dump.manifest().producer;
    assert_eq!(producer.dtypes.keys().collect::<Vec<_>>(), ["language_model"]);
    assert_eq!(producer.attention.as_ref().unwrap().vision, None);
    assert_eq!(producer.pixel_values_dtype, None);
}

#[test]
fn the_tower_runs_in_the_dtype_that_the_goldens_did() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    let wide = copy(
        &golden(B16),
        &out("wide"),
        |head| {
            head.producer.dtypes.insert("vision_model".to_owned(), "float32".to_owned());
        },
        |_| Kept::Full,
    );
    let (_, dump, _) = replay_to(&wide, &out("replay"), &[]);
    let dtype = |site: &str| dump.entry(site).unwrap().dtype.name();
    assert_eq!(
        (dtype("vision_model"), dtype("mlp1"), dtype("language_model")),
        ("float32", "bfloat16", "bfloat16")
    );
    assert_eq!(dump.manifest().producer.dtypes["vision_model"], "float32");
}

#[test]
fn weights_of_the_attention_are_recorded_on_request_and_where_the_golden_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    let (_, without, _) = replay_to(&golden(TEXT), &out("without"), &["--attention", "sdpa"]);
    let eager = ["--attention", "eager", "--attn-weights"];
    let (_, dump, _) = replay_to(&out("without"), &out("weights"), &eager);
    let layer = |layer: usize| format!("language_model.model.layers.{layer}.self_attn");
    for at in 0..4 {
        let weights = dump.entry(&format!("{}.attn_weights", layer(at))).unwrap();
        let output = dump.entry(&layer(at)).unwrap();
        assert_eq!(weights.module, "LlamaAttention attn_weights");
        assert_eq!(weights.shape, [1, 4, 24, 24]);
        assert_eq!((weights.dtype, weights.order), (output.dtype, output.order + 1));
        let values = dump.get(&weights.name).unwrap().to_f64_vec();
        for (row, values) in values.chunks(24).enumerate() {
            assert!((values.iter().sum::<f64>() - 1.0).abs() < 1e-5, "row {row}");
            assert!(values[row % 24 + 1..].iter().all(|&value| value == 0.0), "row {row}");
        }
    }
    assert_eq!(dump.entries().len(), without.entries().len() + 4);
    let (summary, again, _) = replay_to(&out("weights"), &out("again"), &[]);
    assert!(bit_equal(&summary, &again), "{summary}");
    assert_eq!(again.entries().len(), dump.entries().len());
}

#[test]
fn an_attention_without_weights_is_refused_where_they_are_asked_for() {
    let expected = "error: `--attn-weights`: expected an attention that returns weights, found `sdpa`\n\
                    hint: say `--attention eager`\n";
    let said = refusal(checkpoint(), &golden(TEXT), &["--attention", "sdpa", "--attn-weights"]);
    assert_eq!(said, expected);
    let out = tempfile::tempdir().unwrap();
    let mut command = nvl_reference();
    command.args(["generate", "--prompt", "What?", "--attn-weights", "--attention", "sdpa", "--model"]);
    command.arg(checkpoint()).arg("--record").arg(out.path().join("dump")).assert().code(2).stderr(expected);
}

#[test]
fn a_golden_of_sketches_is_replayed_from_its_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    let golden = sketched(&whole_history(dir.path()), &out("golden"));
    let images = ["purple-square.png", "red-circle-above-blue-square.png"].map(picture_path);
    let images = ["--image", &images[0], "--image", &images[1], "--sketch"];
    let (summary, dump, _) = replay_to(&golden, &out("replay"), &images);
    assert!(bit_equal(&summary, &Dump::open(&golden).unwrap()), "{summary}");
    assert_eq!(summary["first_difference"], Value::Null);
    // Its own sketches can be compared with the golden's.
    let seed = |dump: &Dump| dump.sketch("mlp1").unwrap().seed;
    assert_eq!(seed(&dump), SEED);
    assert!(dump.get("mlp1").is_none());
}

#[test]
fn token_ids_of_sketches_come_from_the_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    let text = own(TEXT, dir.path(), &[]);
    // As a long prompt leaves it: no tensor, and its hash.
    let no_ids = |name: &str, prompt: Option<&str>| {
        let change = |head: &mut ManifestHead| {
            if let Some(prompt) = prompt {
                head.prompt = Some(prompt.to_owned());
            }
        };
        let kept = |entry: &Entry| if entry.name == "input_ids" { Kept::Sketch } else { Kept::Full };
        copy(&text, &out(name), change, kept)
    };
    let golden = no_ids("golden", None);
    let (summary, ..) = replay_to(&golden, &out("replay"), &[]);
    assert!(bit_equal(&summary, &Dump::open(&golden).unwrap()), "{summary}");

    let said = refusal(checkpoint(), &no_ids("other", Some("What?")), &[]);
    assert!(said.contains("`input_ids` made from the prompt: expected shape [1, 24], found [1, "), "{said}");
}

#[test]
fn what_a_golden_lacks_is_named_with_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    let golden = sketched(&whole_history(dir.path()), &out("golden"));
    let [purple, red] = ["purple-square.png", "red-circle-above-blue-square.png"].map(picture_path);

    let said = refusal(checkpoint(), &golden, &[]);
    assert!(
        said.contains("`pixel_values` is a sketch: expected `purple-square.png` (SHA-256 f6d581de"),
        "{said}"
    );
    assert!(said.contains("`red-circle-above-blue-square.png` (SHA-256 f855f200"), "{said}");
    assert!(said.contains("hint: `--image FILE` names a picture; once for each, in this order"), "{said}");

    let said = refusal(checkpoint(), &golden, &["--image", &purple]);
    assert!(said.contains("`request.images`: expected 2 pictures, found 1 `--image`"), "{said}");

    let said = refusal(checkpoint(), &golden, &["--image", &red, "--image", &purple]);
    assert!(
        said.contains("picture 1 of the request, `purple-square.png`: expected SHA-256 f6d581de"),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            ", found f855f200c53c9d82d1007b2706ff82e30b51de92013aabb05be7045d5c1c3630 in `{red}`"
        )),
        "{said}"
    );
    assert!(said.contains("in the order of `request.images`"), "{said}");

    // The same files, of which another image processor makes other tiles.
    let other = out("other");
    super::bundled::convert(&other, true);
    let config = std::fs::read_to_string(other.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["image_processor"]["rescale_factor"] = json!(0.5);
    std::fs::write(other.join("config.json"), config.to_string()).unwrap();
    let said = refusal(&other, &golden, &["--image", &purple, "--image", &red]);
    assert!(said.contains("`pixel_values` made from the pictures: expected SHA-256 "), "{said}");
    assert!(said.contains("hint: `--model` must be the recorded run's own checkpoint"), "{said}");
}

#[test]
fn pixels_that_were_not_recorded_come_from_the_pictures_too() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    let kept = |entry: &Entry| if entry.name == "pixel_values" { Kept::Nothing } else { Kept::Full };
    let golden = copy(&own(F32, dir.path(), &[]), &out("golden"), |_| (), kept);
    let said = refusal(checkpoint(), &golden, &[]);
    assert!(
        said.contains("it has no entry `pixel_values`, and 16 image tokens: expected `red-circle"),
        "{said}"
    );
    let red = picture_path("red-circle-above-blue-square.png");
    let (summary, ..) = replay_to(&golden, &out("replay"), &["--image", &red]);
    assert!(bit_equal(&summary, &Dump::open(&golden).unwrap()), "{summary}");
    // Pictures that are there already are held against the request all the same.
    let purple = picture_path("purple-square.png");
    let said = refusal(checkpoint(), &super::bundled::golden(F32), &["--image", &purple]);
    assert!(said.contains("picture 1 of the request"), "{said}");
}

#[test]
fn a_recording_may_be_of_sketches() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("dump");
    let mut command = nvl_reference();
    command.args([
        "generate",
        "--prompt",
        "How many shapes are there?",
        "--sketch",
        "--max-new-tokens",
        "2",
        "--model",
    ]);
    command.arg(checkpoint()).arg("--record").arg(&out).assert().success();
    let dump = Dump::open(&out).unwrap();
    assert!(dump.get("input_ids").is_some());
    assert!(dump.entries().iter().all(|entry| entry.role != Role::Activation || entry.sketch.is_some()));
    assert_eq!(dump.sketch("inputs_embeds").unwrap().seed, 0);
}
