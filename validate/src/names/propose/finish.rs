//! The proposed rules as a map that fits the dumps.

use std::collections::{BTreeSet, HashSet};

use cli::escape::toml;
use golden::{Dump, Entry};
use indexmap::IndexSet;

use super::proposal::Proposal;
use super::rule::{ProposedRule, singly};
use crate::error::{Error, Result};
use crate::names::file::parse;
use crate::names::pairing::Pairing;
use crate::names::pattern::readings;

/// Writes the rules as a map that fits the dumps.
///
/// They were made of the entries of one step.
pub(super) fn finish(
    golden: &Dump,
    candidate: &Dump,
    step: u64,
    mut rules: Vec<ProposedRule>,
) -> Result<Proposal> {
    let map = loop {
        let map = parse("proposal", &written(&rules, &[], &[]));
        let conflicts = match &map {
            Ok(map) => Pairing::resolve(golden, candidate, Some(map)).1,
            Err(_) => Vec::new(),
        };
        match map {
            Ok(map) if conflicts.is_empty() => break map,
            Ok(_) => rules = without_conflicts(rules, conflicts)?,
            Err(error) => rules = without_conflicts(rules, vec![error])?,
        }
    };
    let pairing = Pairing::new(golden, candidate, Some(&map))?;
    let (mut unmatched, mut by_rule) = (IndexSet::new(), vec![0; rules.len()]);
    let mut without = 0;
    for entry in golden.entries() {
        match pairing.counterpart(&entry.key()) {
            None => {
                without += 1;
                unmatched.insert(entry.name.as_str());
            }
            // A rule holds for all steps, and its sites count once.
            Some(_) if entry.step != step => {}
            Some(counterpart) => {
                let place = counterpart.rule.as_ref().and_then(|place| by_rule.get_mut(place.index));
                place.into_iter().for_each(|count| *count += 1);
            }
        }
    }
    for (rule, count) in rules.iter_mut().zip(by_rule) {
        rule.more = usize::saturating_sub(count, rule.sites());
    }
    let unmatched: Vec<&str> = unmatched.into_iter().collect();
    let left: IndexSet<&str> = pairing.left().map(|(entry, _)| entry.name.as_str()).collect();
    let left: Vec<&str> = left.into_iter().collect();
    let left_expressions = expressions(&left, candidate.entries());
    let text = written(&rules, &left_expressions, &expressions(&unmatched, golden.entries()));
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    Ok(Proposal {
        text,
        matched: golden.entries().len() - without,
        unmatched: owned(unmatched),
        left: owned(left),
    })
}

/// Rules that take in more than they were made of may get in each other's way: of those that do, the one with fewer sites
/// is undone into single ones, and these give way.
fn without_conflicts(rules: Vec<ProposedRule>, conflicts: Vec<Error>) -> Result<Vec<ProposedRule>> {
    let mut undone = BTreeSet::new();
    for error in conflicts {
        let Error::Names { place, found, .. } = &error else { return Err(error) };
        let involved = [place, found].into_iter().flat_map(|text| numbered(text));
        let involved: Vec<usize> = involved.filter(|&number| number < rules.len()).collect();
        // Without the one that is undone already, the others may go together.
        if involved.iter().any(|number| undone.contains(number)) {
            continue;
        }
        let least = involved.into_iter().min_by_key(|&number| (rules[number].sites(), rules.len() - number));
        let Some(number) = least else { return Err(error) };
        undone.insert(number);
    }
    let kept = |(number, rule): (usize, ProposedRule)| match (undone.contains(&number), rule.literal) {
        (false, _) => vec![rule],
        (true, false) => singly(rule.of),
        (true, true) => Vec::new(),
    };
    Ok(rules.into_iter().enumerate().flat_map(kept).collect())
}

/// The numbers of the rules that a message names.
fn numbered(text: &str) -> Vec<usize> {
    let number = |rest: &str| rest.split(']').next()?.parse().ok();
    text.split("rules[").skip(1).filter_map(number).collect()
}

/// Expressions for some of a dump's names: with any number for a numbered segment, unless that would take in others.
fn expressions(some: &[&str], all: &[Entry]) -> Vec<String> {
    let chosen: HashSet<&str> = some.iter().copied().collect();
    let others = all.iter().filter(|entry| !chosen.contains(entry.name.as_str()));
    let others: HashSet<String> =
        others.flat_map(|entry| readings(&entry.name)).map(|(name, _)| general(name)).collect();
    let mut expressions = IndexSet::new();
    for name in some {
        let general = general(name.split('#').next().unwrap_or_default());
        let taken = others.contains(&general);
        expressions.insert(if taken { regex_syntax::escape(name) } else { general });
    }
    expressions.into_iter().collect()
}

/// An expression for a name with any number for each numbered segment.
fn general(name: &str) -> String {
    let segment = |segment: &str| {
        // As the expression takes them: digits of any script.
        let number = !segment.is_empty() && segment.chars().all(char::is_numeric);
        if number { r"\d+".to_owned() } else { regex_syntax::escape(segment) }
    };
    name.split('.').map(segment).collect::<Vec<_>>().join(r"\.")
}

/// The map as TOML; what nothing was found for stands at its end as comments.
fn written(rules: &[ProposedRule], left: &[String], unmatched: &[String]) -> String {
    let mut out = String::from(
        "# Proposed by `nvl-validate names`: read it before you trust it. Tensors of equal names need no rule.\nversion = 1\n",
    );
    for rule in rules {
        out.push('\n');
        out.push_str(&rule.to_toml());
    }
    let lists = [
        ("ignore", "candidate", left, "Tensors of the candidate that stand for no golden one"),
        ("absent", "golden", unmatched, "Golden sites for which nothing was found in the candidate"),
    ];
    for (table, key, names, about) in lists.into_iter().filter(|(.., names, _)| !names.is_empty()) {
        out.push_str(&format!(
            "\n# {about}; if that is right, say so with a reason:\n# [[{table}]]\n# {key} = [\n"
        ));
        let name = |name: &String| format!("#     {},\n", toml(name));
        out.extend(names.iter().map(name));
        out.push_str("# ]\n# reason = \"\"\n");
    }
    out
}
