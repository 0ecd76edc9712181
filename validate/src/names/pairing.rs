//! Which tensors of a candidate stand for which golden entries: a map, resolved against the names and shapes of two
//! dumps before a byte is read.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use golden::{Dtype, Dump, Entry, Sketch};

use super::assembly::{Assembled, Plan, added, can_add, concatenated};
use super::map::{Join, NameMap, Rule, RulePlace, excused};
use super::pattern::Names;
use super::step::{Refusal, Step, dimension};
use crate::error::{Error, Result};

/// What stands for a golden entry in the candidate's dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterpart {
    /// The names of the candidate's tensors, in the order in which they were put together.
    pub tensors: Vec<String>,
    /// The rule that says so; `None` where the candidate has a tensor of the golden name.
    pub rule: Option<RulePlace>,
    /// What brought them into the golden layout, and the golden tensor to the part that both have, in words.
    pub layout: Vec<String>,
    /// The golden shape as recorded, of which only a part may have been compared.
    pub recorded_shape: Vec<usize>,
}

/// Two dumps and which tensors of one stand for which entries of the other.
#[derive(Debug)]
pub struct Pairing<'a> {
    golden: &'a Dump,
    candidate: &'a Dump,
    map: Option<&'a NameMap>,
    sources: HashMap<String, Source>,
    /// The candidate's entries that stand for nothing, in order, and why that is no fault.
    left: Vec<(usize, Option<String>)>,
    idle: Vec<(RulePlace, Idle)>,
    /// Why golden entries need no counterpart.
    absent: HashMap<&'a str, String>,
    /// Which of the candidate's entries were checked against their recorded hash.
    verified: Vec<AtomicBool>,
}

/// Why a rule does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Its expressions, which match no tensor of the candidate.
    NoTensor(Vec<String>),
    /// A name that it gives, which no golden entry has, as none has that it gives.
    NoEntry(String),
}

/// How a golden entry's counterpart is put together.
#[derive(Debug)]
struct Source {
    told: Counterpart,
    any_dtype: bool,
    dtype: Dtype,
    parts: Vec<(usize, Plan)>,
    join: Resolved,
    whole: Plan,
    golden: Plan,
}

/// How the parts become one.
#[derive(Debug, Clone, Copy)]
enum Resolved {
    One,
    Concat { dim: usize },
    Add,
}

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
                None => match (ignored, golden.entry(&entry.name)) {
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
                absent.filter_map(|(entry, reason)| Some((entry.name.as_str(), reason?))).collect();
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
                let by = other.told.rule.map_or_else(String::new, |place| place.to_string());
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
        let refused = |field: &str, refusal: Refusal| match refusal {
            Refusal::Rule { expected, found } => {
                wrong(rule, format!("rules[{}]{field}: {site}", rule.place.index), expected, found)
            }
            // Told apart before: then the dumps do not fit each other, which is no error.
            Refusal::Sizes => {
                let place = format!("rules[{}]{field}: {site}", rule.place.index);
                wrong(rule, place, "sizes that fit".to_owned(), "others".to_owned())
            }
        };
        let dtype = tensors[0].dtype;
        if let Some(other) = tensors.iter().find(|tensor| tensor.dtype != dtype) {
            let place = format!("rules[{}].candidate: {site}", rule.place.index);
            return Err(wrong(
                rule,
                place,
                format!("{dtype} in all parts"),
                format!("{} in `{}`", other.dtype, other.name),
            ));
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
        let (join, joined) = match rule.join {
            Join::One => (Resolved::One, tensors[0].shape.clone()),
            Join::Concat(dim) => {
                let dim = dimension(dim, shapes[0]).map_err(|refusal| refused(".concat", refusal))?;
                let alike = |shape: &[usize]| {
                    shape.len() == shapes[0].len()
                        && shape.iter().zip(shapes[0]).enumerate().all(|(at, (a, b))| at == dim || a == b)
                };
                if !shapes.iter().all(|shape| alike(shape)) {
                    let refusal = Refusal::Rule {
                        expected: format!("shapes alike but for dimension {dim}"),
                        found: format!("{shapes:?}"),
                    };
                    return Err(refused(".concat", refusal));
                }
                let mut joined = shapes[0].to_vec();
                joined[dim] = shapes.iter().map(|shape| shape[dim]).sum();
                layout.push(format!("concat {dim}"));
                (Resolved::Concat { dim }, joined)
            }
            Join::Add => {
                if let Some(other) = shapes.iter().find(|shape| **shape != shapes[0]) {
                    let (expected, found) = (format!("{:?} in all parts", shapes[0]), format!("{other:?}"));
                    return Err(refused(".add", Refusal::Rule { expected, found }));
                }
                if !can_add(dtype) {
                    let expected = "float64, float32, float16 or bfloat16".to_owned();
                    return Err(refused(".add", Refusal::Rule { expected, found: dtype.to_string() }));
                }
                layout.push("add".to_owned());
                (Resolved::Add, shapes[0].to_vec())
            }
        };
        let mut whole = Plan::new(&joined);
        let refuse = |(field, refusal): (String, Refusal)| refused(&field, refusal);
        fits = fits && walk(&mut whole, &rule.steps, &entry.shape, ".steps").map_err(refuse)?;
        layout.extend(rule.steps.iter().map(Step::to_string));
        if let Some(dim) = rule.split.filter(|_| fits) {
            let place = dimension(dim, whole.shape()).map_err(|refusal| refused(".split", refusal))?;
            match self.piece(rule, group, entries, piece, dim, whole.shape()[place]) {
                Ok((start, len)) => whole.narrow(place, start, len),
                Err(Refusal::Sizes) => fits = false,
                Err(refusal) => return Err(refused(".split", refusal)),
            }
            fits = fits && walk(&mut whole, &rule.pieces, &entry.shape, ".pieces").map_err(refuse)?;
            layout.push(format!("piece {} of {} along {dim}", piece + 1, entries.len()));
            layout.extend(rule.pieces.iter().map(Step::to_string));
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
        let told = Counterpart {
            tensors: names,
            rule: Some(rule.place.clone()),
            layout,
            recorded_shape: entry.shape.clone(),
        };
        Ok(Source { told, any_dtype: rule.any_dtype, dtype, parts: prepared, join, whole, golden })
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
        let told = Counterpart {
            tensors: vec![entry.name.clone()],
            rule: None,
            layout: Vec::new(),
            recorded_shape: of.shape.clone(),
        };
        let source = Source {
            told,
            any_dtype: false,
            dtype: entry.dtype,
            parts: vec![(index, Plan::new(&entry.shape))],
            join: Resolved::One,
            whole: Plan::new(&entry.shape),
            golden: Plan::new(&of.shape),
        };
        if let Some(Source { told: Counterpart { rule: Some(place), .. }, .. }) =
            self.sources.insert(of.name.clone(), source)
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

    /// The ids that the golden run and the candidate generated.
    pub(crate) fn generated_ids(&self) -> [Option<&[i64]>; 2] {
        [self.golden, self.candidate].map(|dump| dump.manifest().generated_ids.as_deref())
    }

    /// The sketch that a golden entry is compared by, and what is told of its tensor; `None` if it is in full, or if a part of
    /// it is wanted, of which a sketch tells nothing.
    pub(crate) fn golden_sketch(&self, golden: &str) -> Option<(&'a Entry, &'a Sketch)> {
        let (entry, sketch) = (self.golden.entry(golden)?, self.golden.sketch(golden)?);
        let whole = self.sources.get(golden).is_none_or(|source| source.golden.is_whole(&entry.shape));
        whole.then_some((entry, sketch))
    }

    /// Both dumps, and the candidate's entry that stands for a golden one where a side has a sketch only.
    ///
    /// # Errors
    ///
    /// [`Error::Names`] if a rule brings it into another layout: a sketch tells nothing of it.
    pub(crate) fn sketched(&self, golden: &str) -> Result<(&'a Dump, &'a Dump, &'a Entry)> {
        let source = self.sources.get(golden);
        let told = source.map(|source| &source.told);
        match source.map(|source| source.parts.as_slice()) {
            Some([(part, _)]) if told.is_some_and(|told| told.layout.is_empty()) => {
                Ok((self.golden, self.candidate, &self.candidate.entries()[*part]))
            }
            _ => {
                let rule = told.and_then(|told| told.rule.clone());
                Err(Error::Names {
                    map: rule.as_ref().map_or_else(String::new, |rule| rule.map.clone()),
                    place: rule.map_or_else(String::new, |rule| format!("rules[{}]", rule.index)),
                    expected: format!("tensors in full for the layout of `{golden}`"),
                    found: "a sketch".to_owned(),
                })
            }
        }
    }

    /// The map, if there is one.
    pub(crate) fn map(&self) -> Option<&NameMap> {
        self.map
    }

    /// What stands for a golden entry.
    pub fn counterpart(&self, golden: &str) -> Option<&Counterpart> {
        self.sources.get(golden).map(|source| &source.told)
    }

    /// The shape that is compared of a golden entry.
    pub(crate) fn compared_shape(&self, golden: &str) -> Option<&[usize]> {
        self.sources.get(golden).map(|source| source.golden.shape())
    }

    /// Whether a golden entry's counterpart may have another dtype.
    pub(crate) fn any_dtype(&self, golden: &str) -> bool {
        self.sources.get(golden).is_some_and(|source| source.any_dtype)
    }

    /// The dtype of what stands for a golden entry.
    pub(crate) fn dtype(&self, golden: &str) -> Option<Dtype> {
        self.sources.get(golden).map(|source| source.dtype)
    }

    /// Why a golden entry need not have a counterpart.
    pub(crate) fn absent(&self, golden: &str) -> Option<&str> {
        self.absent.get(golden).map(String::as_str)
    }

    /// The candidate's entries that stand for no golden one, and why that is no fault; `None` if it is.
    pub(crate) fn left(&self) -> impl Iterator<Item = (&Entry, Option<&str>)> {
        self.left.iter().map(|(index, reason)| (&self.candidate.entries()[*index], reason.as_deref()))
    }

    /// The rules that do nothing.
    pub(crate) fn idle(&self) -> &[(RulePlace, Idle)] {
        &self.idle
    }

    /// The golden names in the order in which the candidate recorded their counterparts.
    pub(crate) fn recorded_order(&self) -> Vec<&str> {
        let last = |source: &Source| source.parts.iter().map(|(part, _)| *part).max();
        let mut names: Vec<(Option<usize>, usize, &str)> = Vec::new();
        for (place, entry) in self.golden.entries().iter().enumerate() {
            if let Some(source) = self.sources.get(&entry.name) {
                names.push((last(source), place, &entry.name));
            }
        }
        names.sort_unstable();
        names.into_iter().map(|(.., name)| name).collect()
    }

    /// Whether bytes must be moved for the comparison of a golden entry.
    pub(crate) fn copies(&self, golden: &str) -> bool {
        self.sources.get(golden).is_some_and(|source| {
            !matches!(source.join, Resolved::One) || source.whole.copies() || source.golden.copies()
        })
    }

    /// The size of what stands for a golden entry.
    pub(crate) fn size_bytes(&self, golden: &str) -> usize {
        let parts = self.sources.get(golden).map_or(&[][..], |source| &source.parts);
        let of = |&(part, _): &(usize, Plan)| {
            let name = &self.candidate.entries()[part].name;
            self.candidate.get(name).map_or(0, |tensor| tensor.data().len())
        };
        parts.iter().map(of).sum()
    }

    /// Whether one tensor of the very bytes of a golden entry stands for it, with the same hash: then one check is enough.
    pub(crate) fn has_same_bytes(&self, golden: &Entry) -> bool {
        let Some([(part, _)]) = self.sources.get(&golden.name).map(|source| source.parts.as_slice()) else {
            return false;
        };
        let other = &self.candidate.entries()[*part];
        let tensors = self.golden.get(&golden.name).zip(self.candidate.get(&other.name));
        golden.sha256 == other.sha256 && tensors.is_some_and(|(a, b)| a.data() == b.data())
    }

    /// Checks the tensors that stand for a golden entry against their recorded hashes, each once.
    ///
    /// # Errors
    ///
    /// [`Error::Dump`] if one is not what was recorded.
    pub(crate) fn verify(&self, golden: &str) -> Result<()> {
        for (part, _) in self.sources.get(golden).iter().flat_map(|source| &source.parts) {
            self.verify_entry(*part)?;
        }
        Ok(())
    }

    /// Checks an entry of the candidate's that stands for none.
    ///
    /// # Errors
    ///
    /// [`Error::Dump`] if it is not what was recorded.
    pub(crate) fn verify_left(&self, entry: &Entry) -> Result<()> {
        Ok(self.candidate.verify_entry(&entry.name)?)
    }

    fn verify_entry(&self, index: usize) -> Result<()> {
        if !self.verified[index].swap(true, Ordering::Relaxed) {
            self.candidate.verify_entry(&self.candidate.entries()[index].name)?;
        }
        Ok(())
    }

    /// The part of a golden tensor that is compared.
    pub(crate) fn golden(&self, golden: &str) -> Option<Assembled<'a>> {
        let tensor = self.golden.get(golden)?;
        match self.sources.get(golden) {
            Some(source) => Some(source.golden.assemble(tensor.dtype(), Cow::Borrowed(tensor.data()))),
            None => Assembled::whole(self.golden, self.golden.entry(golden)?),
        }
    }

    /// The candidate's tensor that stands for a golden entry, in the golden layout.
    pub(crate) fn candidate(&self, golden: &str) -> Option<Assembled<'a>> {
        let source = self.sources.get(golden)?;
        let bytes = |index: usize| {
            Some(Cow::Borrowed(self.candidate.get(&self.candidate.entries()[index].name)?.data()))
        };
        let size_bytes = source.dtype.size_bytes();
        let joined: Cow<'a, [u8]> = match source.join {
            Resolved::One => bytes(source.parts[0].0)?,
            Resolved::Concat { dim } => {
                let mut parts = Vec::with_capacity(source.parts.len());
                let mut inner = 1;
                for (index, plan) in &source.parts {
                    inner = plan.shape()[dim + 1..].iter().product();
                    parts.push((plan.run(bytes(*index)?, size_bytes), plan.shape()[dim]));
                }
                Cow::Owned(concatenated(&parts, inner * size_bytes))
            }
            Resolved::Add => {
                let mut sum: Option<Cow<'a, [u8]>> = None;
                for (index, plan) in &source.parts {
                    let part = plan.run(bytes(*index)?, size_bytes);
                    sum = Some(match sum {
                        None => part,
                        Some(sum) => Cow::Owned(added(source.dtype, &sum, &part)?),
                    });
                }
                sum?
            }
        };
        let assembled = source.whole.assemble(source.dtype, joined);
        Some(match self.golden.entry(golden) {
            Some(entry) if source.any_dtype => assembled.integers_as(entry.dtype),
            _ => assembled,
        })
    }
}

/// Takes steps; whether the sizes of both dumps fit them. A refusal comes with the field that it is about.
fn walk(plan: &mut Plan, steps: &[Step], other: &[usize], field: &str) -> Result<bool, (String, Refusal)> {
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
