//! The file of requests.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use store::json::{Fault, Text};

use super::line::RequestLine;
use super::row_bytes::begins_as_row;
use crate::error::{Error, Result};

/// The largest file of requests.
const MAX_BYTES: u64 = 1 << 32;

/// What some editors put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// All requests of a JSON Lines file; empty lines do not count.
#[derive(Debug)]
pub struct Requests {
    lines: Vec<SourceLine>,
}

/// A line of the file, whether it is a request or not.
#[derive(Debug)]
pub struct SourceLine {
    /// Counted from 1, as an editor shows it.
    pub number: usize,
    /// Its `id`; the number where it has none, or is no request.
    pub id: String,
    /// SHA-256 of the line.
    pub sha256: String,
    /// The request, or what is wrong with the line.
    pub request: std::result::Result<RequestLine, String>,
}

impl Requests {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Read`] where it cannot be read; [`Error::Run`] where two requests have the same id, or it is a file of
    /// answers.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            store::read(path, MAX_BYTES).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&bytes).map_err(|problem| Error::Run { path: PathBuf::from(path), problem })
    }

    /// Parses the bytes of a file.
    ///
    /// # Errors
    /// What is wrong with the whole.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err("expected UTF-8, found UTF-16".to_owned());
        }
        if begins_as_row(without_mark(bytes)) {
            return Err("expected requests, found answers of an earlier run".to_owned());
        }
        let lines: Vec<_> = bytes
            .split(|&byte| byte == b'\n')
            .map(without_mark)
            .enumerate()
            .filter(|(_, line)| !line.trim_ascii().is_empty())
            .map(|(index, line)| SourceLine::parse(index + 1, line.strip_suffix(b"\r").unwrap_or(line)))
            .collect();
        let mut seen = HashMap::new();
        for line in &lines {
            if let Some(earlier) = seen.insert(line.id.as_str(), line.number) {
                return Err(format!(
                    "line {}: expected a unique id, found that of line {earlier}: `{}`",
                    line.number, line.id
                ));
            }
        }
        Ok(Self { lines })
    }

    /// The lines in order.
    pub fn lines(&self) -> impl Iterator<Item = &SourceLine> {
        self.lines.iter()
    }
}

impl SourceLine {
    fn parse(number: usize, bytes: &[u8]) -> Self {
        let sha256 = golden::sha256_hex(bytes);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let at = error.valid_up_to();
                let problem = format!(
                    "line {number}, byte {}: expected UTF-8, found 0x{:02x}: the file may be in Latin-1",
                    at + 1,
                    bytes[at]
                );
                return Self { number, id: number.to_string(), sha256, request: Err(problem) };
            }
        };
        let value: serde_json::Result<Value> = serde_json::from_str(text);
        // A line that is no request may still have a name.
        let named = value.as_ref().ok().and_then(|value| value.get("id")?.as_str().map(str::to_owned));
        let request = match value {
            Err(error) => Err(describe_literal(number, text).unwrap_or_else(|| describe(number, &error))),
            // serde would take a list for an object's fields in order.
            Ok(value) if !value.is_object() => Err(format!(
                "line {number}: expected a request as a JSON object, found another kind of value"
            )),
            // From the text again, since a value has no columns.
            Ok(_) => serde_json::from_str(text).map_err(|error| describe(number, &error)),
        };
        Self { number, id: named.unwrap_or_else(|| number.to_string()), sha256, request }
    }

    /// The name of the folder of this request's dump: its number and the harmless characters of its id.
    pub fn dump_name(&self) -> String {
        let id: String = self
            .id
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
            .take(100)
            .collect();
        format!("{:06}-{id}", self.number)
    }
}

/// A line without a byte order mark: one stands inside a file where files were put together.
fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
}

/// What is wrong with a line that would be JSON but for Python's `NaN` or `Infinity`.
fn describe_literal(number: usize, line: &str) -> Option<String> {
    let text = Text::new(line.as_bytes()).ok()?;
    text.parse::<Value>().ok()?;
    let Fault { column, field, message, .. } = text.parse::<RequestLine>().err()?;
    Some(format!("line {number}, column {column}: field `{field}`: {message}"))
}

/// What is wrong with a line, and at which column.
fn describe(number: usize, error: &serde_json::Error) -> String {
    let said = error.to_string();
    let at = format!(" at line 1 column {}", error.column());
    let said = said.strip_suffix(&at).unwrap_or(&said);
    format!("line {number}, column {}: expected a request as a JSON object: {said}", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_request() {
        let requests =
            Requests::parse(b"\xef\xbb\xbf{\"prompt\": \"a\"}\r\n\r\n{\"id\": \"b\", \"prompt\": \"c\"}")
                .unwrap();
        let lines: Vec<_> = requests.lines().map(|line| (line.number, line.id.as_str())).collect();
        assert_eq!(lines, [(1, "1"), (3, "b")]);
        assert!(requests.lines().all(|line| line.request.is_ok()));
        // Nor of a later one, where files were put together.
        let requests =
            Requests::parse(b"{\"prompt\": \"a\"}\n\xef\xbb\xbf{\"prompt\": \"b\"}\n\xef\xbb\xbf\n").unwrap();
        assert!(requests.lines().all(|line| line.request.is_ok()));
        assert_eq!(requests.lines().count(), 2);
    }

    #[test]
    fn numbers_that_only_python_has_are_named() {
        let requests = Requests::parse(
            b"{\"prompt\": \"a\", \"temperature\": NaN}\n{\"prompt\": \"NaN\", \"top_p\": -Infinity}\n{\"prompt\": NaN",
        )
        .unwrap();
        let said: Vec<_> = requests.lines().map(|line| line.request.as_ref().unwrap_err().as_str()).collect();
        assert!(said[0].starts_with("line 1, column ") && said[0].contains("`temperature`"), "{said:?}");
        assert!(said[0].contains("NaN"), "{said:?}");
        assert!(said[1].contains("`top_p`") && said[1].contains("-Infinity"), "{said:?}");
        assert!(said[2].starts_with("line 3, column "), "{said:?}");
    }

    #[test]
    fn a_byte_of_latin_1_costs_its_own_line_alone() {
        let requests =
            Requests::parse(b"{\"prompt\": \"a\"}\n{\"prompt\": \"caf\xe9\"}\n{\"prompt\": \"c\"}\n")
                .unwrap();
        let lines: Vec<_> = requests.lines().collect();
        assert!(lines[0].request.is_ok() && lines[2].request.is_ok());
        let said = lines[1].request.as_ref().unwrap_err();
        assert_eq!(said, "line 2, byte 16: expected UTF-8, found 0xe9: the file may be in Latin-1");
    }

    #[test]
    fn what_is_no_file_of_requests_is_named() {
        assert_eq!(Requests::parse(b"\xff\xfe{\0").unwrap_err(), "expected UTF-8, found UTF-16");
        let answers = br#"{"line":1,"id":"a","text":"b"}"#;
        assert_eq!(
            Requests::parse(answers).unwrap_err(),
            "expected requests, found answers of an earlier run"
        );
    }
}
