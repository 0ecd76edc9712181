//! Regular expressions over the candidate's names, and the golden names that are built of their captures.

use std::collections::BTreeSet;

use regex::{Captures, Regex};

/// An expression that must match a name as a whole.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    written: String,
    regex: Regex,
}

/// A name with `$1`, `${1}`, `$layer` or `${layer}` for captures, and `$$` for a dollar.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Capture(String),
}

impl Pattern {
    /// The expression behind a prefix, which is one too and captures nothing by number.
    pub(super) fn new(prefix: &str, written: &str) -> Result<Self, regex::Error> {
        // Each on its own first, so that neither closes a bracket of the other.
        Regex::new(prefix)?;
        Regex::new(written)?;
        let regex = Regex::new(&format!("^(?:{prefix})(?:{written})$"))?;
        Ok(Pattern { written: format!("{prefix}{written}"), regex })
    }

    /// The expression as it was written, prefix included.
    pub(super) fn written(&self) -> &str {
        &self.written
    }

    /// The names and numbers of its captures.
    pub(super) fn captures(&self) -> BTreeSet<String> {
        let named = self.regex.capture_names().flatten().map(str::to_owned);
        named.chain((0..self.regex.captures_len()).map(|number| number.to_string())).collect()
    }

    pub(super) fn of<'n>(&self, name: &'n str) -> Option<Captures<'n>> {
        self.regex.captures(name)
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }
}

impl Template {
    /// A template; `None` if a dollar stands where no capture is named.
    pub(super) fn new(written: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = written;
        while let Some(at) = rest.find('$') {
            text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                text.push('$');
                rest = after;
                continue;
            }
            let word = |text: &str| -> usize {
                text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
            };
            let (name, after) = match rest.strip_prefix('{') {
                Some(braced) => braced.split_once('}')?,
                None => rest.split_at(word(rest)),
            };
            if name.is_empty() || word(name) != name.len() {
                return None;
            }
            pieces.extend([Piece::Text(std::mem::take(&mut text)), Piece::Capture(name.to_owned())]);
            rest = after;
        }
        text.push_str(rest);
        pieces.push(Piece::Text(text));
        Some(Template { pieces })
    }

    /// The captures that it takes.
    pub(super) fn captures(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Capture(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The name that a match gives.
    pub(super) fn filled(&self, captures: &Captures<'_>) -> String {
        let capture = |name: &String| {
            let found = match name.parse::<usize>() {
                Ok(number) => captures.get(number),
                Err(_) => captures.name(name),
            };
            found.map_or("", |found| found.as_str())
        };
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Capture(name) => capture(name).to_owned(),
        };
        self.pieces.iter().map(piece).collect()
    }
}

/// A name as it is, and without the number of the call (`#1`), which is then given separately.
pub(super) fn readings(name: &str) -> impl Iterator<Item = (&str, &str)> {
    let bare = name.rfind('#').map(|at| name.split_at(at));
    std::iter::once((name, "")).chain(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pattern: &str, name: &str, template: &str) -> Option<String> {
        let pattern = Pattern::new("", pattern).unwrap();
        Some(Template::new(template).unwrap().filled(&pattern.of(name)?))
    }

    #[test]
    fn captures_build_a_name() {
        let layer = r"layers\.(\d+)\.(?<what>norm|mlp)";
        assert_eq!(filled(layer, "layers.12.mlp", "blocks.$1.$what").unwrap(), "blocks.12.mlp");
        assert_eq!(filled(layer, "layers.12.mlp", "blocks.${1}_${what}x$$").unwrap(), "blocks.12_mlpx$");
        assert_eq!(filled(layer, "model.layers.12.mlp", "x"), None, "only a part of the name");
        assert_eq!(filled("a|b", "ab", "x"), None, "an alternative is no way around the ends");
    }

    #[test]
    fn a_prefix_stands_before_every_alternative() {
        let pattern = Pattern::new(r"tower\.", "a|b").unwrap();
        assert!(pattern.matches("tower.b") && !pattern.matches("b"));
        assert!(Pattern::new("", "a)(b").is_err());
    }

    #[test]
    fn a_template_names_its_captures() {
        assert_eq!(Template::new("$1.${i}$$").unwrap().captures().collect::<Vec<_>>(), ["1", "i"]);
        for wrong in ["a$", "$.b", "${", "${}", "${a b}"] {
            assert!(Template::new(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_read_with_and_without_its_call() {
        assert_eq!(readings("mlp#2").collect::<Vec<_>>(), [("mlp#2", ""), ("mlp", "#2")]);
        assert_eq!(readings("mlp").collect::<Vec<_>>(), [("mlp", "")]);
    }
}
