//! A map, resolved against the names and shapes of two dumps before a byte is read.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;

use golden::{Dtype, Dump, Entry};

use super::assembly::{Plan, can_add};
use super::layout_step::{LayoutStep, Refusal, dimension};
use super::map::{Join, NameMap, Rule, excused};
use super::pairing::{Counterpart, Idle, Joined, Pairing, Source};
use super::pattern::Names;
use crate::error::{Error, Result};

/// The tensors that a rule takes for some golden names, one for each of its expressions.
struct Group {
    goldens: Vec<String>,
    parts: Vec<Option<usize>>,
}

impl<'a> Pairing<'a> {
    /// Resolves a map; without one, equal names belong together.
    ///
    /// # Errors
    ///
    /// [`Error::Names`] for a rule that does not fit the tensors that it matches, and for a golden entry that two rules
    /// give.
    pub fn new(golden: &'a Dump, candidate: &'a Dump, map: Option<&'a NameMap>) -> Result<Self> {
        let (pairing, refusals) = Self::resolve(golden, candidate, map);
        refusals.into_iter().next().map_or(Ok(pairing), Err)
    }

    /// The same, with a refusal for each rule that does not fit.
    pub(super) fn resolve(
        golden: &'a Dump,
        candidate: &'a Dump,
        map: Option<&'a NameMap>,
    ) -> (Self, Vec<Error>) {
        let mut pairing = Pairing {
            golden,
            candidate,
            map,
            sources: HashMap::new(),
            left: Vec::new(),
            idle: Vec::new(),
            absent: HashMap::new(),
            verified: candidate.entries().iter().map(|_| AtomicBool::new(false)).collect(),
        };
        let entries = candidate.entries();
        let names = Names::of(entries);
        // Whether a rule took a tensor, and whether the rule may do so without a golden entry.
        let mut taken: Vec<Option<bool>> = vec![None; entries.len()];
        let mut refusals = Vec::new();
        for rule in map.iter().flat_map(|map| &map.rules) {
            refusals.extend(pairing.resolve_rule(rule, &names, &mut taken).err());
        }
        let mut ignored = map.map_or_else(Vec::new, |map| excused(&map.ignored, &names, entries.len()));
        ignored.resize(entries.len(), None);
        let parts = pairing.sources.values().flat_map(|source| source.parts.iter().map(|(part, _)| *part));
        let parts: HashSet<usize> = parts.collect();
        for (index, (entry, ignored)) in entries.iter().zip(ignored).enumerate() {
            match taken[index] {
                Some(_) if parts.contains(&index) => {}
                Some(optional) => {
                    let reason = optional.then(|| "the golden dump has no such site".to_owned());
                    pairing.left.push((index, reason.or(ignored)));
                }
                None => match (ignored, golden.entry(&entry.key())) {
                    (Some(reason), _) => pairing.left.push((index, Some(reason))),
                    (None, None) => pairing.left.push((index, None)),
                    (None, Some(of)) => refusals.extend(pairing.pair_by_name(index, of).err()),
                },
            }
        }
        if let Some(map) = map {
            let entries = golden.entries();
            let reasons = excused(&map.absent, &Names::of(entries), entries.len());
            let absent = entries.iter().zip(reasons);
            pairing.absent =
                absent.filter_map(|(entry, reason)| Some((entry.key().into_owned(), reason?))).collect();
        }
        (pairing, refusals)
    }

    fn resolve_rule(&mut self, rule: &Rule, names: &Names<'_>, taken: &mut [Option<bool>]) -> Result<()> {
        let mut groups: Vec<Group> = Vec::new();
        let mut places: HashMap<Vec<String>, usize> = HashMap::new();
        for (part, pattern) in rule.candidates.iter().enumerate() {
            for found in names.matching(pattern) {
                let filled = rule.goldens.iter().map(|golden| golden.filled(&found.captures) + found.call);
                let goldens: Vec<String> = filled.collect();
                let optional = taken[found.index].unwrap_or(true) && rule.optional;
                taken[found.index] = Some(optional);
                let place = *places.entry(goldens).or_insert_with_key(|goldens| {
                    groups.push(Group { goldens: goldens.clone(), parts: vec![None; rule.candidates.len()] });
                    groups.len() - 1
                });
                let group = &mut groups[place];
                if let Some(other) = group.parts[part].replace(found.index) {
                    let [other, own] =
                        [other, found.index].map(|index| &self.candidate.entries()[index].name);
                    let place =
                        format!("rules[{}].candidate: golden `{}`", rule.place.index, group.goldens[0]);
                    let expected = format!("one tensor that `{}` matches", pattern.written());
                    return Err(wrong(rule, place, expected, format!("`{other}` and `{own}`")));
                }
            }
        }
        if groups.is_empty() && !rule.optional {
            let expressions = rule.candidates.iter().map(|pattern| pattern.written().to_owned()).collect();
            self.idle.push((rule.place.clone(), Idle::NoTensor(expressions)));
        }
        let mut in_golden = groups.is_empty();
        for group in &groups {
            in_golden |= self.resolve_group(rule, group)?;
        }
        if let Some(group) = groups.first().filter(|_| !in_golden && !rule.optional) {
            self.idle.push((rule.place.clone(), Idle::NoEntry(group.goldens[0].clone())));
        }
        Ok(())
    }

    /// Whether one of the golden names is an entry's.
    fn resolve_group(&mut self, rule: &Rule, group: &Group) -> Result<bool> {
        let golden = self.golden;
        let entries: Vec<Option<&Entry>> = group.goldens.iter().map(|name| golden.entry(name)).collect();
        if entries.iter().all(Option::is_none) {
            return Ok(false);
        }
        let mut parts = Vec::with_capacity(group.parts.len());
        for (part, pattern) in group.parts.iter().zip(&rule.candidates) {
            let Some(part) = part else {
                let place = format!("rules[{}].candidate: golden `{}`", rule.place.index, group.goldens[0]);
                let expected = format!("a tensor that `{}` matches", pattern.written());
                return Err(wrong(rule, place, expected, "none".to_owned()));
            };
            parts.push(*part);
        }
        for (piece, entry) in entries.iter().enumerate() {
            let Some(entry) = entry else { continue };
            let source = self.source(rule, &parts, group, &entries, piece, entry)?;
            if let Some(other) = self.sources.insert(entry.name.clone(), source) {
                let by = other.counterpart.rule.map_or_else(String::new, |place| place.to_string());
                let place = format!("rules[{}]", rule.place.index);
                let expected = format!("one counterpart of the golden entry `{}`", entry.name);
                let found = format!("this rule's and that of {by}");
                return Err(wrong(rule, place, expected, found));
            }
        }
        Ok(true)
    }

    fn source(
        &self,
        rule: &Rule,
        parts: &[usize],
        group: &Group,
        entries: &[Option<&Entry>],
        piece: usize,
        entry: &Entry,
    ) -> Result<Source> {
        let tensors: Vec<&Entry> = parts.iter().map(|&part| &self.candidate.entries()[part]).collect();
        let names: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
        let site = format!("golden `{}` from `{}`", entry.name, names.join("`, `"));
        let refused = |field: &str, refusal: Refusal| {
            let (expected, found) = match refusal {
                Refusal::Rule { expected, found } => (expected, found),
                // Told apart before: then the dumps do not fit each other, which is no error.
                Refusal::Sizes => ("sizes that fit".to_owned(), "others".to_owned()),
            };
            wrong(rule, format!("rules[{}]{field}: {site}", rule.place.index), expected, found)
        };
        let dtype = tensors[0].dtype;
        if let Some(other) = tensors.iter().find(|tensor| tensor.dtype != dtype) {
            let expected = format!("{dtype} in all parts");
            let found = format!("{} in `{}`", other.dtype, other.name);
            return Err(refused(".candidate", Refusal::Rule { expected, found }));
        }
        let mut layout = Vec::new();
        let mut fits = true;
        let mut prepared = Vec::with_capacity(parts.len());
        for (&part, tensor) in parts.iter().zip(&tensors) {
            let mut plan = Plan::new(&tensor.shape);
            fits &= walk(&mut plan, &rule.each, &entry.shape, ".each")
                .map_err(|(field, refusal)| refused(&field, refusal))?;
            prepared.push((part, plan));
        }
        layout.extend(rule.each.iter().map(|step| format!("each {step}")));
        let shapes: Vec<&[usize]> = prepared.iter().map(|(_, plan)| plan.shape()).collect();
        let (join, joined) = joined(rule, &shapes, &tensors[0].shape, dtype)
            .map_err(|(field, refusal)| refused(field, refusal))?;
        layout.extend(match join {
            Joined::One => None,
            Joined::Concat { dim } => Some(format!("concat {dim}")),
            Joined::Add => Some("add".to_owned()),
        });
        let mut whole = Plan::new(&joined);
        let refuse = |(field, refusal): (String, Refusal)| refused(&field, refusal);
        fits = fits && walk(&mut whole, &rule.steps, &entry.shape, ".steps").map_err(refuse)?;
        layout.extend(rule.steps.iter().map(LayoutStep::to_string));
        if let Some(dim) = rule.split.filter(|_| fits) {
            let place = dimension(dim, whole.shape()).map_err(|refusal| refused(".split", refusal))?;
            match self.piece(rule, group, entries, piece, dim, whole.shape()[place]) {
                Ok((start, len)) => whole.narrow(place, start, len),
                Err(Refusal::Sizes) => fits = false,
                Err(refusal) => return Err(refused(".split", refusal)),
            }
            fits = fits && walk(&mut whole, &rule.pieces, &entry.shape, ".pieces").map_err(refuse)?;
            layout.push(format!("piece {} of {} along {dim}", piece + 1, entries.len()));
            layout.extend(rule.pieces.iter().map(LayoutStep::to_string));
        }
        let mut golden = Plan::new(&entry.shape);
        if fits {
            fits &= walk(&mut golden, &rule.golden_steps, whole.shape(), ".golden_steps")
                .map_err(|(field, refusal)| refused(&field, refusal))?;
            layout.extend(rule.golden_steps.iter().map(|step| format!("golden {step}")));
        }
        if !fits {
            // Shown with the shapes that both have, which differ.
            whole = Plan::new(&joined);
            golden = Plan::new(&entry.shape);
            layout.clear();
        }
        let counterpart = Counterpart {
            tensors: names,
            rule: Some(rule.place.clone()),
            layout,
            recorded_shape: entry.shape.clone(),
        };
        Ok(Source { counterpart, any_dtype: rule.any_dtype, dtype, parts: prepared, join, whole, golden })
    }

    /// Where a piece of a split begins and how long it is.
    fn piece(
        &self,
        rule: &Rule,
        group: &Group,
        entries: &[Option<&Entry>],
        piece: usize,
        dim: i64,
        size: usize,
    ) -> Result<(usize, usize), Refusal> {
        let refusal = |expected: String, found: String| Refusal::Rule { expected, found };
        let sizes: Vec<usize> = match &rule.sizes {
            Some(sizes) if sizes.iter().sum::<usize>() != size => {
                return Err(refusal(format!("`sizes` whose sum is {size}"), format!("{sizes:?}")));
            }
            Some(sizes) => sizes.clone(),
            None => {
                // From the front or the back, as the dimension is counted: the golden tensor may have others before it.
                let of = |entry: &Entry| dimension(dim, &entry.shape).ok().map(|place| entry.shape[place]);
                let known: Vec<Option<usize>> = entries.iter().map(|entry| entry.and_then(of)).collect();
                let sum: usize = known.iter().flatten().sum();
                let open: Vec<usize> = (0..known.len()).filter(|&at| known[at].is_none()).collect();
                match open[..] {
                    [] if sum != size => return Err(Refusal::Sizes),
                    [] => known.into_iter().flatten().collect(),
                    [one] => {
                        let rest = size.checked_sub(sum).ok_or(Refusal::Sizes)?;
                        known
                            .into_iter()
                            .enumerate()
                            .map(|(at, size)| if at == one { rest } else { size.unwrap_or(0) })
                            .collect()
                    }
                    [first, ..] => {
                        let expected =
                            "`sizes`, where several of the golden entries are not there".to_owned();
                        return Err(refusal(
                            expected,
                            format!("none, and no entry `{}`", group.goldens[first]),
                        ));
                    }
                }
            }
        };
        Ok((sizes[..piece].iter().sum(), sizes[piece]))
    }

    fn pair_by_name(&mut self, index: usize, of: &Entry) -> Result<()> {
        let entry = &self.candidate.entries()[index];
        let counterpart = Counterpart {
            tensors: vec![entry.key().into_owned()],
            rule: None,
            layout: Vec::new(),
            recorded_shape: of.shape.clone(),
        };
        let source = Source {
            counterpart,
            any_dtype: false,
            dtype: entry.dtype,
            parts: vec![(index, Plan::new(&entry.shape))],
            join: Joined::One,
            whole: Plan::new(&entry.shape),
            golden: Plan::new(&of.shape),
        };
        if let Some(Source { counterpart: Counterpart { rule: Some(place), .. }, .. }) =
            self.sources.insert(of.key().into_owned(), source)
        {
            return Err(Error::Names {
                map: place.map,
                place: format!("rules[{}]", place.index),
                expected: format!("one counterpart of the golden entry `{}`", of.name),
                found: "this rule's and the candidate's tensor of the same name".to_owned(),
            });
        }
        Ok(())
    }
}

/// How the parts of a rule become one tensor, and its shape. A refusal comes with the field that it is about.
fn joined(
    rule: &Rule,
    shapes: &[&[usize]],
    alone: &[usize],
    dtype: Dtype,
) -> Result<(Joined, Vec<usize>), (&'static str, Refusal)> {
    let refusal = |expected: String, found: String| Refusal::Rule { expected, found };
    match rule.join {
        Join::One => Ok((Joined::One, alone.to_vec())),
        Join::Concat(dim) => {
            let dim = dimension(dim, shapes[0]).map_err(|refusal| (".concat", refusal))?;
            let alike = |shape: &[usize]| {
                shape.len() == shapes[0].len()
                    && shape.iter().zip(shapes[0]).enumerate().all(|(at, (a, b))| at == dim || a == b)
            };
            if !shapes.iter().all(|shape| alike(shape)) {
                let expected = format!("shapes alike but for dimension {dim}");
                return Err((".concat", refusal(expected, format!("{shapes:?}"))));
            }
            let mut joined = shapes[0].to_vec();
            joined[dim] = shapes.iter().map(|shape| shape[dim]).sum();
            Ok((Joined::Concat { dim }, joined))
        }
        Join::Add => {
            if let Some(other) = shapes.iter().find(|shape| **shape != shapes[0]) {
                let expected = format!("{:?} in all parts", shapes[0]);
                return Err((".add", refusal(expected, format!("{other:?}"))));
            }
            if !can_add(dtype) {
                let expected = "float64, float32, float16 or bfloat16".to_owned();
                return Err((".add", refusal(expected, dtype.to_string())));
            }
            Ok((Joined::Add, shapes[0].to_vec()))
        }
    }
}

/// Takes steps; whether the sizes of both dumps fit them. A refusal comes with the field that it is about.
fn walk(
    plan: &mut Plan,
    steps: &[LayoutStep],
    other: &[usize],
    field: &str,
) -> Result<bool, (String, Refusal)> {
    for (place, step) in steps.iter().enumerate() {
        match plan.take(step, other) {
            Ok(()) => {}
            Err(Refusal::Sizes) => return Ok(false),
            Err(refusal) => return Err((format!("{field}[{place}].{}", step.name()), refusal)),
        }
    }
    Ok(true)
}

fn wrong(rule: &Rule, place: String, expected: String, found: String) -> Error {
    Error::Names { map: rule.place.map.clone(), place, expected, found }
}
