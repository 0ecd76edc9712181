//! What is known of both dumps, and what was found to belong together.

use std::collections::HashMap;

use golden::Entry;

use super::index::Index;
use super::rule::{Evidence, Match};
use super::similarity::{Rows, Sample};

/// A golden entry or a candidate's, with what is asked of it often.
pub(super) struct Tensor<'a> {
    pub(super) entry: &'a Entry,
    pub(super) rows: Rows<'a>,
}

pub(super) struct Matcher<'a> {
    pub(super) golden: Vec<Tensor<'a>>,
    pub(super) candidate: Vec<Tensor<'a>>,
    /// The candidate's tensors by their names.
    pub(super) by_name: HashMap<&'a str, usize>,
    /// The golden tensors' elements, as far as they are looked at.
    pub(super) samples: Vec<Sample>,
    /// Which golden entries have a counterpart, and which tensors of the candidate are a part of one.
    pub(super) found: Vec<bool>,
    pub(super) used: Vec<bool>,
    /// Where in the candidate's order the counterpart of a golden entry ends.
    pub(super) places: Vec<Option<usize>>,
    pub(super) matches: Vec<Match>,
}

impl Matcher<'_> {
    pub(super) fn name(&self, candidate: usize) -> String {
        self.candidate[candidate].entry.name.clone()
    }

    /// Notes what stands for golden entries.
    pub(super) fn note(
        &mut self,
        candidates: &[usize],
        goldens: &[usize],
        body: Vec<String>,
        evidence: Evidence,
    ) {
        for &golden in goldens {
            self.found[golden] = true;
            self.places[golden] = candidates.iter().copied().max();
        }
        for &candidate in candidates {
            self.used[candidate] = true;
        }
        let alike = |candidate: &usize, golden: &usize| {
            self.candidate[*candidate].entry.name == self.golden[*golden].entry.name
        };
        // Equal names belong together without a rule.
        if let ([candidate], [golden]) = (candidates, goldens)
            && alike(candidate, golden)
            && body.is_empty()
        {
            return;
        }
        self.matches.push(Match {
            candidates: candidates.iter().map(|&candidate| self.name(candidate)).collect(),
            goldens: goldens.iter().map(|&golden| self.golden[golden].entry.name.clone()).collect(),
            body,
            evidence,
        });
    }

    /// The candidate's tensor that has the name of a golden entry.
    pub(super) fn own(&self, golden: usize) -> Option<usize> {
        self.by_name.get(self.golden[golden].entry.name.as_str()).copied()
    }

    /// About where a golden tensor's counterpart stands in the candidate's order.
    pub(super) fn about(&self, golden: usize) -> usize {
        golden * self.candidate.len() / self.golden.len().max(1)
    }

    /// The candidate's tensors by something that a counterpart has in common with the golden tensor.
    pub(super) fn index<K: std::hash::Hash + Eq>(&self, key: impl Fn(&Tensor<'_>) -> Option<K>) -> Index<K> {
        Index::of(self.candidate.iter().map(key))
    }

    /// The golden entries that have no counterpart yet.
    pub(super) fn open(&self) -> Vec<usize> {
        (0..self.golden.len()).filter(|&index| !self.found[index]).collect()
    }

    /// The lines of a rule, and one more where the dtypes differ.
    pub(super) fn with_dtype(&self, mut body: Vec<String>, golden: &Entry, candidate: &Entry) -> Vec<String> {
        if golden.dtype != candidate.dtype {
            body.push("dtype = \"any\"".to_owned());
        }
        body
    }
}

/// The last segment of a name that is no number.
pub(super) fn last_word(name: &str) -> Option<&str> {
    name.rsplit('.').find(|segment| !segment.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A name without its last segment, which is an output's where a module has several.
pub(super) fn module(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(module, _)| module)
}
