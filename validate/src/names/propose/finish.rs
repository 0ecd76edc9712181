//! The proposed rules as a map that fits the dumps.

use golden::{Dump, Entry};

use super::Proposal;
use super::draft::{DraftRule, singly};
use crate::names::file::parse;
use crate::names::pairing::Pairing;
use crate::names::pattern::{Pattern, readings};
use crate::{Error, Result};

/// Writes the rules as a map that fits the dumps.
pub(super) fn finish(golden: &Dump, candidate: &Dump, mut rules: Vec<DraftRule>) -> Result<Proposal> {
    // Rules that take in more than they were made of may get in each other's way: then the one with fewer sites is
    // undone into single ones, and these give way.
    let map = loop {
        let map = parse("proposal", &written(&rules, &[], &[]))?;
        match Pairing::new(golden, candidate, Some(&map)) {
            Ok(_) => break map,
            Err(error @ Error::Names { .. }) => {
                let Error::Names { place, found, .. } = &error else { return Err(error) };
                let involved = [place, found].into_iter().flat_map(|text| numbered(text));
                let involved = involved.filter(|&number| number < rules.len());
                let Some(number) =
                    involved.min_by_key(|&number| (rules[number].sites(), rules.len() - number))
                else {
                    return Err(error);
                };
                let rule = rules.remove(number);
                if !rule.literal {
                    rules.splice(number..number, singly(rule.of));
                }
            }
            Err(error) => return Err(error),
        }
    };
    let pairing = Pairing::new(golden, candidate, Some(&map))?;
    let unmatched: Vec<String> = golden
        .entries()
        .iter()
        .filter(|entry| pairing.counterpart(&entry.name).is_none())
        .map(|entry| entry.name.clone())
        .collect();
    for (index, rule) in rules.iter_mut().enumerate() {
        let by_rule = |entry: &&Entry| {
            let place = pairing.counterpart(&entry.name).and_then(|counterpart| counterpart.rule.as_ref());
            place.is_some_and(|place| place.index == index)
        };
        rule.more = golden.entries().iter().filter(by_rule).count().saturating_sub(rule.sites());
    }
    let left: Vec<String> = pairing.left().map(|(entry, _)| entry.name.clone()).collect();
    let names =
        |dump: &Dump| -> Vec<String> { dump.entries().iter().map(|entry| entry.name.clone()).collect() };
    let text =
        written(&rules, &expressions(&left, &names(candidate)), &expressions(&unmatched, &names(golden)));
    Ok(Proposal { text, matched: golden.entries().len() - unmatched.len(), unmatched, left })
}

/// The numbers of the rules that a message names.
fn numbered(text: &str) -> Vec<usize> {
    let number = |rest: &str| rest.split(']').next()?.parse().ok();
    text.split("rules[").skip(1).filter_map(number).collect()
}

/// Expressions for some of a dump's names: with any number for a numbered segment, unless that would take in others.
fn expressions(some: &[String], all: &[String]) -> Vec<String> {
    let others: Vec<&String> = all.iter().filter(|name| !some.contains(name)).collect();
    let mut expressions: Vec<String> = Vec::new();
    for name in some {
        let bare = name.split('#').next().unwrap_or_default();
        let segment = |segment: &str| {
            let number = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
            if number { r"\d+".to_owned() } else { regex::escape(segment) }
        };
        let general = bare.split('.').map(segment).collect::<Vec<_>>().join(r"\.");
        let taken = |pattern: &Pattern| {
            others.iter().any(|other| readings(other).any(|(name, _)| pattern.matches(name)))
        };
        let fits = Pattern::new("", &general).is_ok_and(|pattern| !taken(&pattern));
        let expression = if fits { general } else { regex::escape(name) };
        if !expressions.contains(&expression) {
            expressions.push(expression);
        }
    }
    expressions
}

/// The map as TOML; what nothing was found for stands at its end as comments.
fn written(rules: &[DraftRule], left: &[String], unmatched: &[String]) -> String {
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
        let name = |name: &String| format!("#     '{}',\n", crate::report::escaped(name));
        out.extend(names.iter().map(name));
        out.push_str("# ]\n# reason = \"\"\n");
    }
    out
}
