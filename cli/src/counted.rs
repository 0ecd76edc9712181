//! Counts in sentences.

/// A count with its noun in the singular or plural: `1 entry`, `2 entries`.
pub fn counted(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{count} {stem}ies"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            ["entry", "picture", "key"].map(|noun| counted(1, noun)),
            ["1 entry", "1 picture", "1 key"]
        );
        assert_eq!(
            ["entry", "picture", "key"].map(|noun| counted(0, noun)),
            ["0 entries", "0 pictures", "0 keys"]
        );
    }
}
