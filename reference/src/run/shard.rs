//! A part of a file's requests, for one of several independent processes.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Shard `index` of `count`: the lines whose number, counted from 0, leaves the remainder `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// All lines.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether a line of this number, counted from 1, belongs to it.
    pub fn has(self, line_number: usize) -> bool {
        (line_number - 1) % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts =
            text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => Err(Error::Request(format!(
                "`--shard`: expected `i/n` with i from 0 to n - 1, found `{text}`"
            ))),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_in_exactly_one_shard() {
        let shards: Vec<Shard> = (0..3).map(|index| format!("{index}/3").parse().unwrap()).collect();
        for line in 1..=20 {
            assert_eq!(shards.iter().filter(|shard| shard.has(line)).count(), 1, "{line}");
            assert!(Shard::WHOLE.has(line));
        }
        assert_eq!((1..=7).filter(|&line| shards[1].has(line)).collect::<Vec<_>>(), [2, 5]);
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "1", "3/3", "0/0", "-1/2", "a/b", "1/2/3"] {
            let said = text.parse::<Shard>().unwrap_err().to_string();
            assert_eq!(said, format!("`--shard`: expected `i/n` with i from 0 to n - 1, found `{text}`"));
        }
    }
}
