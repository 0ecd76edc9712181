//! What holds of any bytes as a dump; the fuzz target and a test of `golden` share it.

use std::fs;
use std::path::Path;

use golden::Dump;

/// Writes a dump into a folder (the manifest's length in four bytes, the manifest, the tensors) and reads it: it is refused
/// in a sentence, or what it says of its tensors is true. Whether it was read.
pub fn check(folder: &Path, bytes: &[u8]) -> bool {
    let (length, rest) = bytes.split_at(bytes.len().min(4));
    let length = length.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte));
    let (manifest, tensors) = rest.split_at(length.min(rest.len()));
    for (name, content) in [("manifest.json", manifest), ("tensors.safetensors", tensors)] {
        fs::write(folder.join(name), content).expect("the folder is the test's own");
    }
    let dump = match Dump::open(folder) {
        Ok(dump) => dump,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let _ = error.hint();
            return false;
        }
    };
    for entry in dump.entries() {
        let tensor = dump.get(&entry.name);
        assert_eq!(tensor.is_none(), dump.sketch(&entry.name).is_some());
        if let Some(tensor) = tensor {
            assert_eq!((tensor.dtype(), tensor.shape()), (entry.dtype, entry.shape.as_slice()));
            assert_eq!(tensor.data().len(), tensor.len_elems() * entry.dtype.size_bytes());
            assert!(tensor.data().iter().fold(0_u64, |sum, &byte| sum + u64::from(byte)) < u64::MAX);
        }
    }
    assert!(dump.size_bytes() <= tensors.len() as u64);
    let _ = dump.verify();
    // What is read can be written again, and is then the same.
    let text = serde_json::to_vec(dump.manifest()).expect("a manifest that was read");
    let again: golden::Manifest = serde_json::from_slice(&text).expect("a manifest that was written");
    assert_eq!(&again, dump.manifest());
    true
}
