//! A template's text, before the engine has it.

/// The longest template: those in use have up to 50 kB.
pub const MAX_BYTES: usize = 256 << 10;

/// The longest tag, not counting texts in quotes: the engine takes the square of its length to compile one.
const MAX_TAG_BYTES: usize = 4096;

/// What is too long in a template, and how long it is.
///
/// # Errors
/// What was expected, and what was found.
pub fn check_lengths(source: &str) -> Result<(), (&'static str, String)> {
    if source.len() > MAX_BYTES {
        return Err(("a template of at most 256 KiB", format!("{} bytes", source.len())));
    }
    let mut rest = source.as_bytes();
    while let Some(start) = rest.windows(2).position(|pair| pair == b"{{" || pair == b"{%") {
        let (length, end) = tag_length(&rest[start + 2..]);
        if length > MAX_TAG_BYTES {
            let line = source.len() - rest.len() + start;
            let line = 1 + source.as_bytes()[..line].iter().filter(|&&byte| byte == b'\n').count();
            let found = format!("one of {length} bytes in line {line}");
            return Err(("tags of at most 4096 bytes, texts in quotes not counted", found));
        }
        rest = &rest[start + 2 + end..];
    }
    Ok(())
}

/// Bytes of a tag that are in no quotes, and where it ends: at the first `}` or `%}` outside of quotes and brackets.
fn tag_length(tag: &[u8]) -> (usize, usize) {
    let (mut length, mut depth, mut at) = (0, 0_usize, 0);
    while let Some(&byte) = tag.get(at) {
        match byte {
            b'\'' | b'"' => {
                at += 1;
                while tag.get(at).is_some_and(|&other| other != byte) {
                    at += if tag[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'(' | b'[' | b'{' => depth += 1,
            b'}' if depth == 0 => break,
            b'%' if depth == 0 && tag.get(at + 1) == Some(&b'}') => break,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        length += 1;
    }
    (length, at.min(tag.len()))
}

/// The template with its `generation` blocks, which mark the assistant's answers for training, as plain blocks.
pub fn without_generation_tags(source: &str) -> String {
    let mut rest = source;
    let mut result = String::with_capacity(source.len());
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + length];
        let word = tag.trim_matches(|character: char| character.is_whitespace() || "+-".contains(character));
        let replacement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        result.push_str(&rest[..start + 2]);
        match replacement {
            Some(replacement) => result.push_str(&tag.replace(word, replacement)),
            None => result.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_ends_outside_of_quotes_and_brackets() {
        for (tag, length) in [
            (" x }} rest", 3),
            (" x %} rest", 3),
            (" {'a': {}} }}", 9),
            (r#" "}} \" %}" + x }}"#, 7),
            (" (x %} ) %}", 9),
            ("", 0),
            (" 'never closed", 2),
        ] {
            assert_eq!(tag_length(tag.as_bytes()).0, length, "{tag}");
        }
    }

    #[test]
    fn long_tags_are_refused_by_line_and_long_texts_are_not() {
        let tag = |inside: &str| format!("text\n{{{{ {inside} }}}} {{% if x %}}");
        assert!(check_lengths(&tag(&format!("'{}'", "a".repeat(100_000)))).is_ok());
        assert!(check_lengths(&"{{ x }}".repeat(30_000)).is_ok());
        for long in
            ["x+".repeat(3000), format!("'}}}}' {}", "x+".repeat(3000)), format!("{{}}{}", "x+".repeat(3000))]
        {
            let (_, found) = check_lengths(&tag(&long)).unwrap_err();
            assert!(found.ends_with(" in line 2"), "{found}");
        }
    }
}
