//! Counterparts by their place alone.

use std::collections::{BTreeSet, HashMap};

use super::matcher::{Matcher, Tensor, last_word};
use super::rule::Evidence;
use crate::names::propose::similarity;

/// What a tensor must have in common with a golden one to stand for it: rows, columns, and whether its elements are
/// floating-point numbers.
type Kind = (usize, usize, bool);

impl Matcher<'_> {
    /// What is left: of the right size, between the counterparts of the golden entries before and after, and of the
    /// same last word if there are several.
    pub(super) fn by_place(&mut self) {
        let kind = |tensor: &Tensor<'_>| -> Kind {
            (tensor.rows.rows, tensor.rows.columns, tensor.entry.dtype.is_float())
        };
        let (mut of_kind, mut of_word): (HashMap<Kind, BTreeSet<usize>>, HashMap<_, BTreeSet<usize>>) =
            Default::default();
        for (index, tensor) in self.candidate.iter().enumerate().filter(|(index, _)| !self.used[*index]) {
            of_kind.entry(kind(tensor)).or_default().insert(index);
            of_word.entry((kind(tensor), last_word(&tensor.entry.name))).or_default().insert(index);
        }
        let mut after = vec![self.candidate.len(); self.golden.len()];
        for golden in (1..self.golden.len()).rev() {
            after[golden - 1] = self.places[golden].unwrap_or(after[golden]);
        }
        let mut from = 0;
        for (golden, &after) in after.iter().enumerate() {
            if !self.found[golden] {
                let own = &self.golden[golden];
                let only = |of: Option<&BTreeSet<usize>>| {
                    let to = after.max(from);
                    let mut fitting = of.into_iter().flat_map(|of| of.range(from..to).copied());
                    [fitting.next(), fitting.next()]
                };
                let word = (kind(own), last_word(&own.entry.name));
                let chosen = match only(of_kind.get(&kind(own))) {
                    [Some(one), None] => Some(one),
                    _ => match only(of_word.get(&word)) {
                        [Some(one), None] => Some(one),
                        _ => None,
                    },
                };
                if let Some(chosen) = chosen {
                    let word = (kind(own), last_word(&self.candidate[chosen].entry.name));
                    of_kind.entry(word.0).or_default().remove(&chosen);
                    of_word.entry(word).or_default().remove(&chosen);
                    self.note_place(golden, chosen);
                }
            }
            from = self.places[golden].map_or(from, |place| place + 1);
        }
    }

    fn note_place(&mut self, golden: usize, candidate: usize) {
        let (own, other) = (&self.golden[golden], &self.candidate[candidate]);
        let elements = own.rows.elements();
        let difference =
            similarity::distance(elements, |place| own.rows.at(place), |place| other.rows.at(place));
        let reshape = own.entry.shape != other.entry.shape;
        let body = if reshape { vec!["steps = [{ reshape = \"golden\" }]".to_owned()] } else { Vec::new() };
        let body = self.with_dtype(body, own.entry, other.entry);
        self.note(&[candidate], &[golden], body, Evidence::Place(difference));
    }
}
