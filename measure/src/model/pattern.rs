//! Patterns of names.

use serde::Deserialize;

/// A name, or the beginning or end of some: `a.b`, `a.*`, `*.b`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(super) enum NamePattern {
    Named(String),
    Beginning(String),
    Ending(String),
}

impl From<String> for NamePattern {
    fn from(text: String) -> Self {
        match (text.strip_suffix('*'), text.strip_prefix('*')) {
            (Some(beginning), _) => NamePattern::Beginning(beginning.to_owned()),
            (None, Some(end)) => NamePattern::Ending(end.to_owned()),
            (None, None) => NamePattern::Named(text),
        }
    }
}

impl NamePattern {
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            NamePattern::Named(site) => name == site,
            NamePattern::Beginning(beginning) => name.starts_with(beginning.as_str()),
            NamePattern::Ending(end) => name.ends_with(end.as_str()),
        }
    }
}
