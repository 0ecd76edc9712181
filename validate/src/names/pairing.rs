//! Which tensors of a candidate stand for which golden entries.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use golden::{Dtype, Dump, Entry, Sketch};

use super::assembly::{Assembled, Plan, added, concatenated};
use super::map::{NameMap, RulePlace};
use crate::error::{Error, Result};

/// What stands for a golden entry in the candidate's dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterpart {
    /// The [keys](Entry::key) of the candidate's tensors, in the order in which they were put together.
    pub tensors: Vec<String>,
    /// The rule that says so; `None` where the candidate has a tensor of the golden name.
    pub rule: Option<RulePlace>,
    /// What brought them into the golden layout, and the golden tensor to the part that both have, in words.
    pub layout: Vec<String>,
    /// The golden shape as recorded, of which only a part may have been compared.
    pub recorded_shape: Vec<usize>,
}

/// Two dumps and which tensors of one stand for which entries of the other, by the [keys](Entry::key) of the golden entries.
#[derive(Debug)]
pub struct Pairing<'a> {
    pub(super) golden: &'a Dump,
    pub(super) candidate: &'a Dump,
    pub(super) map: Option<&'a NameMap>,
    pub(super) sources: HashMap<String, Source>,
    /// The candidate's entries that stand for nothing, in order, and why that is no fault.
    pub(super) left: Vec<(usize, Option<String>)>,
    pub(super) idle: Vec<(RulePlace, Idle)>,
    /// Why golden entries need no counterpart.
    pub(super) absent: HashMap<String, String>,
    /// Which of the candidate's entries were checked against their recorded hash.
    pub(super) verified: Vec<AtomicBool>,
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
pub(super) struct Source {
    pub(super) counterpart: Counterpart,
    pub(super) any_dtype: bool,
    pub(super) dtype: Dtype,
    pub(super) parts: Vec<(usize, Plan)>,
    pub(super) join: Joined,
    pub(super) whole: Plan,
    pub(super) golden: Plan,
}

/// How the parts become one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Joined {
    One,
    Concat { dim: usize },
    Add,
}

impl<'a> Pairing<'a> {
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
        let counterpart = source.map(|source| &source.counterpart);
        match source.map(|source| source.parts.as_slice()) {
            Some([(part, _)]) if counterpart.is_some_and(|counterpart| counterpart.layout.is_empty()) => {
                Ok((self.golden, self.candidate, &self.candidate.entries()[*part]))
            }
            _ => {
                let rule = counterpart.and_then(|counterpart| counterpart.rule.clone());
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
        self.sources.get(golden).map(|source| &source.counterpart)
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

    /// The golden entries in the order in which the candidate recorded their counterparts.
    pub(crate) fn recorded_order(&self) -> Vec<&'a Entry> {
        let last = |source: &Source| source.parts.iter().map(|(part, _)| *part).max();
        let entries: &'a [Entry] = self.golden.entries();
        let mut order: Vec<(Option<usize>, usize)> = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            order.extend(self.sources.get(entry.key().as_ref()).map(|source| (last(source), place)));
        }
        order.sort_unstable();
        order.into_iter().map(|(_, place)| &entries[place]).collect()
    }

    /// Whether bytes must be moved for the comparison of a golden entry.
    pub(crate) fn copies(&self, golden: &str) -> bool {
        self.sources.get(golden).is_some_and(|source| {
            !matches!(source.join, Joined::One) || source.whole.copies() || source.golden.copies()
        })
    }

    /// The size of what stands for a golden entry.
    pub(crate) fn size_bytes(&self, golden: &str) -> usize {
        let parts = self.sources.get(golden).map_or(&[][..], |source| &source.parts);
        let of = |&(part, _): &(usize, Plan)| {
            let key = self.candidate.entries()[part].key();
            self.candidate.get(&key).map_or(0, |tensor| tensor.data().len())
        };
        parts.iter().map(of).sum()
    }

    /// Whether one tensor of the very bytes of a golden entry stands for it, with the same hash: then one check is enough.
    pub(crate) fn has_same_bytes(&self, golden: &Entry) -> bool {
        let Some([(part, _)]) = self.sources.get(golden.key().as_ref()).map(|source| source.parts.as_slice())
        else {
            return false;
        };
        let other = &self.candidate.entries()[*part];
        let tensors = self.golden.get(&golden.key()).zip(self.candidate.get(&other.key()));
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
        Ok(self.candidate.verify_entry(&entry.key())?)
    }

    fn verify_entry(&self, index: usize) -> Result<()> {
        if !self.verified[index].swap(true, Ordering::Relaxed) {
            self.candidate.verify_entry(&self.candidate.entries()[index].key())?;
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
            Some(Cow::Borrowed(self.candidate.get(&self.candidate.entries()[index].key())?.data()))
        };
        let size_bytes = source.dtype.size_bytes();
        let joined: Cow<'a, [u8]> = match source.join {
            Joined::One => bytes(source.parts[0].0)?,
            Joined::Concat { dim } => {
                let mut parts = Vec::with_capacity(source.parts.len());
                let mut inner = 1;
                for (index, plan) in &source.parts {
                    inner = plan.shape()[dim + 1..].iter().product();
                    parts.push((plan.run(bytes(*index)?, size_bytes), plan.shape()[dim]));
                }
                Cow::Owned(concatenated(&parts, inner * size_bytes))
            }
            Joined::Add => {
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
