//! What may be the name of a repository, a revision or a file of the hub: each becomes part of a path and of a URL.

use std::fmt::Write as _;

/// Whether `text` is `owner/name` as the hub has it.
pub(in crate::source) fn is_repository(text: &str) -> bool {
    let is_part = |part: &str| {
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        end(part.chars().next()) && end(part.chars().next_back()) && is_plain(part)
    };
    let parts = text.split_once('/');
    parts.is_some_and(|(owner, name)| is_part(owner) && is_part(name))
        && text.len() <= 96
        && !text.contains("--")
        && !text.contains("..")
        && !text.ends_with(".git")
}

/// Whether `text` may be a branch, a tag or a commit: what git allows for a reference, without what only a shell or a Windows
/// path could mean by it.
pub(in crate::source) fn is_revision(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && !part.ends_with('.')
            && !part.ends_with(".lock")
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.+=#!,()".contains(c) || c.is_alphanumeric())
    };
    text.len() <= 250 && !text.contains("..") && text.split('/').all(is_part)
}

/// Whether `text` is a commit, which never means anything else tomorrow.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a name that came from the hub is one component of a path and of a URL.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 250
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// One component of a URL.
pub(super) fn quoted(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing into a `String` cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_not_plain() {
        assert!(is_plain("model-00001-of-00004.safetensors"));
        for name in ["", ".", "..", "../a", "a/b", "/a", "a\\b", "a b", "a\n", "a%2e", &"a".repeat(251)] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn a_repository_is_what_huggingface_hub_takes_for_one() {
        for name in ["nvidia/Llama-3.1_x", "a/b", "_a/b_", "a.b/c-d"] {
            assert!(is_repository(name), "{name}");
        }
        for name in [
            "a", "a/b/c", "../b", "a/..", "a/.b", "a/b.", "-a/b", "a/b-", "a--b/c", "a/b..c", "a/b.git",
            "a/b c", "/", "",
        ] {
            assert!(!is_repository(name), "{name}");
        }
        assert!(!is_repository(&format!("a/{}", "b".repeat(95))));
    }

    #[test]
    fn a_revision_stays_below_refs() {
        for name in ["main", "v1.0", "refs/pr/1", "feature/x-y", "0123abc", "größe", "a+b"] {
            assert!(is_revision(name), "{name}");
        }
        for name in [
            "",
            "..",
            ".",
            "../../../x",
            "a/../b",
            "a..b",
            "/a",
            "a/",
            "a//b",
            ".hidden",
            "a/.b",
            "-x",
            "a b",
            "a\nb",
            "a\\b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "x.lock",
            "a.",
            "a%2e%2e",
        ] {
            assert!(!is_revision(name), "{name:?}");
        }
        assert!(!is_revision(&"a".repeat(251)));
    }

    #[test]
    fn a_url_has_no_slash_of_a_revision() {
        assert_eq!(quoted("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(quoted("größe+a"), "gr%C3%B6%C3%9Fe%2Ba");
    }
}
