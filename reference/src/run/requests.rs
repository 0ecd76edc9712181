//! The file of requests.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::line::RequestLine;
use crate::error::{Error, Result};

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
    /// The request, or what is wrong with the line.
    pub request: std::result::Result<RequestLine, String>,
}

impl Requests {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Read`] where it cannot be read; [`Error::Run`] where two requests have the same id.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let lines: Vec<_> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| SourceLine::parse(index + 1, line))
            .collect();
        let mut seen = HashMap::new();
        for line in &lines {
            if let Some(earlier) = seen.insert(line.id.as_str(), line.number) {
                let problem = format!(
                    "line {}: expected an id of its own, found that of line {earlier}: `{}`",
                    line.number, line.id
                );
                return Err(Error::Run { path: PathBuf::from(path), problem });
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
    fn parse(number: usize, text: &str) -> Self {
        let value: serde_json::Result<Value> = serde_json::from_str(text);
        // A line that is no request may still have a name.
        let named = value.as_ref().ok().and_then(|value| value.get("id")?.as_str().map(str::to_owned));
        let request = match value {
            Err(error) => Err(describe(number, &error)),
            // serde would take a list for an object's fields in order.
            Ok(value) if !value.is_object() => Err(format!(
                "line {number}: expected a request as a JSON object, found another kind of value"
            )),
            // From the text again, since a value has no columns.
            Ok(_) => serde_json::from_str(text).map_err(|error| describe(number, &error)),
        };
        Self { number, id: named.unwrap_or_else(|| number.to_string()), request }
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

/// What is wrong with a line, and at which column.
fn describe(number: usize, error: &serde_json::Error) -> String {
    let said = error.to_string();
    let at = format!(" at line 1 column {}", error.column());
    let said = said.strip_suffix(&at).unwrap_or(&said);
    format!("line {number}, column {}: expected a request as a JSON object: {said}", error.column())
}
