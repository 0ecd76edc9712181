//! Dumps spoilt at random: an error or a dump, never a panic, and never other bytes than those recorded.

use std::fs;

use golden::Dump;
use proptest::prelude::*;

use crate::folders::small;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_spoilt_dump_is_refused_or_unchanged(
        in_manifest in any::<bool>(),
        at in any::<proptest::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..4),
        removed in 0usize..4,
    ) {
        // One dump for all cases: a case spoils one of its files and puts it right again.
        thread_local! {
            static FOLDER: tempfile::TempDir = {
                let folder = tempfile::tempdir().unwrap();
                small(&folder.path().join("dump"));
                folder
            };
        }
        let target = FOLDER.with(|folder| folder.path().join("dump"));
        let file = target.join(if in_manifest { "manifest.json" } else { "tensors.safetensors" });
        let clean = fs::read(&file).unwrap();
        let start = at.index(clean.len());
        let end = (start + removed).min(clean.len());
        let mut spoilt = clean.clone();
        spoilt.splice(start..end, bytes);
        let before: Vec<Vec<u8>> = data(&Dump::open(&target).unwrap());
        fs::write(&file, &spoilt).unwrap();
        let trusted = Dump::open(&target).ok().filter(|dump| dump.verify().is_ok());
        let after = trusted.as_ref().map(data);
        drop(trusted);
        fs::write(&file, &clean).unwrap();
        // What is trusted has the bytes that were recorded, unless the change is in the manifest, which could name
        // other hashes only by chance.
        if let Some(after) = after {
            prop_assert_eq!(after, before);
        }
    }
}

fn data(dump: &Dump) -> Vec<Vec<u8>> {
    dump.tensors().map(|(_, tensor)| tensor.data().to_vec()).collect()
}
