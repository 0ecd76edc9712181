//! Sketches: their bits, and the dumps that have them.

use std::fs;
use std::path::Path;

use golden::{Dtype, Dump, DumpWriter, Error, NewEntry, Role, Sketch, TensorView, sketch};
use serde_json::{Value, json};

use crate::folders::{edit_manifest, head, push_small, write_tensors};

/// Word `n` of SplitMix64's sequence, as the specification of sketches has it.
pub fn word(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The elements of a case of `fixtures/sketches.json`, which `golden/python/tests/sketches.py` makes likewise.
fn generated(kind: &str, dtype: Dtype, count: usize) -> Vec<u8> {
    let words = |n: usize| (0..n as u64).map(|n| word(99, n));
    if kind == "bits" {
        let bytes = count * dtype.size_bytes();
        return words(bytes.div_ceil(8)).flat_map(u64::to_le_bytes).take(bytes).collect();
    }
    let floats = words(count).map(|word| ((word >> 40) as f64 / f64::from(1 << 24) - 0.5) as f32);
    match dtype {
        Dtype::Float32 => floats.flat_map(f32::to_le_bytes).collect(),
        _ => floats.flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes()).collect(),
    }
}

#[test]
fn sketches_are_those_that_numpy_makes_to_the_last_bit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sketches.json");
    let cases: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for dtype in Dtype::ALL {
        assert!(cases.iter().any(|case| case["dtype"] == dtype.name()), "{dtype}");
    }
    for case in cases {
        let dtype: Dtype = case["dtype"].as_str().unwrap().parse().unwrap();
        let shape: Vec<usize> = serde_json::from_value(case["shape"].clone()).unwrap();
        let bytes = generated(case["kind"].as_str().unwrap(), dtype, shape.iter().product());
        let tensor = TensorView::new(dtype, &shape, &bytes).unwrap();
        let expected: Sketch = serde_json::from_value(case["sketch"].clone()).unwrap();
        let found = Sketch::of(&tensor, expected.seed);
        let bits = |value: Option<f64>| value.map(f64::to_bits);
        for (name, of) in [
            ("min", (|s| s.min) as fn(&Sketch) -> Option<f64>),
            ("max", |s| s.max),
            ("mean", |s| s.mean),
            ("l2", |s| s.l2),
        ] {
            assert_eq!(bits(of(&found)), bits(of(&expected)), "{dtype} {shape:?} {name}: {:?}", of(&found));
        }
        let projection = |sketch: &Sketch| -> Vec<u64> {
            sketch.projection.0.iter().map(|value| value.to_bits()).collect()
        };
        assert_eq!(projection(&found), projection(&expected), "{dtype} {shape:?}");
        assert_eq!(found, expected, "{dtype} {shape:?}");
        // The text too, so that a reader of one may compare it with the other's.
        assert_eq!(serde_json::to_value(&found).unwrap()["projection"], case["sketch"]["projection"]);
        let short = serde_json::to_value(found.shortened()).unwrap();
        assert_eq!(short["projection"], case["short"], "{dtype} {shape:?}");
        let mut short_case = case["sketch"].clone();
        short_case["algorithm"] = sketch::SHORT_ALGORITHM.into();
        short_case["projection"] = case["short"].clone();
        assert_eq!(short, short_case);
        let read_back: Sketch = serde_json::from_value(short_case).unwrap();
        assert_eq!(read_back, expected.like(&tensor).shortened());
        assert_eq!(read_back, read_back.like(&tensor), "made as the other was");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let bytes = generated("uniform", Dtype::Float32, 300_000);
    let shape = [300_000];
    let tensor = TensorView::new(Dtype::Float32, &shape, &bytes).unwrap();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Sketch::of(&tensor, 5))
    };
    assert_eq!(with(1), with(5));
}

/// A dump of sketches with one tensor kept whole: the ids.
fn sketched(to: &Path) {
    let mut writer = DumpWriter::create(to).unwrap();
    let ids: Vec<u8> = (0..5i64).flat_map(i64::to_le_bytes).collect();
    writer.push_entry(NewEntry::new("ids", Role::Input, ""), Dtype::Int64, &[1, 5], &ids, Some(3)).unwrap();
    let floats: Vec<u8> = [1.0_f32, -2.0, f32::NAN, 4.0].into_iter().flat_map(f32::to_le_bytes).collect();
    writer
        .push_entry(NewEntry::new("x", Role::Activation, "Linear"), Dtype::Float32, &[2, 2], &floats, Some(3))
        .unwrap();
    writer.finish(head()).unwrap();
}

#[test]
fn a_dump_has_sketches_and_whole_ids() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    sketched(&target);
    let dump = Dump::open(&target).unwrap();
    dump.verify().unwrap();
    assert_eq!(*dump.require("ids").unwrap().elements::<i64>().unwrap(), [0, 1, 2, 3, 4]);
    assert!(dump.sketch("ids").is_none());
    let sketch = dump.sketch("x").unwrap();
    assert_eq!((sketch.count, sketch.nan, sketch.inf, sketch.seed), (3, 1, 0, 3));
    assert_eq!(
        (sketch.min, sketch.max, sketch.mean, sketch.l2),
        (Some(-2.0), Some(4.0), Some(1.0), Some(21f64.sqrt()))
    );
    assert!(dump.get("x").is_none() && dump.file_of("x").is_none());
    let error = dump.require("x").unwrap_err();
    assert!(error.hint().unwrap().contains("in full"));
    assert!(matches!(error, Error::SketchOnly { ref name, .. } if name == "x"), "{error}");
    assert_eq!(dump.tensors().map(|(entry, _)| &entry.name[..]).collect::<Vec<_>>(), ["ids"]);
    assert_eq!(dump.size_bytes(), 40);
    let floats: Vec<u8> = [1.0_f32, -2.0, f32::NAN, 4.0].into_iter().flat_map(f32::to_le_bytes).collect();
    assert_eq!(dump.entry("x").unwrap().sha256, golden::sha256_hex(&floats), "the hash is the tensor's");
}

#[test]
fn a_dump_of_nothing_but_sketches_has_no_tensors_file() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let mut writer = DumpWriter::create(&target).unwrap();
    writer
        .push_entry(NewEntry::new("x", Role::Activation, ""), Dtype::Float32, &[6], &[0; 24], Some(0))
        .unwrap();
    writer.finish(head()).unwrap();
    let files: Vec<_> = fs::read_dir(&target).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(files, ["manifest.json"]);
    assert_eq!(Dump::open(&target).unwrap().sketch("x").unwrap().l2, Some(0.0));
}

#[test]
fn sketches_stand_between_tensors_of_several_files() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let mut options = golden::WriteOptions::default();
    options.max_shard_bytes = 1;
    let mut writer = DumpWriter::create_with(&target, options).unwrap();
    push_small(&mut writer);
    writer
        .push_entry(NewEntry::new("x", Role::Activation, ""), Dtype::Float32, &[6], &[0; 24], Some(0))
        .unwrap();
    writer.push("c", Role::Output, "", Dtype::UInt8, &[1], &[1]).unwrap();
    writer.finish(head()).unwrap();
    let dump = Dump::open(&target).unwrap();
    assert_eq!(
        dump.entries().iter().map(|entry| entry.file.is_some()).collect::<Vec<_>>(),
        [true, true, false, true]
    );
    dump.verify().unwrap();
    assert_eq!(dump.require("c").unwrap().data(), [1]);
}

/// Whether a tensor of so many elements that are one is kept whole in a dump of sketches.
fn is_whole(role: Role, module: &str, dtype: Dtype, elements: usize) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = DumpWriter::create(folder.path().join("dump")).unwrap();
    let one: &[u8] = if dtype == Dtype::Float32 { &[0, 0, 0x80, 0x3f] } else { &[1] };
    writer
        .push_entry(NewEntry::new("x", role, module), dtype, &[elements], &one.repeat(elements), Some(0))
        .unwrap();
    let sketch = writer.entries()[0].sketch.as_ref();
    assert!(sketch.is_none_or(|sketch| sketch.mean == Some(1.0)));
    sketch.is_none()
}

#[test]
fn sketches_of_later_steps_are_short_and_tell_of_whole_ones() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let mut writer = DumpWriter::create(&target).unwrap();
    let [golden, other] = [99, 98].map(|seed| -> Vec<u8> {
        (0..2000).flat_map(|n| ((word(seed, n) >> 40) as f32).to_le_bytes()).collect()
    });
    for step in [0, 2] {
        let entry = NewEntry { step, ..NewEntry::new("x", Role::Activation, "Linear") };
        writer.push_entry(entry, Dtype::Float32, &[2000], &golden, Some(3)).unwrap();
    }
    writer.finish(head()).unwrap();
    let dump = Dump::open(&target).unwrap();
    let (whole, short) = (dump.sketch("x").unwrap(), dump.sketch("x@2").unwrap());
    assert_eq!((&whole.algorithm[..], &short.algorithm[..]), (sketch::ALGORITHM, sketch::SHORT_ALGORITHM));
    assert_eq!((whole.l2, whole.min, whole.mean), (short.l2, short.min, short.mean));
    assert_eq!(whole.relative_l2(short), Some(0.0));
    let other = whole.like(&TensorView::new(Dtype::Float32, &[2000], &other).unwrap());
    let estimate = short.relative_l2(&other).unwrap();
    assert_eq!(estimate, short.relative_l2(&other.clone().shortened()).unwrap());
    let expected = 2_f64.sqrt() * 0.5;
    assert!((estimate / expected - 1.0).abs() < 0.25, "{estimate}");
    // Each entry is in one line of the manifest.
    let text = fs::read_to_string(target.join("manifest.json")).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("\"name\":\"x\"")).count(), 2, "{text}");
    assert!(text.contains("\n \"entries\": [\n  {\"order\":0,"), "{text}");
}

#[test]
fn whole_numbers_beyond_the_limit_are_sketched() {
    let limit = sketch::WHOLE_INTEGER_BYTES;
    assert!(is_whole(Role::Activation, "", Dtype::UInt8, limit));
    assert!(!is_whole(Role::Activation, "", Dtype::UInt8, limit + 1));
    // What a module was given is no more than another activation.
    assert!(!is_whole(Role::Input, "LlamaAttention", Dtype::UInt8, limit + 1));
    assert!(!is_whole(Role::Input, "LlamaAttention", Dtype::Float32, 1));
}

#[test]
fn what_the_model_was_given_is_kept_so_that_a_run_can_be_repeated() {
    assert!(is_whole(Role::Input, "", Dtype::UInt8, 2 * sketch::WHOLE_INPUT_BYTES));
    let limit = sketch::WHOLE_INPUT_BYTES / 4;
    assert!(is_whole(Role::Input, "", Dtype::Float32, limit));
    assert!(!is_whole(Role::Input, "", Dtype::Float32, limit + 1));
    assert!(!is_whole(Role::Output, "", Dtype::Float32, limit));
}

#[test]
fn a_seed_that_a_json_reader_may_lose_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = DumpWriter::create(folder.path().join("dump")).unwrap();
    let mut push =
        |seed| writer.push_entry(NewEntry::new("x", Role::Input, ""), Dtype::Float32, &[0], &[], Some(seed));
    let error = push(1 << 53).unwrap_err();
    assert_eq!(error.to_string(), "expected a seed below 2^53, found 9007199254740992");
    push((1 << 53) - 1).unwrap();
}

/// Spoils the sketch of a dump and returns why it no longer opens.
fn refusal(edit: impl FnOnce(&mut Value)) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    sketched(&target);
    edit_manifest(&target, |manifest| edit(&mut manifest["entries"][1]["sketch"]));
    Dump::open(&target).unwrap_err()
}

#[test]
fn a_sketch_that_contradicts_itself_or_its_entry() {
    let cases: [(&str, Value, &str); 10] = [
        (
            "algorithm",
            json!("another"),
            "`algorithm`: expected `signed-places-1` or `signed-places-64`, found `another`",
        ),
        (
            "algorithm",
            json!("signed-places-64"),
            "`projection`: expected 64 numbers of `signed-places-64`, found 128",
        ),
        ("seed", json!(1_u64 << 53), "`seed`: expected a number below 2^53, found 9007199254740992"),
        ("count", json!(4), "`count`, `nan` and `inf`: expected 4 elements for the shape, found 5"),
        ("count", json!(u64::MAX), "expected 4 elements for the shape, found 18446744073709551616"),
        ("inf", json!(1), "expected 4 elements for the shape, found 5"),
        ("non_finite", Value::Null, "`non_finite`: expected 16 lower-case hexadecimal digits, found none"),
        ("non_finite", json!("12345678ABCDEF00"), "hexadecimal digits, found `12345678ABCDEF00`"),
        ("min", Value::Null, "`min` and `max`: expected of 3 finite elements, found None and Some(4.0)"),
        ("max", Value::Null, "`min` and `max`: expected of 3 finite elements, found Some(-2.0) and None"),
    ];
    for (field, value, expected) in cases {
        let error = refusal(|sketch| sketch[field] = value);
        assert!(error.to_string().contains("entry `x`: sketch: `"), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(matches!(error, Error::Sketch { ref name, .. } if name == "x"), "{error:?}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_projection_that_is_none() {
    for (text, expected) in [
        ("AAAA", "expected 1024 or 320 bytes in base64, found 3 bytes"),
        ("é", "expected 1024 or 320 bytes in base64: "),
    ] {
        let error = refusal(|sketch| sketch["projection"] = text.into());
        assert!(error.to_string().contains("field `entries[1]"), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(matches!(error, Error::Manifest { .. }), "{error:?}");
    }
    assert!(matches!(refusal(|sketch| *sketch = json!({ "seed": 1 })), Error::Manifest { .. }));
}

#[test]
fn an_entry_that_has_both_a_sketch_and_its_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    sketched(&target);
    let (ids, x) = ([0; 40], [0; 16]);
    write_tensors(
        &target.join("tensors.safetensors"),
        &[("ids", safetensors::Dtype::I64, &[1, 5], &ids), ("x", safetensors::Dtype::F32, &[2, 2], &x)],
    );
    let error = Dump::open(&target).unwrap_err();
    assert!(matches!(error, Error::SketchAndTensor { ref name, .. } if name == "x"), "{error}");
}

#[test]
fn a_dump_with_a_missing_file_is_not_taken_for_one_of_sketches() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    sketched(&target);
    fs::remove_file(target.join("tensors.safetensors")).unwrap();
    assert!(matches!(Dump::open(&target).unwrap_err(), Error::MissingFile { .. }));
}
