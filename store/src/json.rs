//! JSON as Python programs write it.
//!
//! Python's `json` writes `NaN`, `Infinity` and `-Infinity`, which JSON does not have, and reads them again. The configuration
//! of a training run may contain one. They are read here, so that one in an unused field does not make the file unreadable.
//!
//! Why no library does this alone: `serde_json` refuses these words. This module replaces them, lets `serde_json` read the
//! text, and reports line, column and field of the original.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::Content;

/// Python's names of numbers that JSON does not have; the longest first, since one is the end of another.
const LITERALS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
/// The only key of the object that stands for a literal: no character, so that no text has it by chance.
const KEY: &str = "\u{ffff}";

/// Why a text is not the JSON that was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What the text is, where it is something that is known by its content, and no JSON.
    pub content: Option<Content>,
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// Dotted path of the value; empty at the top.
    pub field: String,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Some(content) => write!(f, "expected JSON, found {content}"),
            None => write!(f, "{} at line {} column {}", self.message, self.line, self.column),
        }
    }
}

impl std::error::Error for Fault {}

/// A text that should be JSON.
#[derive(Debug, Clone)]
pub struct Text<'a> {
    original: &'a [u8],
    /// The text with each literal replaced by what stands for it.
    bytes: Cow<'a, [u8]>,
    replaced: Vec<Replaced>,
}

/// A literal that was replaced.
#[derive(Debug, Clone)]
struct Replaced {
    /// What stands in its place.
    place: Range<usize>,
    /// Its own length.
    len: usize,
}

impl<'a> Text<'a> {
    /// Takes `text`, of which nothing is read yet; a literal is read as an object that [`literal`] knows.
    ///
    /// # Errors
    /// For a byte order mark, which JSON has none of.
    pub fn new(text: &'a [u8]) -> Result<Self, Fault> {
        Self::replacing(text, |literal| format!("{{\"{KEY}\":\"{literal}\"}}"))
    }

    fn replacing(text: &'a [u8], stand_in: impl Fn(&str) -> String) -> Result<Self, Fault> {
        let marks: [(&[u8], &str); 3] = [
            (
                b"\xef\xbb\xbf",
                "expected JSON without a byte order mark (BOM), found one: save it as plain UTF-8",
            ),
            (b"\xff\xfe", "expected JSON in UTF-8, found UTF-16"),
            (b"\xfe\xff", "expected JSON in UTF-8, found UTF-16"),
        ];
        if let Some((_, message)) = marks.into_iter().find(|(mark, _)| text.starts_with(mark)) {
            // A web page with a mark is a web page first.
            let content = Content::of(text).filter(|content| *content != Content::Json);
            return Err(Fault { content, line: 1, column: 1, field: String::new(), message: message.into() });
        }
        let mut bytes = Vec::new();
        let mut replaced = Vec::new();
        let mut copied = 0;
        for (start, literal) in literals(text) {
            bytes.extend_from_slice(&text[copied..start]);
            let from = bytes.len();
            bytes.extend_from_slice(stand_in(literal).as_bytes());
            replaced.push(Replaced { place: from..bytes.len(), len: literal.len() });
            copied = start + literal.len();
        }
        if replaced.is_empty() {
            return Ok(Self { original: text, bytes: Cow::Borrowed(text), replaced });
        }
        bytes.extend_from_slice(&text[copied..]);
        Ok(Self { original: text, bytes: Cow::Owned(bytes), replaced })
    }

    /// Whether the text begins as an object.
    pub fn is_object(&self) -> bool {
        self.original.trim_ascii_start().first() == Some(&b'{')
    }

    /// Deserializes the text.
    ///
    /// # Errors
    /// If it is no JSON, or no `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        let mut deserializer = serde_json::Deserializer::from_slice(&self.bytes);
        let value = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| self.fault(Some(error.path()), error.inner()))?;
        deserializer.end().map_err(|error| self.fault(None, &error))?;
        Ok(value)
    }

    /// Walks the text with `seed`.
    ///
    /// # Errors
    /// If it is no JSON, or not what `seed` accepts.
    pub fn walk<'de, S: DeserializeSeed<'de>>(&'de self, seed: S) -> Result<S::Value, Fault> {
        let mut deserializer = serde_json::Deserializer::from_slice(&self.bytes);
        let value = seed.deserialize(&mut deserializer).map_err(|error| self.fault(None, &error))?;
        deserializer.end().map_err(|error| self.fault(None, &error))?;
        Ok(value)
    }

    fn fault(&self, path: Option<&Path>, error: &serde_json::Error) -> Fault {
        let text = error.to_string();
        // serde_json puts the position behind its message.
        let message = match text.rfind(" at line ") {
            Some(end) if error.line() > 0 => text[..end].to_string(),
            _ => text,
        };
        let field = match path.map(Path::to_string) {
            Some(field) if field != "." => field,
            _ => String::new(),
        };
        let (field, message) =
            path.and_then(|path| self.literal_instead(path, &field, &message)).unwrap_or((field, message));
        Fault {
            content: Content::of(self.original).filter(|content| *content != Content::Json),
            line: error.line(),
            column: self.original_column(error.line(), error.column()),
            field,
            message,
        }
    }

    /// Field and message where the object that was found in the place of another value stands for a literal.
    fn literal_instead(&self, path: &Path, field: &str, message: &str) -> Option<(String, String)> {
        let expected =
            message.strip_prefix("invalid type: map, expected ").filter(|_| !self.replaced.is_empty())?;
        let value: Value = serde_json::from_slice(&self.bytes).ok()?;
        let mut place = &value;
        for segment in path.iter() {
            place = match segment {
                Segment::Map { key } => place.get(key)?,
                Segment::Seq { index } => place.get(index)?,
                _ => return None,
            };
        }
        let (inner, literal) = first_literal(place)?;
        let field = if field.is_empty() { inner } else { joined(field, &inner) };
        Some((field, format!("expected {expected}, found `{literal}`")))
    }

    /// The column in the original of one in the text that was read.
    fn original_column(&self, line: usize, column: usize) -> usize {
        let breaks = self.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(i, _)| i + 1);
        let line_start = std::iter::once(0).chain(breaks).nth(line.saturating_sub(1)).unwrap_or(0);
        let place = line_start + column;
        let on_line = self.replaced.iter().filter(|replaced| replaced.place.start >= line_start);
        let grown: usize = on_line
            .filter(|replaced| replaced.place.start < place)
            .map(|replaced| match place.checked_sub(replaced.place.end) {
                Some(_) => replaced.place.len() - replaced.len,
                // Inside: the literal's first byte.
                None => place - replaced.place.start - 1,
            })
            .sum();
        column - grown
    }
}

/// Deserializes `text`, in which a literal may stand wherever `T` keeps what it does not know: there it becomes a text, its
/// own name.
///
/// # Errors
/// If it is no JSON, or no `T`; a literal in a field that `T` knows is none of its values.
pub fn parse_keeping_literals<T: DeserializeOwned>(text: &[u8]) -> Result<T, Fault> {
    let strict = Text::new(text)?;
    // As an object first: a text would pass where a text is due.
    let value = strict.parse()?;
    if strict.replaced.is_empty() {
        return Ok(value);
    }
    Text::replacing(text, |literal| format!("\"{literal}\""))?.parse()
}

/// Python's name of the number that `value` stands for, if it stands for one that JSON does not have.
pub fn literal(value: &Value) -> Option<&str> {
    match value {
        Value::Object(object) if object.len() == 1 => object.get(KEY)?.as_str(),
        _ => None,
    }
}

/// The JSON of `value`, on one line, with its literals as Python writes them.
pub fn show(value: &Value) -> String {
    LITERALS.into_iter().fold(value.to_string(), |text, literal| {
        text.replace(&format!("{{\"{KEY}\":\"{literal}\"}}"), literal)
    })
}

/// Path and name of the first literal in `value`.
fn first_literal(value: &Value) -> Option<(String, &str)> {
    if let Some(literal) = literal(value) {
        return Some((String::new(), literal));
    }
    let below = |name: String, value| {
        let (inner, literal) = first_literal(value)?;
        Some((joined(&name, &inner), literal))
    };
    match value {
        Value::Object(object) => object.iter().find_map(|(name, value)| below(name.clone(), value)),
        Value::Array(items) => items.iter().enumerate().find_map(|(i, item)| below(format!("[{i}]"), item)),
        _ => None,
    }
}

/// The path of what is at `inner` below `outer`.
fn joined(outer: &str, inner: &str) -> String {
    let separator = if inner.is_empty() || inner.starts_with('[') { "" } else { "." };
    format!("{outer}{separator}{inner}")
}

/// Where Python's literals stand in `text`, outside of its strings.
fn literals(text: &[u8]) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    let is_part =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_-+.".contains(byte));
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => at = end_of_string(text, at),
            b'N' | b'I' | b'-' => {
                let literal = LITERALS.into_iter().find(|literal| text[at..].starts_with(literal.as_bytes()));
                let before = at.checked_sub(1).and_then(|before| text.get(before));
                match literal {
                    Some(literal) if !is_part(before) && !is_part(text.get(at + literal.len())) => {
                        found.push((at, literal));
                        at += literal.len();
                    }
                    _ => at += 1,
                }
            }
            _ => at += 1,
        }
    }
    found
}

/// Behind the string that begins at `start`, or behind the text where it does not end.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Map, json};

    use super::*;

    fn value(text: &str) -> Value {
        Text::new(text.as_bytes()).unwrap().parse().unwrap()
    }

    fn fault<T: DeserializeOwned + fmt::Debug>(text: &str) -> Fault {
        Text::new(text.as_bytes()).and_then(|text| text.parse::<T>()).unwrap_err()
    }

    #[test]
    fn pythons_literals_are_read_wherever_a_value_may_stand() {
        let text = r#"{"a": NaN, "b": [Infinity, -Infinity], "c": "NaN, \" Infinity", "d": {"e":NaN}}"#;
        let read = value(text);
        assert_eq!(literal(&read["a"]), Some("NaN"));
        assert_eq!(literal(&read["b"][0]), Some("Infinity"));
        assert_eq!(literal(&read["b"][1]), Some("-Infinity"));
        assert_eq!(read["c"], "NaN, \" Infinity");
        assert_eq!(literal(&read["c"]), None);
        assert_eq!(show(&read), r#"{"a":NaN,"b":[Infinity,-Infinity],"c":"NaN, \" Infinity","d":{"e":NaN}}"#);
        assert_eq!(literal(&value("NaN")), Some("NaN"));
    }

    #[test]
    fn what_only_looks_like_a_literal_is_refused_at_its_own_place() {
        for text in ["{\"a\": NaNs}", "{\"a\": nan}", "{\"a\": +Infinity}", "{\"a\": Infinity0}", "{NaN: 1}"]
        {
            let fault = fault::<Value>(text);
            assert_eq!((fault.line, fault.content), (1, None), "{text}: {}", fault.message);
        }
        // Behind a literal, columns are those of the original.
        let fault = fault::<Value>("{\"a\": NaN, \"b\": }");
        assert_eq!((fault.line, fault.column, fault.message.as_str()), (1, 17, "expected value"));
    }

    #[test]
    fn a_literal_in_a_field_that_matters_is_named() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Outer {
            size: Option<u64>,
            #[serde(default)]
            kind: Option<Kind>,
        }
        #[derive(Debug, Deserialize)]
        #[serde(tag = "type")]
        #[allow(dead_code)]
        enum Kind {
            A { factor: f64 },
        }
        // serde_json points in front of an object.
        let first = fault::<Outer>("{\n\"size\": Infinity}");
        assert_eq!(
            (first.field.as_str(), first.message.as_str()),
            ("size", "expected u64, found `Infinity`")
        );
        assert_eq!((first.line, first.column), (2, 8));
        // serde reads a tagged enum whole before it looks inside.
        let second = fault::<Outer>(r#"{"size": 1, "kind": {"type": "A", "factor": NaN}}"#);
        assert_eq!(
            (second.field.as_str(), second.message.as_str()),
            ("kind.factor", "expected f64, found `NaN`")
        );
        let other = fault::<Outer>(r#"{"size": {"a": 1}, "x": NaN}"#);
        assert_eq!(
            (other.field.as_str(), other.message.as_str()),
            ("size", "invalid type: map, expected u64")
        );
    }

    #[test]
    fn a_literal_that_nobody_reads_is_kept_as_its_name() {
        #[derive(Debug, Deserialize)]
        struct Known {
            name: String,
            #[serde(flatten)]
            extra: Map<String, Value>,
        }
        let known: Known =
            parse_keeping_literals(br#"{"name": "a", "loss": NaN, "more": [-Infinity]}"#).unwrap();
        assert_eq!(known.name, "a");
        assert_eq!(Value::from(known.extra), json!({ "loss": "NaN", "more": ["-Infinity"] }));
        let fault = parse_keeping_literals::<Known>(br#"{"name": NaN}"#).unwrap_err();
        assert_eq!(
            (fault.field.as_str(), fault.message.as_str()),
            ("name", "expected a string, found `NaN`")
        );
    }

    #[test]
    fn what_is_no_json_is_told_as_what_it_is() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n";
        for (text, found) in [
            (pointer, "expected JSON, found a Git LFS pointer to a file of 5 bytes"),
            ("", "expected JSON, found an empty file"),
            ("<!doctype html>", "expected JSON, found a web page"),
            ("\u{feff}<html>", "expected JSON, found a web page"),
            (
                "\u{feff}{}",
                "expected JSON without a byte order mark (BOM), found one: save it as plain UTF-8 at line 1 column 1",
            ),
            ("{\"a\" 1}", "expected `:` at line 1 column 6"),
        ] {
            assert_eq!(fault::<Value>(text).to_string(), found);
        }
        assert!(
            Text::new(b"\xff\xfe{\0}\0")
                .unwrap_err()
                .to_string()
                .starts_with("expected JSON in UTF-8, found UTF-16")
        );
    }
}
