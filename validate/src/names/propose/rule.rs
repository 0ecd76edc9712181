//! Rules of single tensors, generalised over the numbers in their names, as TOML.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use cli::counted;
use cli::escape::toml;

/// How many rules have expressions, which need memory and are tried on every name; the others have whole names.
const MOST_GENERAL: usize = 512;

/// What stands for what, by whole names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Match {
    pub(super) candidates: Vec<String>,
    pub(super) goldens: Vec<String>,
    /// Further lines of the rule.
    pub(super) body: Vec<String>,
    pub(super) evidence: Evidence,
}

/// Why a match is believed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Evidence {
    /// The recorded hashes are equal.
    Hash,
    /// The contents differ by no more than so much, relative to their length.
    Contents(f64),
    /// The name, the shape and the place in the order of execution; the contents differ by so much.
    Place(f64),
}

/// A rule, perhaps of many sites.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ProposedRule {
    candidates: Vec<String>,
    goldens: Vec<String>,
    body: Vec<String>,
    /// What it was made of.
    pub(super) of: Vec<Match>,
    /// Whether it has whole names and takes in nothing else.
    pub(super) literal: bool,
    /// How many golden entries it gives beyond those that it was made of.
    pub(super) more: usize,
}

impl ProposedRule {
    /// How many golden entries it was made of.
    pub(super) fn sites(&self) -> usize {
        self.of.iter().map(|found| found.goldens.len()).sum()
    }

    /// The rule as TOML, with the reasons for it.
    pub(super) fn to_toml(&self) -> String {
        let mut out = format!("# {}\n[[rules]]\n", self.why());
        let strings = |key: &str, texts: &[String]| match texts {
            [one] => format!("{key} = {one}\n"),
            more => {
                let lines: String = more.iter().map(|text| format!("    {text},\n")).collect();
                format!("{key} = [\n{lines}]\n")
            }
        };
        let patterns: Vec<String> = self.candidates.iter().map(|text| toml(text)).collect();
        let names: Vec<String> = self.goldens.iter().map(|text| toml(text)).collect();
        out.push_str(&strings("candidate", &patterns));
        out.push_str(&strings("golden", &names));
        for line in &self.body {
            let _ = writeln!(out, "{line}");
        }
        out
    }

    fn why(&self) -> String {
        let sites = counted(self.sites(), "site");
        let mut hashes = 0;
        let (mut contents, mut places): (Option<f64>, Option<f64>) = (None, None);
        let mut by_place = 0;
        for found in &self.of {
            match found.evidence {
                Evidence::Hash => hashes += 1,
                Evidence::Contents(difference) => contents = Some(contents.unwrap_or(0.0).max(difference)),
                Evidence::Place(difference) => {
                    by_place += 1;
                    places = Some(places.unwrap_or(0.0).max(difference));
                }
            }
        }
        let mut reasons = Vec::new();
        if hashes == self.of.len() {
            reasons.push("the hashes are equal".to_owned());
        } else if hashes > 0 {
            reasons.push(format!("the hashes of {hashes} are equal"));
        }
        reasons.extend(contents.map(|difference| match difference {
            0.0 => "the contents are equal as far as sampled".to_owned(),
            difference => format!("the contents differ by {difference:.1e} at most"),
        }));
        reasons.extend(places.map(|difference| {
            format!("{by_place} by name, shape and order only: the contents differ by {difference:.1e} at most, look at it")
        }));
        if self.more > 0 {
            reasons.push(format!("{} more by their names only: look at them", self.more));
        }
        format!("{sites}: {}", reasons.join("; "))
    }
}

/// A name's text around its numbered segments, and the numbers.
fn numbers(name: &str) -> (Vec<String>, Vec<&str>) {
    let (mut texts, mut numbers) = (vec![String::new()], Vec::new());
    for (index, segment) in name.split('.').enumerate() {
        let dot = if index > 0 { "." } else { "" };
        let last = texts.len() - 1;
        texts[last].push_str(dot);
        if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()) {
            numbers.push(segment);
            texts.push(String::new());
        } else {
            texts[last].push_str(segment);
        }
    }
    (texts, numbers)
}

/// Puts matches that differ in numbers only into one rule each.
pub(super) fn generalised(matches: Vec<Match>) -> Vec<ProposedRule> {
    type Key = (Vec<Vec<String>>, Vec<Vec<String>>, Vec<String>);
    let mut places: HashMap<Key, usize> = HashMap::new();
    let mut groups: Vec<Vec<Match>> = Vec::new();
    for found in matches {
        let texts = |names: &[String]| names.iter().map(|name| numbers(name).0).collect::<Vec<_>>();
        let key = (texts(&found.candidates), texts(&found.goldens), found.body.clone());
        let place = *places.entry(key).or_insert(groups.len());
        groups.resize_with(groups.len().max(place + 1), Vec::new);
        groups[place].push(found);
    }
    // Beyond a number of expressions, the groups of most matches have them.
    let mut sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
    sizes.sort_unstable_by_key(|&size| std::cmp::Reverse(size));
    let least = sizes.get(MOST_GENERAL).map_or(0, |size| size + 1);
    let rules = |group: Vec<Match>| {
        let general = if group.len() >= least { general(&group) } else { None };
        general.unwrap_or_else(|| singly(group))
    };
    groups.into_iter().flat_map(rules).collect()
}

/// One rule for all matches of alike names; `None` if their numbers do not go with each other.
fn general(group: &[Match]) -> Option<Vec<ProposedRule>> {
    let first = group.first()?;
    let of = |found: &Match| -> Option<Vec<String>> {
        let all: Vec<Vec<&str>> = found.candidates.iter().map(|name| numbers(name).1).collect();
        // In all parts the same, so that each expression has every capture.
        all.iter()
            .all(|other| *other == all[0])
            .then(|| all[0].iter().map(|&number| number.to_owned()).collect())
    };
    let candidates: Vec<Vec<String>> = group.iter().map(of).collect::<Option<_>>()?;
    // Which number of the candidate's name each number of a golden name is.
    let mut captures: BTreeMap<usize, &str> = BTreeMap::new();
    let names = ["layer", "part", "third", "fourth"];
    let mut goldens = Vec::new();
    for (which, name) in first.goldens.iter().enumerate() {
        let (texts, own) = numbers(name);
        let mut template = texts[0].replace('$', "$$");
        for slot in 0..own.len() {
            let value = |found: &Match| numbers(&found.goldens[which]).1[slot].to_owned();
            let values: Vec<String> = group.iter().map(value).collect();
            let same =
                |place: &usize| candidates.iter().zip(&values).all(|(from, value)| from[*place] == *value);
            // A single match tells nothing of which number is which; only the outermost is taken for a layer's.
            let place = (0..candidates[0].len()).find(same);
            match place {
                Some(place) => {
                    let count = captures.len();
                    let capture = *captures.entry(place).or_insert(names.get(count)?);
                    let _ = write!(template, "${{{capture}}}");
                }
                None if values.iter().all(|value| *value == values[0]) => template.push_str(&values[0]),
                None => return None,
            }
            template.push_str(&texts[slot + 1].replace('$', "$$"));
        }
        goldens.push(template);
    }
    // A number of the candidate's that varies must be in the golden name.
    let varies = |place: usize| candidates.iter().any(|other| other[place] != candidates[0][place]);
    if (0..candidates[0].len()).any(|place| varies(place) && !captures.contains_key(&place)) {
        return None;
    }
    let pattern = |name: &String| {
        let (texts, own) = numbers(name);
        let mut pattern = regex_syntax::escape(&texts[0]);
        for (place, number) in own.iter().enumerate() {
            match captures.get(&place) {
                Some(capture) => {
                    let _ = write!(pattern, r"(?<{capture}>\d+)");
                }
                None => pattern.push_str(number),
            }
            pattern.push_str(&regex_syntax::escape(&texts[place + 1]));
        }
        pattern
    };
    let candidates = first.candidates.iter().map(pattern).collect();
    Some(vec![ProposedRule {
        candidates,
        goldens,
        body: first.body.clone(),
        of: group.to_vec(),
        literal: false,
        more: 0,
    }])
}

/// A rule for each match, by whole names.
pub(super) fn singly(matches: Vec<Match>) -> Vec<ProposedRule> {
    let rule = |found: Match| ProposedRule {
        candidates: found.candidates.iter().map(|name| regex_syntax::escape(name)).collect(),
        goldens: found.goldens.iter().map(|name| name.replace('$', "$$")).collect(),
        body: found.body.clone(),
        of: vec![found],
        literal: true,
        more: 0,
    };
    matches.into_iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(candidates: &[&str], goldens: &[&str]) -> Match {
        let of = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Match { candidates: of(candidates), goldens: of(goldens), body: Vec::new(), evidence: Evidence::Hash }
    }

    fn rules(matches: &[(&[&str], &[&str])]) -> Vec<(Vec<String>, Vec<String>)> {
        let matches = matches.iter().map(|(candidates, goldens)| found(candidates, goldens)).collect();
        generalised(matches).into_iter().map(|rule| (rule.candidates, rule.goldens)).collect()
    }

    #[test]
    fn numbers_that_go_with_each_other_become_captures() {
        let rules = rules(&[
            (&["l.0.q", "l.0.k"], &["blocks.0.qk"]),
            (&["l.1.q", "l.1.k"], &["blocks.1.qk"]),
            (&["l.0.fc.2"], &["blocks.0.mlp"]),
            (&["l.1.fc.2"], &["blocks.1.mlp"]),
        ]);
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0].0, [r"l\.(?<layer>\d+)\.q", r"l\.(?<layer>\d+)\.k"]);
        assert_eq!(rules[0].1, ["blocks.${layer}.qk"]);
        assert_eq!(rules[1].0, [r"l\.(?<layer>\d+)\.fc\.2"]);
    }

    #[test]
    fn numbers_that_do_not_stay_as_they_are() {
        let rules = rules(&[(&["l.1"], &["b.0"]), (&["l.2"], &["b.1"])]);
        assert_eq!(rules[0], (vec![r"l\.1".to_owned()], vec!["b.0".to_owned()]));
        assert_eq!(rules.len(), 2);
    }
}
