//! JSON that is not trusted: every failure names the file, line, column and field; a key given twice is a failure.
//!
//! Why no library does this alone: `serde_json` takes the last of two equal keys, and does not name the field.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use store::json::{Fault, Text};

use crate::Error;
use crate::error::visible;

/// Deserializes `text`, the content of the file at `path`, which must be one JSON object. Python's `NaN` and `Infinity` are
/// read as [`store::json`] says: a field that asks for a number has none there.
///
/// # Errors
/// [`Error::Content`] if it is a file of another kind; [`Error::Json`] if it is not JSON, not an object, not a `T`, or gives a
/// key twice.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, Error> {
    let fault = |fault| json_error(path, fault);
    let text = Text::new(text).map_err(fault)?;
    // Maps would keep the last of two in silence.
    text.walk(UniqueKeys).map_err(fault)?;
    // A list would pass for a structure whose fields have defaults.
    if !text.is_object() {
        return Err(Error::Json {
            path: path.to_path_buf(),
            line: 1,
            column: 1,
            field: String::new(),
            message: "expected an object, found another value".into(),
        });
    }
    text.parse().map_err(fault)
}

/// The failure that `fault` is, in the file at `path`.
fn json_error(path: &Path, fault: Fault) -> Error {
    let path = path.to_path_buf();
    match fault {
        Fault { content: Some(content), .. } => Error::Content { path, expected: "a JSON file", content },
        Fault { line, column, field, message, .. } => {
            Error::Json { path, line, column, field, message: visible(&message) }
        }
    }
}

struct UniqueKeys;

impl<'de> DeserializeSeed<'de> for UniqueKeys {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(UniqueKeys)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen: HashSet<String> = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(serde::de::Error::custom(format!(
                    "expected each key once, found `{}` twice",
                    key.escape_debug()
                )));
            }
            entries.next_value_seed(UniqueKeys)?;
            seen.insert(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn message(text: &str) -> String {
        parse::<Value>(Path::new("a.json"), text.as_bytes()).expect_err("refused").to_string()
    }

    #[test]
    fn names_line_and_column_of_broken_text() {
        assert_eq!(message("{\n  \"a\": }"), "`a.json`: line 2, column 8: expected value");
        assert_eq!(message("{} {}"), "`a.json`: line 1, column 4: trailing characters");
        assert_eq!(message("{\"a\": NaN, \"b\": }"), "`a.json`: line 1, column 17: expected value");
    }

    #[test]
    fn says_what_a_file_is_that_is_no_json() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 17\n";
        for (text, found) in [
            ("", "an empty file"),
            (pointer, "a Git LFS pointer to a file of 17 bytes"),
            ("<!DOCTYPE html>", "a web page"),
        ] {
            assert_eq!(message(text), format!("`a.json`: expected a JSON file, found {found}"));
        }
        let error = parse::<Value>(Path::new("a.json"), pointer.as_bytes()).expect_err("refused");
        assert!(error.hint().is_some_and(|hint| hint.contains("`git lfs pull`")));
        assert!(message("\u{feff}{}").contains("expected JSON without a byte order mark (BOM), found one"));
    }

    #[test]
    fn refuses_everything_but_an_object() {
        for text in ["[]", "1", "null", " \"a\""] {
            assert_eq!(message(text), "`a.json`: line 1, column 1: expected an object, found another value");
        }
    }

    #[test]
    fn refuses_a_key_given_twice_at_any_depth() {
        assert_eq!(
            message("{\"a\": [{\"b\": 1, \"b\": 2}]}"),
            "`a.json`: line 1, column 19: expected each key once, found `b` twice"
        );
        assert!(message("{\"a\": 1, \"\\u0061\": 2}").contains("found `a` twice"));
    }

    #[test]
    fn names_the_field_of_a_wrong_type() {
        #[derive(Debug, serde::Deserialize)]
        struct Outer {
            #[allow(dead_code)]
            inner: Vec<u8>,
        }
        let error = parse::<Outer>(Path::new("a.json"), b"{\"inner\": [1, \"x\"]}").expect_err("refused");
        assert_eq!(
            error.to_string(),
            "`a.json`: line 1, column 17, field `inner[1]`: invalid type: string \"x\", expected u8"
        );
    }
}
