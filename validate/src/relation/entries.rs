//! What belongs together of all entries of two dumps.

use std::collections::{HashMap, HashSet};

use golden::{Dump, Entry};
use indexmap::IndexMap;
use measure::model::{Model, SiteRole, model_of};

use super::alignment::{AlignedStep, Alignment};
use super::axes::{Axis, axes};
use super::fact::Fact;
use super::kind::Relation;
use super::pair::{Only, Paired, Piece, pair};
use super::sides::Sides;
use super::tiles::Tiles;
use crate::names::{Match, Pairing};

/// What belongs together of two dumps.
pub(crate) struct Related<'a> {
    pub(crate) pairing: Pairing<'a>,
    pub(crate) alignment: Alignment,
    /// Where the part of a golden entry begins that is compared, by the entry's key: a start for each dimension.
    pub(crate) starts: HashMap<String, Vec<usize>>,
}

/// Pairs all entries.
pub(super) fn relate<'a>(sides: &Sides<'a>, mut alignment: Alignment) -> Related<'a> {
    let found = Finder::new(sides, &alignment).found();
    let facts = &mut alignment.facts;
    let told = |names: Vec<String>, fact: fn(Vec<String>) -> Fact| (!names.is_empty()).then(|| fact(names));
    facts.extend(told(found.last_piece, |names| Fact::LastPiece { names }));
    facts.extend(told(found.last_token, |names| Fact::LastToken { names }));
    facts.extend(found.reasons.into_iter().map(|(reason, names)| Fact::NotComparable { reason, names }));
    let entries = sides.plain.entries();
    let starts = found.matches.iter().filter(|found| found.cut.iter().any(|(_, part)| part.start > 0));
    let starts = starts.map(|found| {
        let entry = &entries[found.golden];
        let mut starts = vec![0; entry.shape.len()];
        found.cut.iter().for_each(|(dim, part)| starts[*dim] = part.start);
        (entry.key().into_owned(), starts)
    });
    let starts = starts.collect();
    let pairing = Pairing::aligned(sides.plain, sides.candidate, found.matches, found.absent, found.left);
    Related { pairing, alignment, starts }
}

/// What was found of all entries.
#[derive(Default)]
struct Found {
    matches: Vec<Match>,
    /// Why golden entries have none, by their indices.
    absent: Vec<(usize, String)>,
    /// The candidate's entries that stand for nothing, by their indices, and why that is no fault.
    left: Vec<(usize, Option<String>)>,
    last_piece: Vec<String>,
    last_token: Vec<String>,
    /// Why entries cannot be aligned, with their names.
    reasons: IndexMap<String, Vec<String>>,
}

struct Finder<'a> {
    relation: Relation,
    plain: &'a Dump,
    candidate: &'a Dump,
    alignment: &'a Alignment,
    model: &'static Model,
    /// The candidate's entries by name and step.
    places: HashMap<(&'a str, u64), usize>,
    tiles: Option<Tiles>,
    /// The modules that have tokens of the prompt, and those around them.
    with_tokens: HashSet<&'a str>,
    /// The index behind the last entry with tokens.
    behind: usize,
}

impl<'a> Finder<'a> {
    fn new(sides: &Sides<'a>, alignment: &'a Alignment) -> Self {
        let &Sides { relation, plain, candidate } = sides;
        let entries = candidate.entries().iter().enumerate();
        let places = entries.map(|(index, entry)| ((entry.name.as_str(), entry.step), index)).collect();
        let tiles = alignment.steps.first().and_then(|prompt| Tiles::of(plain, candidate, prompt));
        let (model, with_tokens, behind) = (model_of(plain.entries()), HashSet::new(), 0);
        let mut finder =
            Finder { relation, plain, candidate, alignment, model, places, tiles, with_tokens, behind };
        finder.find_modules_with_tokens();
        finder
    }

    fn find_modules_with_tokens(&mut self) {
        let (plain, Some(prompt)) = (self.plain, self.alignment.steps.first()) else { return };
        let counts_tokens = |piece: &Piece<'_>| {
            let axes = piece.axes.iter().flatten();
            axes.into_iter().any(|axis| matches!(axis, Axis::Tokens | Axis::AllTokens))
        };
        for (index, entry) in plain.entries().iter().enumerate() {
            if entry.step != prompt.step || !self.pieces(entry, prompt).iter().any(counts_tokens) {
                continue;
            }
            self.behind = index + 1;
            let mut module = entry.name.as_str();
            while let Some((outer, _)) = module.rsplit_once('.') {
                self.with_tokens.insert(outer);
                module = outer;
            }
        }
    }

    /// Whether an entry belongs to the text and not to the pictures, which no token of its own shows: as the family's file says, else
    /// as the entries of its module are.
    fn is_text(&self, index: usize, entry: &Entry) -> bool {
        let module = entry.name.rsplit_once('.').map(|(outer, _)| outer);
        let is_beside_text = module.is_some_and(|module| self.with_tokens.contains(module));
        !self.model.is_tiled(&entry.name) && (index >= self.behind || is_beside_text)
    }

    fn pieces(&self, entry: &Entry, aligned: &'a AlignedStep) -> Vec<Piece<'a>> {
        let found = aligned.passes.iter().filter_map(|pass| {
            let index = *self.places.get(&(entry.name.as_str(), pass.step))?;
            let other = &self.candidate.entries()[index];
            Some(Piece { index, entry: other, pass, axes: axes(&entry.shape, &other.shape, aligned, pass) })
        });
        found.collect()
    }

    fn found(&self) -> Found {
        let mut found = Found { left: self.left(), ..Found::default() };
        for (index, entry) in self.plain.entries().iter().enumerate() {
            let of_step = |aligned: &&AlignedStep| aligned.step == entry.step;
            let Some(aligned) = self.alignment.steps.iter().find(of_step) else {
                let reason = format!("no step of the candidate is aligned with step {}", entry.step);
                found.absent.push((index, reason));
                continue;
            };
            let pieces = self.pieces(entry, aligned);
            if pieces.is_empty() {
                let is_cached = self.relation == Relation::PrefixCache && aligned.computed().start > 0;
                if is_cached && !self.is_text(index, entry) {
                    found.absent.push((index, "the candidate's prompt begins in its cache".to_owned()));
                }
                continue;
            }
            match self.paired(index, entry, aligned, &pieces) {
                Ok(paired) => {
                    let key = entry.key().into_owned();
                    match paired.only {
                        None => {}
                        Some(Only::LastPiece) => found.last_piece.push(key),
                        Some(Only::LastToken) => found.last_token.push(key),
                    }
                    found.matches.push(paired.found);
                }
                Err(reason) => {
                    found.absent.push((index, format!("not comparable: {reason}")));
                    found.reasons.entry(reason).or_default().push(entry.key().into_owned());
                }
            }
        }
        found
    }

    /// What stands for an entry, or why nothing can.
    fn paired(
        &self,
        index: usize,
        entry: &Entry,
        aligned: &AlignedStep,
        pieces: &[Piece<'_>],
    ) -> Result<Paired, String> {
        let is_logits = self.model.role(&entry.name) == Some(SiteRole::StepLogits);
        if is_logits && self.alignment.others {
            return Err("the dump does not say of which request it is".to_owned());
        }
        let tiles = self.tiles.as_ref().filter(|_| !self.is_text(index, entry));
        pair(index, entry, aligned, pieces, tiles)
    }

    /// The candidate's entries that no golden one has a name for, or whose step has no counterpart.
    fn left(&self) -> Vec<(usize, Option<String>)> {
        let mut steps: HashMap<u64, u64> = HashMap::new();
        for aligned in &self.alignment.steps {
            steps.extend(aligned.passes.iter().map(|pass| (pass.step, aligned.step)));
        }
        let names: HashSet<(&str, u64)> =
            self.plain.entries().iter().map(|entry| (entry.name.as_str(), entry.step)).collect();
        let of = |(index, entry): (usize, &Entry)| match steps.get(&entry.step) {
            Some(&step) if names.contains(&(entry.name.as_str(), step)) => None,
            Some(_) => Some((index, None)),
            None => {
                let reason = format!("step {} of the candidate is aligned with no step", entry.step);
                Some((index, Some(reason)))
            }
        };
        self.candidate.entries().iter().enumerate().filter_map(of).collect()
    }
}
