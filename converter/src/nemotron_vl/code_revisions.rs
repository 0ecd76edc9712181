//! Known revisions of the model's code, by their SHA-256.

use serde::Deserialize;

use crate::source::CodeFile;

/// The revisions of RADIO's patch generator, and how each resizes positions.
const REVISIONS: &str = include_str!("code-revisions.json");

#[derive(Deserialize)]
struct Revision {
    repository: String,
    commit: String,
    date: String,
    sha256: String,
    position_interpolation_align_corners: bool,
}

/// `position_interpolation_align_corners` of a patch generator that is recognised by its SHA-256, and which it is.
pub(crate) fn recognise(file: &CodeFile) -> Option<(bool, String)> {
    let revisions: Vec<Revision> = serde_json::from_str(REVISIONS).unwrap_or_default();
    let revision = revisions.into_iter().find(|revision| revision.sha256 == file.sha256)?;
    let detail = format!("recognised as {} {} of {}", revision.repository, revision.commit, revision.date);
    Some((revision.position_interpolation_align_corners, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(sha256: &str) -> CodeFile {
        let name = "vit_patch_generator.py".into();
        CodeFile { name, bytes: Vec::new(), sha256: sha256.into(), origin: None }
    }

    #[test]
    fn recognises_a_revision_by_its_sha256_alone() {
        let before = "591a6ae511fa38c56ee3bea70dce16ebd7854a52be8191a5749b9682c01bbb88";
        let after = "092e9a0b8eca4fee162484ef3ef77b399f686e5e0ffc7be85fb2d69bc2f9ebd9";
        for (sha256, expected, detail) in [
            (before, true, "recognised as NVlabs/RADIO 8dfc443 of 2025-04-16"),
            (after, false, "recognised as NVlabs/RADIO cb07f55 of 2025-06-28"),
        ] {
            assert_eq!(recognise(&file(sha256)), Some((expected, detail.to_string())));
        }
        assert_eq!(recognise(&file(&"0".repeat(64))), None);
    }

    #[test]
    fn the_revisions_are_read_and_change_once() {
        let revisions: Vec<Revision> = serde_json::from_str(REVISIONS).unwrap();
        assert_eq!(revisions.len(), 10);
        for revision in revisions {
            let before = revision.date.as_str() < "2025-06-28";
            assert_eq!(revision.position_interpolation_align_corners, before, "{}", revision.commit);
            assert_eq!(revision.sha256.len(), 64);
        }
    }
}
