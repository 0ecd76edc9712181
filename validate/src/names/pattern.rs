//! Regular expressions over the candidate's names, and the golden names that are built of their captures.

use std::collections::{BTreeSet, HashMap};

use golden::Entry;
use regex_automata::meta::{Builder, Config, Regex};
use regex_automata::util::captures::GroupInfo;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Input, PatternID};
use regex_syntax::hir::{Hir, HirKind};

/// The most captures of an expression: the memory of a search grows with them and with the expression.
const MAX_CAPTURES: usize = 32;

/// The most memory that a compiled expression may need.
const MAX_BYTES: usize = 1 << 20;

/// An expression that must match a name as a whole.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    written: String,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    /// One name: nothing is compiled, and nothing searched for.
    Literal(String),
    Regex(Regex),
}

/// The names of a dump's entries, found by expressions.
pub(super) struct Names<'a> {
    entries: &'a [Entry],
    /// The entries that can be read as a name, in their order.
    by_reading: HashMap<&'a str, Vec<usize>>,
}

/// An entry that an expression matches.
pub(super) struct Found<'a> {
    pub(super) index: usize,
    pub(super) captures: Captures<'a>,
    /// The number of the call (`#1`), if only the name without it matches.
    pub(super) call: &'a str,
}

/// What an expression's groups took of a name.
pub(super) struct Captures<'a> {
    name: &'a str,
    /// Start and end of each group; of a literal none.
    places: Vec<Option<NonMaxUsize>>,
    groups: Option<GroupInfo>,
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
    /// The expression behind a prefix, which is one too and captures nothing by number; or what is wrong with it.
    pub(super) fn new(prefix: &str, written: &str) -> Result<Self, String> {
        // Each on its own first, so that neither closes a bracket of the other.
        parse(prefix)?;
        parse(written)?;
        let whole = parse(&format!("(?:{prefix})(?:{written})"))?;
        let matcher = match whole.kind() {
            HirKind::Empty => Matcher::Literal(String::new()),
            HirKind::Literal(literal) => Matcher::Literal(String::from_utf8_lossy(&literal.0).into_owned()),
            _ => Matcher::Regex(compile(&parse(&format!("^(?:{prefix})(?:{written})$"))?)?),
        };
        Ok(Pattern { written: format!("{prefix}{written}"), matcher })
    }

    /// The expression as it was written, prefix included.
    pub(super) fn written(&self) -> &str {
        &self.written
    }

    /// The names and numbers of its captures.
    pub(super) fn captures(&self) -> BTreeSet<String> {
        let Matcher::Regex(regex) = &self.matcher else { return BTreeSet::from(["0".to_owned()]) };
        let groups = regex.group_info();
        let named = groups.pattern_names(PatternID::ZERO).flatten().map(str::to_owned);
        named.chain((0..groups.group_len(PatternID::ZERO)).map(|number| number.to_string())).collect()
    }

    /// About how many bytes it needs.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.matcher {
            Matcher::Literal(literal) => literal.len(),
            Matcher::Regex(regex) => regex.memory_usage(),
        }
    }
}

fn parse(expression: &str) -> Result<Hir, String> {
    let hir = regex_syntax::parse(expression).map_err(|error| last_line(&error.to_string()))?;
    let captures = hir.properties().explicit_captures_len();
    if captures > MAX_CAPTURES {
        return Err(format!("it has {captures} captures, more than {MAX_CAPTURES}"));
    }
    Ok(hir)
}

fn compile(expression: &Hir) -> Result<Regex, String> {
    // Names are short: what would make searches of long texts faster takes memory only.
    let config = Config::new()
        .nfa_size_limit(Some(MAX_BYTES))
        .onepass_size_limit(Some(MAX_BYTES / 8))
        .hybrid(false)
        .dfa(false);
    let regex = Builder::new().configure(config).build_from_hir(expression);
    regex.map_err(|_| format!("it needs more than {MAX_BYTES} bytes of memory"))
}

/// What a regular expression's error says at its end; before it the expression is drawn over several lines.
fn last_line(error: &str) -> String {
    let line = error.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl<'a> Names<'a> {
    pub(super) fn of(entries: &'a [Entry]) -> Self {
        let mut by_reading: HashMap<&str, Vec<usize>> = HashMap::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            for (name, _) in readings(&entry.name) {
                by_reading.entry(name).or_default().push(index);
            }
        }
        Names { entries, by_reading }
    }

    /// The entries that an expression matches, in their order: each by its name, or else by it without the call.
    pub(super) fn matching(&self, pattern: &Pattern) -> Vec<Found<'a>> {
        let reading = |index: usize, matches: &mut dyn FnMut(&'a str) -> Option<Captures<'a>>| {
            let mut readings = readings(&self.entries[index].name);
            readings.find_map(|(name, call)| Some(Found { index, captures: matches(name)?, call }))
        };
        match &pattern.matcher {
            Matcher::Literal(literal) => {
                let mut matches = |name: &'a str| {
                    (name == literal).then_some(Captures { name, places: Vec::new(), groups: None })
                };
                let indices = self.by_reading.get(literal.as_str()).into_iter().flatten();
                indices.filter_map(|&index| reading(index, &mut matches)).collect()
            }
            Matcher::Regex(regex) => {
                // The memory of the search is given back with it, however many expressions there are.
                let mut cache = regex.create_cache();
                let mut matches = |name: &'a str| {
                    let mut places = vec![None; regex.group_info().slot_len()];
                    regex.search_slots_with(&mut cache, &Input::new(name), &mut places)?;
                    Some(Captures { name, places, groups: Some(regex.group_info().clone()) })
                };
                (0..self.entries.len()).filter_map(|index| reading(index, &mut matches)).collect()
            }
        }
    }
}

impl<'a> Captures<'a> {
    /// What a group took, by its name or number; nothing if it took no part in the match.
    fn get(&self, group: &str) -> &'a str {
        let Some(groups) = &self.groups else { return if group == "0" { self.name } else { "" } };
        let number = group.parse().ok().or_else(|| groups.to_index(PatternID::ZERO, group));
        let place = |slot: usize| self.places.get(slot).copied().flatten().map(NonMaxUsize::get);
        let range = number.and_then(|number| Some(place(2 * number)?..place(2 * number + 1)?));
        range.and_then(|range| self.name.get(range)).unwrap_or_default()
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
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Capture(group) => captures.get(group).to_owned(),
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

    fn entry(name: &str) -> Entry {
        serde_json::from_value(serde_json::json!({
            "order": 0, "name": name, "role": "activation", "module": "", "dtype": "float32", "shape": [1], "sha256": "",
        }))
        .unwrap()
    }

    fn filled(pattern: &str, name: &str, template: &str) -> Option<String> {
        let pattern = Pattern::new("", pattern).unwrap();
        let entries = [entry(name)];
        let found = Names::of(&entries).matching(&pattern);
        let template = Template::new(template).unwrap();
        found.first().map(|found| template.filled(&found.captures) + found.call)
    }

    #[test]
    fn captures_build_a_name() {
        let layer = r"layers\.(\d+)\.(?<what>norm|mlp)";
        assert_eq!(filled(layer, "layers.12.mlp", "blocks.$1.$what").unwrap(), "blocks.12.mlp");
        assert_eq!(filled(layer, "layers.12.mlp", "blocks.${1}_${what}x$$").unwrap(), "blocks.12_mlpx$");
        assert_eq!(filled(layer, "layers.12.mlp#2", "$0").unwrap(), "layers.12.mlp#2");
        assert_eq!(filled("(a)|(b)", "b", "<$1$2>").unwrap(), "<b>");
        assert_eq!(filled(layer, "model.layers.12.mlp", "x"), None, "only a part of the name");
        assert_eq!(filled("a|b", "ab", "x"), None, "alternatives do not change where it must match");
    }

    #[test]
    fn a_literal_matches_as_an_expression_would() {
        for (pattern, literal) in [(r"a\.b", true), (r"(a)\.b", false), (r"a\.[b]", true), ("(?i)a", false)] {
            let pattern = Pattern::new("", pattern).unwrap();
            assert_eq!(matches!(pattern.matcher, Matcher::Literal(_)), literal, "{}", pattern.written());
        }
        assert_eq!(filled(r"a\.b", "a.b#1", "x.$0").unwrap(), "x.a.b#1");
        assert_eq!(filled(r"a\.b#1", "a.b#1", "$0").unwrap(), "a.b#1");
        assert_eq!(filled(r"a\.b", "a.bc", "x"), None);
        assert_eq!(filled("", "a", "x"), None);
    }

    #[test]
    fn an_expression_that_needs_much_memory_is_refused() {
        let refused = |pattern: &str| Pattern::new("", pattern).unwrap_err();
        assert_eq!(refused(r"\w{1000}{1000}"), "it needs more than 1048576 bytes of memory");
        assert_eq!(refused(&"()".repeat(4000)), "it has 4000 captures, more than 32");
        assert_eq!(refused("a("), "unclosed group");
        assert!(Pattern::new("", r"model\.layers\.(?<layer>\d+)\.\w+").unwrap().memory_bytes() < 200_000);
    }

    #[test]
    fn a_prefix_stands_before_every_alternative() {
        let pattern = Pattern::new(r"tower\.", "a|b").unwrap();
        let entries = ["tower.b", "b"].map(entry);
        let found = Names::of(&entries).matching(&pattern);
        assert_eq!(found.iter().map(|found| found.index).collect::<Vec<_>>(), [0]);
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
