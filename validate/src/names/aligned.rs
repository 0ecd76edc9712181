//! Entries that belong together in parts, as a relation of two runs says.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use golden::Dump;

use super::assembly::Plan;
use super::pairing::{Counterpart, Joined, Pairing, Source};

/// Parts of dimensions.
pub(crate) type Cut = Vec<(usize, Range<usize>)>;

/// What stands for a golden entry, or for a part of it.
#[derive(Debug)]
pub(crate) struct Match {
    /// The index of the golden entry.
    pub(crate) golden: usize,
    /// The part of it that is compared.
    pub(crate) cut: Cut,
    /// The candidate's entries by their indices, and the part of each; all of one dtype.
    pub(crate) pieces: Vec<(usize, Cut)>,
    /// The dimension along which several are joined.
    pub(crate) dim: usize,
    /// The parts in words; empty if nothing is cut.
    pub(crate) words: Vec<String>,
}

impl<'a> Pairing<'a> {
    /// Pairs what belongs together; with reasons why other entries are not compared, by their indices.
    pub(crate) fn aligned(
        golden: &'a Dump,
        candidate: &'a Dump,
        matches: Vec<Match>,
        absent: Vec<(usize, String)>,
        left: Vec<(usize, Option<String>)>,
    ) -> Self {
        let key = |index: usize| golden.entries()[index].key().into_owned();
        let sources = matches.into_iter().map(|found| (key(found.golden), source(golden, candidate, found)));
        Pairing {
            golden,
            candidate,
            map: None,
            sources: sources.collect(),
            left,
            idle: Vec::new(),
            absent: absent.into_iter().map(|(index, reason)| (key(index), reason)).collect(),
            verified: candidate.entries().iter().map(|_| AtomicBool::new(false)).collect(),
        }
    }
}

fn source(golden: &Dump, candidate: &Dump, found: Match) -> Source {
    let entries = candidate.entries();
    let of = &golden.entries()[found.golden];
    let dtype = found.pieces.first().map_or(of.dtype, |(index, _)| entries[*index].dtype);
    let tensors = found.pieces.iter().map(|(index, _)| entries[*index].key().into_owned()).collect();
    let (rule, layout, recorded_shape) = (None, found.words, of.shape.clone());
    let counterpart = Counterpart { tensors, rule, layout, recorded_shape };
    let parts: Vec<(usize, Plan)> =
        found.pieces.iter().map(|(index, cut)| (*index, plan(&entries[*index].shape, cut))).collect();
    let (join, whole) = match parts.as_slice() {
        [(_, plan)] => (Joined::One, plan.clone()),
        parts => {
            let mut shape = parts.first().map_or_else(Vec::new, |(_, plan)| plan.shape().to_vec());
            if let Some(size) = shape.get_mut(found.dim) {
                *size = parts.iter().map(|(_, plan)| plan.shape()[found.dim]).sum();
            }
            (Joined::Concat { dim: found.dim }, Plan::new(&shape))
        }
    };
    let golden = plan(&of.shape, &found.cut);
    Source { counterpart, any_dtype: false, dtype, parts, join, whole, golden }
}

fn plan(shape: &[usize], cut: &Cut) -> Plan {
    let mut plan = Plan::new(shape);
    for (dim, part) in cut {
        plan.narrow(*dim, part.start, part.len());
    }
    plan
}
