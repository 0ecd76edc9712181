//! Proposes a map from the names, shapes and contents of two dumps.
//!
//! What has the same bytes belongs together; else what is alike as far as a sample of its elements tells, in the same
//! order, permuted, fused or split, with more or fewer tokens; what is left, by name, shape and order of execution.
//! Rules that differ in numbers only become one.

mod draft;
mod finish;
mod index;
mod likeness;
mod parts;
mod place;
mod whole;

use std::collections::HashMap;

use golden::{Dump, Entry};

use crate::Result;
use draft::{Draft, Evidence, generalised};
use finish::finish;
use index::Index;
use likeness::{Rows, Sample};

/// A proposed map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The map as a file has it.
    pub text: String,
    /// How many golden entries have a counterpart by it.
    pub matched: usize,
    /// The golden entries that have none.
    pub unmatched: Vec<String>,
    /// The candidate's tensors that stand for nothing.
    pub left: Vec<String>,
}

/// A golden entry or a candidate's, with what is asked of it often.
struct Tensor<'a> {
    entry: &'a Entry,
    rows: Rows<'a>,
}

struct Matcher<'a> {
    golden: Vec<Tensor<'a>>,
    candidate: Vec<Tensor<'a>>,
    /// The candidate's tensors by their names.
    by_name: HashMap<&'a str, usize>,
    /// The golden tensors' elements, as far as they are looked at.
    samples: Vec<Sample>,
    /// Which golden entries have a counterpart, and which tensors of the candidate are a part of one.
    found: Vec<bool>,
    used: Vec<bool>,
    /// Where in the candidate's order the counterpart of a golden entry ends.
    places: Vec<Option<usize>>,
    drafts: Vec<Draft>,
}

/// Proposes a map from a candidate's names and layouts to those of a golden dump.
///
/// # Errors
///
/// Those of [`super::Pairing::new`], were the proposal itself not to fit the dumps.
pub fn propose(golden: &Dump, candidate: &Dump) -> Result<Proposal> {
    let of = |(entry, tensor)| Tensor { entry, rows: Rows::of(tensor) };
    let (golden_tensors, candidates): (Vec<Tensor<'_>>, Vec<Tensor<'_>>) =
        (golden.tensors().map(of).collect(), candidate.tensors().map(of).collect());
    let mut matcher = Matcher {
        by_name: candidates.iter().enumerate().map(|(at, tensor)| (tensor.entry.name.as_str(), at)).collect(),
        samples: golden_tensors.iter().map(|tensor| tensor.rows.sample()).collect(),
        found: vec![false; golden_tensors.len()],
        used: vec![false; candidates.len()],
        places: vec![None; golden_tensors.len()],
        drafts: Vec::new(),
        golden: golden_tensors,
        candidate: candidates,
    };
    matcher.whole();
    matcher.tokens();
    matcher.joined();
    matcher.split();
    matcher.added();
    matcher.by_place();
    let rules = generalised(std::mem::take(&mut matcher.drafts));
    golden.check()?;
    candidate.check()?;
    finish(golden, candidate, rules)
}

impl Matcher<'_> {
    fn name(&self, candidate: usize) -> String {
        self.candidate[candidate].entry.name.clone()
    }

    /// Notes what stands for golden entries.
    fn note(&mut self, candidates: &[usize], goldens: &[usize], body: Vec<String>, evidence: Evidence) {
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
        self.drafts.push(Draft {
            candidates: candidates.iter().map(|&candidate| self.name(candidate)).collect(),
            goldens: goldens.iter().map(|&golden| self.golden[golden].entry.name.clone()).collect(),
            body,
            evidence,
        });
    }

    /// The candidate's tensor that has the name of a golden entry.
    fn own(&self, golden: usize) -> Option<usize> {
        self.by_name.get(self.golden[golden].entry.name.as_str()).copied()
    }

    /// About where a golden tensor's counterpart stands in the candidate's order.
    fn about(&self, golden: usize) -> usize {
        golden * self.candidate.len() / self.golden.len().max(1)
    }

    /// The candidate's tensors by something that a counterpart has in common with the golden tensor.
    fn index<K: std::hash::Hash + Eq>(&self, key: impl Fn(&Tensor<'_>) -> Option<K>) -> Index<K> {
        Index::of(self.candidate.iter().map(key))
    }

    /// The golden entries that have no counterpart yet.
    fn open(&self) -> Vec<usize> {
        (0..self.golden.len()).filter(|&index| !self.found[index]).collect()
    }

    /// The lines of a rule, and one more where the dtypes differ.
    fn with_dtype(&self, mut body: Vec<String>, golden: &Entry, candidate: &Entry) -> Vec<String> {
        if golden.dtype != candidate.dtype {
            body.push("dtype = \"any\"".to_owned());
        }
        body
    }
}

/// The last segment of a name that is no number.
fn last_word(name: &str) -> Option<&str> {
    name.rsplit('.').find(|segment| !segment.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A name without its last segment, which is an output's where a module has several.
fn module(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(module, _)| module)
}
