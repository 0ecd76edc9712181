//! Which steps of a generation are recorded.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::{Error, Result};

/// A choice of forward passes: `0:4` (0 to 3), `2:` (from 2 on), `every:16`, numbers, or several of these with commas between.
///
/// Step 0 is the prefill. Step n computes the logits that choose generated token n.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    text: String,
    parts: Vec<Part>,
}

/// Steps from the first on, a stride apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    first: u64,
    /// The one behind the last.
    end: Option<u64>,
    stride: u64,
}

impl Steps {
    /// The prefill alone.
    pub fn prefill() -> Self {
        Self::of([0])
    }

    /// These steps.
    pub fn of(steps: impl IntoIterator<Item = u64>) -> Self {
        let parts: Vec<Part> = steps.into_iter().map(Part::of).collect();
        let text: Vec<String> = parts.iter().map(|part| part.first.to_string()).collect();
        Self { text: text.join(","), parts }
    }

    /// Reads a choice.
    ///
    /// # Errors
    ///
    /// [`Error::Steps`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Option<Vec<Part>> = text.split(',').map(|part| Part::parse(part.trim())).collect();
        let parts = parts.ok_or_else(|| Error::Steps { found: text.to_owned() })?;
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether a step is among them.
    pub fn contains(&self, step: u64) -> bool {
        self.parts.iter().any(|part| part.contains(step))
    }

    /// Whether one of them is this step or comes after it.
    pub fn reach(&self, step: u64) -> bool {
        self.parts.iter().any(|part| part.end.is_none_or(|end| step < end))
    }
}

impl Part {
    fn of(step: u64) -> Self {
        Part { first: step, end: step.checked_add(1), stride: 1 }
    }

    fn parse(text: &str) -> Option<Self> {
        // `u64` itself would take a sign.
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse().ok()).flatten()
        };
        match text.split_once(':') {
            None => number(text).map(Part::of),
            Some(("every", stride)) => {
                let stride = number(stride).filter(|&stride| stride > 0)?;
                Some(Part { first: 0, end: None, stride })
            }
            Some((first, end)) => {
                let first = if first.is_empty() { 0 } else { number(first)? };
                let end = if end.is_empty() { None } else { Some(number(end).filter(|&end| end > first)?) };
                Some(Part { first, end, stride: 1 })
            }
        }
    }

    fn contains(&self, step: u64) -> bool {
        step >= self.first
            && self.end.is_none_or(|end| step < end)
            && (step - self.first).is_multiple_of(self.stride)
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::prefill()
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Steps {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl Serialize for Steps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_names_its_steps() {
        for (text, expected) in [
            ("0", vec![0]),
            ("0:4", vec![0, 1, 2, 3]),
            (":2", vec![0, 1]),
            ("17:", vec![17, 18, 19]),
            ("every:8", vec![0, 8, 16]),
            ("0,3,7", vec![0, 3, 7]),
            ("0:2, 5, 18:", vec![0, 1, 5, 18, 19]),
        ] {
            let steps = Steps::parse(text).unwrap();
            assert_eq!((0..20).filter(|&step| steps.contains(step)).collect::<Vec<_>>(), expected, "{text}");
            assert_eq!(steps.to_string(), text);
        }
        assert_eq!(Steps::default(), Steps::parse("0").unwrap());
        assert_eq!(Steps::of([0, 3]), Steps::parse("0,3").unwrap());
    }

    #[test]
    fn they_reach_as_far_as_their_last() {
        let reach = |text: &str, step| Steps::parse(text).unwrap().reach(step);
        assert!(reach("0:4", 3) && !reach("0:4", 4));
        assert!(reach("0,7", 5) && !reach("0,7", 8));
        assert!(reach("every:16", 1_000_001) && reach("2:", u64::MAX));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ",",
            "0,",
            "a",
            "-1",
            "+1",
            "1:1",
            "4:2",
            "0:4:2",
            "every:",
            "every:0",
            "last:3",
            "99999999999999999999",
        ] {
            let error = Steps::parse(text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "steps: expected `START:STOP`, `every:N` or a list of numbers from 0 on, found `{text}`"
                )
            );
        }
    }
}
