//! Keeps what a file says from steering the reader's terminal.

/// A text with its control characters, line ends included, written as escapes.
pub fn escaped(text: &str) -> String {
    escape(text, |_| false)
}

/// A text of several lines with its other control characters written as escapes.
pub fn escaped_lines(text: &str) -> String {
    escape(text, |c| c == '\n')
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !keep(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_seen_and_not_obeyed() {
        assert_eq!(escaped("a\u{1b}[2J\nb é"), "a\\u{1b}[2J\\nb é");
        assert_eq!(escaped_lines("a\r\nb\u{9b}"), "a\\r\nb\\u{9b}");
    }
}
