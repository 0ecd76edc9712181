//! Makes text from files safe to show: one function for each kind of output.
//!
//! A name may have any characters. Invisible ones that end a line, move the cursor, or hide or reverse the text around them are
//! escaped (`\n`, `\u{202e}`) in every kind of output. Characters that have a meaning in one kind of output lose it there. Safe
//! text stays as it is, so escaping twice changes nothing in a terminal. Any kind of output may be printed in a job's log.

use std::fmt::Write as _;

/// A text for one line of a terminal, or of a job's log, where a line can be a command to the CI service.
///
/// GitHub reads a line that begins with `::`, and the text after `##[` in any line, as a command. Azure and TeamCity have
/// `##vso[` and `##teamcity[`.
pub fn terminal(text: &str) -> String {
    terminal_text(text, false)
}

/// A text of several lines that we wrote ourselves; the names in it have gone through [`terminal`].
pub fn terminal_lines(text: &str) -> String {
    terminal_text(text, true)
}

/// A text for an attribute or an element of XML. The five characters of its markup are left to the writer of the XML.
///
/// XML has no way to write some characters, not even as references.
pub fn xml(text: &str) -> String {
    terminal(text)
}

/// A text in which nothing is markup: neither Markdown's (as GitHub reads it) nor HTML's, and no cell's end.
pub fn markdown(text: &str) -> String {
    let text = terminal(text);
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // An at sign and a number sign would name people and issues.
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            // An address would become a link.
            ':' if text[at..].starts_with("://") => out.push_str("&#58;"),
            '.' if is_www(&text[..at]) => out.push_str("&#46;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// A text for an element or a quoted attribute of HTML. A brace, which begins a place in a template, is escaped too.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in terminal(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '{' => out.push_str("&#123;"),
            c => out.push(c),
        }
    }
    out
}

/// A text for a quoted string of Graphviz, in which a backslash begins an escape.
pub fn dot(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in terminal(text).chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A text for a quoted label of Mermaid, which takes HTML, Markdown and entities of its own (`#35;`).
pub fn mermaid(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in terminal(text).chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | ';' | '`' | '\\' | '*' | '_' | '%' | '{' | '}' | '[' | ']'
            | '(' | ')' | '$' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// A text as a string of TOML, quotes included, which a reader gives back as it was: a literal string where that is
/// possible, since regular expressions are full of backslashes.
pub fn toml(text: &str) -> String {
    let as_it_is = |at: usize, c: char| is_seen(c) && !(c == '#' && is_command(&text[at..]));
    if text.contains('\\') && !text.contains('\'') && text.char_indices().all(|(at, c)| as_it_is(at, c)) {
        return format!("'{text}'");
    }
    let mut out = String::from("\"");
    for (at, c) in text.char_indices() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if as_it_is(at, c) => out.push(c),
            c => push_code(&mut out, "\\U", 8, u32::from(c)),
        }
    }
    out.push('"');
    out
}

/// A text for a comment of TOML, or of any language in which a line's end ends one.
pub fn comment(text: &str) -> String {
    terminal(text)
}

/// A finished JSON document, the strings of which a terminal or a job's log takes for nothing else: the same values, with
/// what is not seen written as `\u202e`.
pub fn json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for (at, c) in document.char_indices() {
        // Outside strings, JSON has neither of these; the line breaks there are its layout.
        if c == '#' && is_command(&document[at..]) || !is_seen(c) && !c.is_ascii_whitespace() {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|&unit| push_code(&mut out, "\\u", 4, unit.into()));
        } else {
            out.push(c);
        }
    }
    out
}

fn terminal_text(text: &str, keep_lines: bool) -> String {
    let text = seen(text, keep_lines);
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        // Lines are broken at spaces, so that any word may come to begin one.
        let begins_line = c == ':' && before.is_whitespace() && text[at..].starts_with("::");
        if begins_line || c == '#' && is_command(&text[at..]) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        before = c;
    }
    out
}

/// Whether a text begins with `##[`, or has a service's name before the bracket.
fn is_command(text: &str) -> bool {
    let name = text.strip_prefix("##");
    name.is_some_and(|rest| rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).starts_with('['))
}

/// Whether a text ends in `www` as a word of its own.
fn is_www(text: &str) -> bool {
    let before = text.len().checked_sub(3).map(|start| text.as_bytes().split_at(start));
    before.is_some_and(|(before, last)| {
        last.eq_ignore_ascii_case(b"www") && !before.last().is_some_and(u8::is_ascii_alphanumeric)
    })
}

/// A text with what is not seen written as escapes.
fn seen(text: &str, keep_lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_seen(c) || keep_lines && c == '\n' {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

/// Whether a character shows itself and nothing else: no control, no format character (those of bidirectional text among
/// them), no separator but the space, nothing that Unicode has not assigned.
fn is_seen(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library knows them. Behind another character it leaves combining marks as they are, and with them one
    // that joins nothing.
    let mut text = [b'x'; 5];
    let bytes = 1 + c.encode_utf8(&mut text[1..]).len();
    let text = std::str::from_utf8(&text[..bytes]).unwrap_or_default();
    c != '\u{200c}' && text.escape_debug().count() == 2
}

fn push_code(out: &mut String, prefix: &str, digits: usize, code: u32) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{prefix}{code:0digits$x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each kind that is not seen one: C0, DEL, C1, bidirectional, zero width, separators, tags, noncharacters.
    const UNSEEN: &str = "\0\t\n\r\u{1b}\u{7f}\u{85}\u{9b}\u{ad}\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{202e}\u{2028}\
                          \u{2029}\u{2066}\u{2069}\u{feff}\u{fffe}\u{ffff}\u{e0001}\u{e0041}\u{1fffe}\u{10ffff}";

    #[test]
    fn what_is_not_seen_is_in_no_kind_of_output() {
        type Escape = fn(&str) -> String;
        let kinds: [(&str, Escape); 9] = [
            ("terminal", terminal),
            ("xml", xml),
            ("markdown", markdown),
            ("html", html),
            ("dot", dot),
            ("mermaid", mermaid),
            ("toml", toml),
            ("comment", comment),
            ("json", json),
        ];
        for (kind, escape) in kinds {
            for c in UNSEEN.chars().filter(|c| kind != "json" || !c.is_ascii_whitespace()) {
                let escaped = escape(&format!("a{c}b"));
                assert!(escaped.chars().all(|c| matches!(c, ' '..='~')), "{kind}: {c:?}: {escaped:?}");
                assert!(escaped.len() > 3, "{kind}: {c:?}: {escaped:?}");
            }
        }
    }

    #[test]
    fn what_is_seen_stays() {
        let text = "a.b-c_1 é 模型 e\u{301} 👍 std::vector `x` #1 ## [x] a:b";
        assert_eq!(terminal(text), text);
        assert_eq!(xml(text), text);
        assert_eq!(terminal_lines("a\nb\n"), "a\nb\n");
        assert_eq!(terminal(&terminal("a\n\u{202e}::b")), terminal("a\n\u{202e}::b"));
    }

    #[test]
    fn no_line_is_a_command_to_a_ci_service() {
        assert_eq!(terminal("::set-output name=a::b"), "\\u{3a}:set-output name=a::b");
        assert_eq!(terminal("a ::error::b"), "a \\u{3a}:error::b");
        assert_eq!(terminal("a\n::error::b"), "a\\n::error::b");
        assert_eq!(terminal_lines("a\n  ::error::b"), "a\n  \\u{3a}:error::b");
        assert_eq!(terminal("x##[add-path]/y"), "x\\u{23}#[add-path]/y");
        assert_eq!(terminal("##vso[task.x]"), "\\u{23}#vso[task.x]");
        assert_eq!(toml("##[x]::"), "\"\\U00000023#[x]::\"");
        assert_eq!(html("##[x]"), "\\u&#123;23}#[x]");
        assert_eq!(json("[\"##[x]\u{9b}\u{1fffe}\"]\n"), "[\"\\u0023#[x]\\u009b\\ud83f\\udffe\"]\n");
    }

    #[test]
    fn nothing_in_a_label_ends_it() {
        assert_eq!(dot("a\\l\"]; b\n"), "a\\\\l\\\"]; b\\\\n");
        assert_eq!(mermaid("a\"<b>#35;`x`"), "a#34;#60;b#62;#35;35#59;#96;x#96;");
    }

    #[test]
    fn nothing_in_a_name_is_markup() {
        assert_eq!(
            markdown("a|b`c`<b>@x #1 [y](z)$m$\n"),
            "a\\|b\\`c\\`&lt;b&gt;&#64;x &#35;1 \\[y\\](z)\\$m\\$\\\\n"
        );
        assert_eq!(markdown("https://a www.b WWW.c xwww.d"), "https&#58;//a www&#46;b WWW&#46;c xwww.d");
        assert_eq!(html("<b>{data}&\"'\n"), "&lt;b&gt;&#123;data}&amp;&quot;&#39;\\n");
    }

    #[test]
    fn toml_is_a_literal_where_that_can_be() {
        assert_eq!(toml(r"a\.b"), r"'a\.b'");
        assert_eq!(toml("a.b"), "\"a.b\"");
        assert_eq!(toml("a'\\\"\u{7}\u{202e}"), "\"a'\\\\\\\"\\U00000007\\U0000202e\"");
    }
}
