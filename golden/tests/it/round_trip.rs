//! What is written is what is read.

use std::fs;
use std::path::Path;

use golden::{Dtype, Dump, DumpWriter, Role, WriteOptions};
use proptest::prelude::*;

use crate::folders::{head, push_small, small};

#[derive(Debug, Clone)]
struct Tensor {
    role: Role,
    module: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let role = prop_oneof![Just(Role::Input), Just(Role::Activation), Just(Role::Output)];
    let dtype = proptest::sample::select(&Dtype::ALL[..]);
    let shape = proptest::collection::vec(0usize..5, 0..4);
    (role, "[A-Za-z\"\\\\ é]{0,9}", dtype, shape).prop_flat_map(|(role, module, dtype, shape)| {
        let bytes = shape.iter().product::<usize>() * dtype.size_bytes();
        proptest::collection::vec(any::<u8>(), bytes).prop_map(move |data| Tensor {
            role,
            module: module.clone(),
            dtype,
            shape: shape.clone(),
            data,
        })
    })
}

fn tensors() -> impl Strategy<Value = Vec<(String, Tensor)>> {
    proptest::collection::hash_map("[a-z0-9._#\"\\\\é\n-]{1,20}", tensor(), 0..20)
        .prop_map(|map| map.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Small limits, so that every way of laying out files occurs: in memory, streamed, several of them.
    #[test]
    fn a_dump_is_read_as_it_was_written(
        tensors in tensors(),
        max_shard_bytes in 1u64..2000,
        buffer_bytes in 0usize..1500,
        header_room_bytes in 0u64..1500,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("dump");
        let mut options = WriteOptions::default();
        options.max_shard_bytes = max_shard_bytes;
        options.buffer_bytes = buffer_bytes;
        options.header_room_bytes = header_room_bytes;
        let mut writer = DumpWriter::create_with(&target, options).unwrap();
        for (name, t) in &tensors {
            writer.push(name, t.role, &t.module, t.dtype, &t.shape, &t.data).unwrap();
        }
        writer.finish(head()).unwrap();

        let dump = Dump::open(&target).unwrap();
        dump.verify().unwrap();
        prop_assert_eq!(dump.tensors().count(), tensors.len());
        for ((entry, view), (name, t)) in dump.tensors().zip(&tensors) {
            prop_assert_eq!(&entry.name, name);
            prop_assert_eq!((entry.role, &entry.module), (t.role, &t.module));
            prop_assert_eq!((view.dtype(), view.shape(), view.data()), (t.dtype, &t.shape[..], &t.data[..]));
        }
        prop_assert_eq!(dump.manifest().head(), head());
        // Each file is one that safetensors itself reads, with a header length that is a multiple of eight.
        let mut stored = 0;
        for item in fs::read_dir(&target).unwrap() {
            let path = item.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                let bytes = fs::read(&path).unwrap();
                stored += safetensors::SafeTensors::deserialize(&bytes).unwrap().len();
                prop_assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
            }
        }
        prop_assert_eq!(stored, tensors.len());
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_small_dump_has_one_file_and_an_exact_header() {
    let folder = tempfile::tempdir().unwrap();
    small(&folder.path().join("dump"));
    assert_eq!(names_in(folder.path()), ["dump"]);
    assert_eq!(names_in(&folder.path().join("dump")), ["manifest.json", "tensors.safetensors"]);
    let bytes = fs::read(folder.path().join("dump/tensors.safetensors")).unwrap();
    assert!(!bytes[8..].windows(9).any(|window| window == [b' '; 9]), "more padding than alignment needs");
}

#[test]
fn several_files_are_named_by_their_entries() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    let mut options = WriteOptions::default();
    options.max_shard_bytes = 24;
    let mut writer = DumpWriter::create_with(&target, options).unwrap();
    push_small(&mut writer);
    writer.finish(head()).unwrap();
    let files = ["tensors-00001-of-00002.safetensors", "tensors-00002-of-00002.safetensors"];
    assert_eq!(names_in(&target), ["manifest.json", files[0], files[1]]);
    let dump = Dump::open(&target).unwrap();
    let named: Vec<_> = dump.entries().iter().map(|entry| entry.file.as_deref().unwrap()).collect();
    assert_eq!(named, files);
    assert_eq!(dump.file_of("b").unwrap(), target.join(files[1]));
    assert_eq!(dump.size_bytes(), 27);
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = WriteOptions::default();
    options.buffer_bytes = 0;
    let mut writer = DumpWriter::create_with(folder.path().join("dump"), options).unwrap();
    push_small(&mut writer);
    assert_eq!(names_in(folder.path()).len(), 1, "the tensors wait in a folder of another name");
    assert!(!folder.path().join("dump").exists());
    drop(writer);
    assert_eq!(names_in(folder.path()), [""; 0]);
}

#[test]
fn a_dump_replaces_only_a_dump_and_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    small(&target);
    let mut writer = DumpWriter::create_replacing(&target).unwrap();
    writer.push("c", Role::Activation, "", Dtype::Bool, &[], &[1]).unwrap();
    assert!(
        Dump::open(&target).unwrap().get("a").is_some(),
        "the old dump stays until the new one is complete"
    );
    writer.finish(head()).unwrap();
    assert!(Dump::open(&target).unwrap().get("c").is_some());
    assert_eq!(names_in(folder.path()), ["dump"]);
}

#[test]
fn an_empty_folder_is_a_fair_target_and_parents_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("some/where");
    fs::create_dir_all(&target).unwrap();
    small(&target);
    small(&folder.path().join("else/where/dump"));
    assert_eq!(names_in(folder.path()), ["else", "some"]);
    assert!(Dump::open(&target).is_ok());
}

#[cfg(unix)]
#[test]
fn a_dump_is_as_readable_as_any_new_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("plain")).unwrap();
    small(&folder.path().join("dump"));
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode("dump"), mode("plain"));
}

#[test]
fn what_a_producer_says_more_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("dump");
    small(&target);
    crate::folders::edit_manifest(&target, |manifest| {
        manifest["producer"]["kv_cache"] = "paged".into();
        manifest["hardware"] = serde_json::json!({"sockets": 2});
        manifest["entries"][0]["seconds"] = 0.25.into();
    });
    let dump = Dump::open(&target).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&dump.manifest().to_json().unwrap()).unwrap();
    assert_eq!(written["producer"]["kv_cache"], "paged");
    assert_eq!(written["hardware"]["sockets"], 2);
    assert_eq!(written["entries"][0]["seconds"], 0.25);
}
