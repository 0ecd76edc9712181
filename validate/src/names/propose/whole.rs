//! Counterparts that are whole tensors.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::index::{Index, MOST};
use super::matcher::{Matcher, last_word};
use super::rule::Evidence;
use super::similarity::ALIKE;

/// How many tensors may be equally near, of those that are not equal by their hashes.
const MOST_TIES: usize = 256;

/// How many pairs of names of tensors with the same content are compared by the beginnings of their words.
const MOST_PAIRS: usize = 1 << 20;

/// A tensor of the candidate, the order of its dimensions if it is another, and how far it is off.
type Alike = (usize, Option<Vec<usize>>, f64);

/// What tensors have in common that can be the same: the number of elements, and whether these are floating-point numbers.
type Size = (usize, bool);

impl Matcher<'_> {
    /// Whole tensors: equal or alike, in the same order or with their dimensions permuted.
    pub(super) fn whole(&mut self) {
        let claimed: Vec<AtomicBool> = self.candidate.iter().map(|_| AtomicBool::new(false)).collect();
        // Golden tensors of the same content have the same counterparts: they are looked for once.
        let mut of_content: HashMap<&str, usize> = HashMap::new();
        let mut firsts = Vec::new();
        let content: Vec<usize> = (0..self.golden.len())
            .map(|golden| {
                *of_content.entry(&self.golden[golden].entry.sha256).or_insert_with(|| {
                    firsts.push(golden);
                    firsts.len() - 1
                })
            })
            .collect();
        let by_size = self.index(|tensor| Some((tensor.rows.elements(), tensor.entry.dtype.is_float())));
        let by_elements = self.index(|tensor| Some(tensor.rows.elements()));
        let by_content = Index::of(self.candidate.iter().map(|tensor| Some(tensor.entry.sha256.as_str())));
        let of = |&golden: &usize| {
            let equal = by_content.all(&self.golden[golden].entry.sha256.as_str());
            self.alike(golden, equal, &by_size, &by_elements, &claimed)
        };
        let alike: Vec<Vec<Alike>> = firsts.par_iter().map(of).collect();
        // Several modules may have the same output: their outputs go together in the order of execution.
        let mut of_candidates: HashMap<Vec<usize>, usize> = HashMap::new();
        let group_of_content: Vec<usize> = alike
            .iter()
            .map(|alike| {
                let next = of_candidates.len();
                *of_candidates.entry(alike.iter().map(|(candidate, ..)| *candidate).collect()).or_insert(next)
            })
            .collect();
        let mut groups: Vec<(Vec<usize>, Vec<usize>)> = vec![Default::default(); of_candidates.len()];
        of_candidates.into_iter().for_each(|(candidates, group)| groups[group].0 = candidates);
        for (golden, &content) in content.iter().enumerate() {
            groups[group_of_content[content]].1.push(golden);
        }
        groups.retain(|(candidates, _)| !candidates.is_empty());
        groups.sort_by_key(|(_, goldens)| goldens[0]);
        for (candidates, goldens) in groups {
            for (golden, candidate) in self.assigned(&goldens, &candidates) {
                // A tensor of the golden name that is like no golden one as a whole may be so in part.
                let partly = |own: usize| own != candidate && !claimed[own].load(Ordering::Relaxed);
                if self.own(golden).is_some_and(partly) {
                    continue;
                }
                let found = alike[content[golden]].iter().find(|(other, ..)| *other == candidate);
                if let Some((_, order, difference)) = found {
                    self.note_whole(golden, candidate, order.as_deref(), *difference);
                }
            }
        }
    }

    fn note_whole(&mut self, golden: usize, candidate: usize, order: Option<&[usize]>, difference: f64) {
        let (own, other) = (self.golden[golden].entry, self.candidate[candidate].entry);
        let evidence =
            if own.sha256 == other.sha256 { Evidence::Hash } else { Evidence::Contents(difference) };
        let mut steps = Vec::new();
        if let Some(order) = order {
            steps.push(format!("{{ permute = {order:?} }}"));
        }
        if own.shape != other.shape {
            steps.push("{ reshape = \"golden\" }".to_owned());
        }
        let body =
            if steps.is_empty() { Vec::new() } else { vec![format!("steps = [{}]", steps.join(", "))] };
        self.note(&[candidate], &[golden], self.with_dtype(body, own, other), evidence);
    }

    /// The tensors of the candidate that are most like a golden one as a whole, in their order; all that are alike are
    /// claimed.
    fn alike(
        &self,
        golden: usize,
        equal: &[usize],
        by_size: &Index<Size>,
        by_elements: &Index<usize>,
        claimed: &[AtomicBool],
    ) -> Vec<Alike> {
        let (tensor, about) = (&self.golden[golden], self.about(golden));
        let (elements, is_float) = (tensor.rows.elements(), tensor.entry.dtype.is_float());
        let mut alike = Nearest { ties: Vec::new(), least: f64::INFINITY, claimed };
        let same = |&index: &usize| {
            let other = &self.candidate[index];
            other.rows.elements() == elements && other.entry.dtype.is_float() == is_float
        };
        equal.iter().copied().filter(same).for_each(|index| alike.add_equal(index));
        for &index in by_size.near(&(elements, is_float), about) {
            let other = &self.candidate[index];
            if other.entry.sha256 != tensor.entry.sha256 {
                let difference = self.samples[golden].distance(elements, |place| other.rows.at(place));
                alike.add(index, None, difference);
            }
        }
        if alike.ties.is_empty() {
            let near = by_elements.near(&elements, about);
            // Each order of the dimensions is one more comparison.
            let mut left = MOST;
            for &index in near {
                let other = &self.candidate[index];
                let orders = permutations(&other.entry.shape);
                left = left.saturating_sub(orders.len());
                let of = |order: Vec<usize>| {
                    let difference = self.samples[golden].permuted(elements, &other.rows, &order);
                    (order, difference)
                };
                if let Some((order, difference)) =
                    orders.into_iter().map(of).min_by(|a, b| a.1.total_cmp(&b.1))
                {
                    alike.add(index, Some(order), difference);
                }
                if left == 0 {
                    break;
                }
            }
        }
        alike.ties.sort_by(|a, b| a.2.total_cmp(&b.2).then(a.0.cmp(&b.0)));
        alike.ties
    }

    /// Which of some tensors of the same content stands for which of some golden ones.
    fn assigned(&self, goldens: &[usize], candidates: &[usize]) -> Vec<(usize, usize)> {
        let name = |place: usize| self.candidate[candidates[place]].entry.name.as_str();
        let mut open: BTreeSet<usize> = (0..candidates.len()).collect();
        let by_name: HashMap<&str, usize> = open.iter().map(|&place| (name(place), place)).collect();
        let mut by_word: HashMap<Option<&str>, BTreeSet<usize>> = HashMap::new();
        open.iter().for_each(|&place| {
            by_word.entry(last_word(name(place))).or_default().insert(place);
        });
        let few = goldens.len().saturating_mul(candidates.len()) <= MOST_PAIRS;
        let (mut assigned, mut rest) = (Vec::new(), Vec::new());
        for &golden in goldens {
            let own = self.golden[golden].entry.name.as_str();
            let named = by_name.get(own).copied().filter(|place| open.contains(place));
            let named = named.or_else(|| by_word.get(&last_word(own))?.first().copied());
            let named = named.or_else(|| {
                // `attn` and `attention`.
                let shared = |place: usize| {
                    let words = [own, name(place)].map(|name| last_word(name).unwrap_or(""));
                    words[0].bytes().zip(words[1].bytes()).take_while(|(a, b)| a == b).count()
                };
                let places = open.iter().filter(|_| few);
                let most = places.map(|&place| (shared(place), place)).max();
                most.filter(|(shared, _)| *shared >= 3).map(|(_, place)| place)
            });
            match named {
                Some(place) => {
                    open.remove(&place);
                    by_word.entry(last_word(name(place))).or_default().remove(&place);
                    assigned.push((golden, candidates[place]));
                }
                None => rest.push(golden),
            }
        }
        // The first of what is left with the first, the last with the last; of too few, one stands for several.
        let open: Vec<usize> = open.into_iter().map(|place| candidates[place]).collect();
        let open = if open.is_empty() { candidates.to_vec() } else { open };
        let last = rest.len().saturating_sub(1);
        for (at, &golden) in rest.iter().enumerate() {
            let place = if at == last && last > 0 { open.len() - 1 } else { at.min(open.len() - 1) };
            assigned.push((golden, open[place]));
        }
        assigned
    }
}

/// The tensors that are nearest so far.
struct Nearest<'a> {
    ties: Vec<Alike>,
    /// How far off the nearest is.
    least: f64,
    claimed: &'a [AtomicBool],
}

impl Nearest<'_> {
    /// A tensor of the same hash.
    fn add_equal(&mut self, index: usize) {
        self.claimed[index].store(true, Ordering::Relaxed);
        self.least = 0.0;
        self.ties.push((index, None, 0.0));
    }

    /// A tensor that is so far off, if it is alike.
    fn add(&mut self, index: usize, order: Option<Vec<usize>>, difference: f64) {
        if difference > ALIKE {
            return;
        }
        self.claimed[index].store(true, Ordering::Relaxed);
        if difference < self.least {
            self.least = difference;
            self.ties.retain(|(.., other)| *other <= difference * 1.000_001);
        }
        if difference <= self.least * 1.000_001 && self.ties.len() < MOST_TIES {
            self.ties.push((index, order, difference));
        }
    }
}

/// The orders of the dimensions but the one in which they are; none of many dimensions.
fn permutations(shape: &[usize]) -> Vec<Vec<usize>> {
    const MOST: usize = 5;
    if !(2..=MOST).contains(&shape.len()) {
        return Vec::new();
    }
    let mut orders: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..shape.len() {
        let longer = |order: &Vec<usize>| {
            let left = (0..shape.len()).filter(|dim| !order.contains(dim)).collect::<Vec<_>>();
            left.into_iter().map(|dim| [order.as_slice(), &[dim]].concat()).collect::<Vec<_>>()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    // Where dimensions of size 1 stand changes nothing: of such orders the first.
    let mut seen = BTreeSet::new();
    seen.insert((0..shape.len()).filter(|&dim| shape[dim] != 1).collect::<Vec<_>>());
    orders.retain(|order| seen.insert(order.iter().copied().filter(|&dim| shape[dim] != 1).collect()));
    orders
}
