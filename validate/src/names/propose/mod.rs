//! Proposes a map from the names, shapes and contents of two dumps.
//!
//! What has the same bytes belongs together; else what is alike as far as a sample of its elements tells, in the same
//! order, permuted, fused or split, with more or fewer tokens; what is left, by name, shape and order of execution.
//! Rules that differ in numbers only become one.

mod draft;
mod finish;
mod likeness;

use std::collections::{BTreeSet, HashMap};

use golden::{Dump, Entry};
use rayon::prelude::*;

use crate::Result;
use draft::{Draft, Evidence, generalised};
use finish::finish;
use likeness::{ALIKE, Heads, Rows};

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

/// A tensor of the candidate, the order of its dimensions if it is another, and how far it is off.
type Alike = (usize, Option<Vec<usize>>, f64);

struct Matcher<'a> {
    golden: Vec<Tensor<'a>>,
    candidate: Vec<Tensor<'a>>,
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
    let mut matcher = Matcher {
        golden: golden.tensors().map(of).collect(),
        candidate: candidate.tensors().map(of).collect(),
        found: vec![false; golden.entries().len()],
        used: vec![false; candidate.entries().len()],
        places: vec![None; golden.entries().len()],
        drafts: Vec::new(),
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

    /// Whole tensors: equal or alike, in the same order or with their dimensions permuted.
    fn whole(&mut self) {
        // For each golden entry the tensors that are alike, the nearest first.
        let alike: Vec<Vec<Alike>> = self.golden.par_iter().map(|golden| self.alike(golden)).collect();
        let claimed: BTreeSet<usize> = alike.iter().flatten().map(|(candidate, ..)| *candidate).collect();
        // Several modules may have the same output: their outputs go together in the order of execution.
        let mut of_candidates: HashMap<Vec<usize>, Vec<usize>> = HashMap::new();
        for (index, alike) in alike.iter().enumerate() {
            let nearest = alike.first().map_or(f64::INFINITY, |(.., difference)| *difference);
            let same = alike.iter().filter(|(.., difference)| *difference <= nearest * 1.000_001);
            let candidates: Vec<usize> = same.map(|(candidate, ..)| *candidate).collect();
            if !candidates.is_empty() {
                of_candidates.entry(candidates).or_default().push(index);
            }
        }
        let mut groups: Vec<(Vec<usize>, Vec<usize>)> = of_candidates.into_iter().collect();
        groups.sort_by_key(|(_, goldens)| goldens[0]);
        for (candidates, goldens) in groups {
            for (golden, candidate) in self.assigned(&goldens, &candidates) {
                // A tensor of the golden name that is like no golden one as a whole may be so in part.
                let partly = |own: usize| own != candidate && !claimed.contains(&own);
                if self.own(golden).is_some_and(partly) {
                    continue;
                }
                let Some((_, order, difference)) =
                    alike[golden].iter().find(|(other, ..)| *other == candidate)
                else {
                    continue;
                };
                let (own, other) = (self.golden[golden].entry, self.candidate[candidate].entry);
                let evidence =
                    if own.sha256 == other.sha256 { Evidence::Hash } else { Evidence::Contents(*difference) };
                let mut steps = Vec::new();
                if let Some(order) = order {
                    steps.push(format!("{{ permute = {order:?} }}"));
                }
                if own.shape != other.shape {
                    steps.push("{ reshape = \"golden\" }".to_owned());
                }
                let body = if steps.is_empty() {
                    Vec::new()
                } else {
                    vec![format!("steps = [{}]", steps.join(", "))]
                };
                self.note(&[candidate], &[golden], self.with_dtype(body, own, other), evidence);
            }
        }
    }

    /// The tensors of the candidate that are like a golden one as a whole.
    fn alike(&self, golden: &Tensor<'_>) -> Vec<Alike> {
        let elements = golden.rows.rows * golden.rows.columns;
        let mut alike = Vec::new();
        for (index, candidate) in self.candidate.iter().enumerate() {
            let other = &candidate.rows;
            if other.rows * other.columns != elements
                || candidate.entry.dtype.is_float() != golden.entry.dtype.is_float()
            {
                continue;
            }
            if candidate.entry.sha256 == golden.entry.sha256 {
                alike.push((index, None, 0.0));
                continue;
            }
            let difference =
                likeness::distance(elements, |place| golden.rows.at(place), |place| other.at(place));
            if difference <= ALIKE {
                alike.push((index, None, difference));
            }
        }
        if alike.is_empty() {
            for (index, candidate) in self.candidate.iter().enumerate() {
                if candidate.rows.rows * candidate.rows.columns != elements {
                    continue;
                }
                let orders = permutations(&candidate.entry.shape);
                let of = |order: Vec<usize>| {
                    let difference = golden.rows.permuted(&candidate.rows, &order);
                    (index, Some(order), difference)
                };
                let nearest = orders.into_iter().map(of).min_by(|a, b| a.2.total_cmp(&b.2));
                alike.extend(nearest.filter(|(.., difference)| *difference <= ALIKE));
            }
        }
        alike.sort_by(|a, b| a.2.total_cmp(&b.2).then(a.0.cmp(&b.0)));
        alike
    }

    /// Which of some tensors of the same content stands for which of some golden ones.
    fn assigned(&self, goldens: &[usize], candidates: &[usize]) -> Vec<(usize, usize)> {
        let mut assigned: Vec<(usize, usize)> = Vec::new();
        let mut open: Vec<usize> = candidates.to_vec();
        let mut rest = Vec::new();
        for &golden in goldens {
            let name = &self.golden[golden].entry.name;
            let by_name = open.iter().position(|&candidate| &self.candidate[candidate].entry.name == name);
            let by_name = by_name.or_else(|| {
                open.iter().position(|&candidate| {
                    last_word(&self.candidate[candidate].entry.name) == last_word(name)
                })
            });
            let by_name = by_name.or_else(|| {
                // `attn` and `attention`.
                let shared = |candidate: &usize| {
                    let words = [name, &self.candidate[*candidate].entry.name]
                        .map(|name| last_word(name).unwrap_or(""));
                    words[0].bytes().zip(words[1].bytes()).take_while(|(a, b)| a == b).count()
                };
                let most = open.iter().enumerate().map(|(at, candidate)| (shared(candidate), at)).max();
                most.filter(|(shared, _)| *shared >= 3).map(|(_, at)| at)
            });
            match by_name {
                Some(at) => assigned.push((golden, open.remove(at))),
                None => rest.push(golden),
            }
        }
        // The first of what is left with the first, the last with the last; of too few, one stands for several.
        let open = if open.is_empty() { candidates.to_vec() } else { open };
        let last = rest.len().saturating_sub(1);
        for (at, &golden) in rest.iter().enumerate() {
            let place = if at == last && last > 0 { open.len() - 1 } else { at.min(open.len() - 1) };
            assigned.push((golden, open[place]));
        }
        assigned
    }

    /// More or fewer tokens: the last ones of those that one side has.
    fn tokens(&mut self) {
        for golden in self.open() {
            let own = &self.golden[golden];
            let blocks = if own.entry.shape.len() > 2 { own.entry.shape[0].max(1) } else { 1 };
            let mut best: Option<(usize, bool, f64)> = None;
            for (index, candidate) in self.candidate.iter().enumerate() {
                let other = &candidate.rows;
                let fits = own.rows.columns == other.columns
                    && own.rows.columns > 1
                    && own.rows.rows.is_multiple_of(blocks)
                    && other.rows.is_multiple_of(blocks)
                    && own.entry.dtype.is_float()
                    && candidate.entry.dtype.is_float();
                if !fits || own.rows.rows == other.rows || own.rows.rows * other.rows == 0 {
                    continue;
                }
                let (more, difference) = if other.rows > own.rows.rows {
                    (true, other.last_rows(blocks, &own.rows))
                } else {
                    (false, own.rows.last_rows(blocks, other))
                };
                let named = candidate.entry.name == own.entry.name;
                let nearer =
                    best.is_none_or(|(.., so_far)| difference < so_far || named && difference <= so_far);
                if difference <= ALIKE && nearer {
                    best = Some((index, more, difference));
                }
            }
            let Some((candidate, more, difference)) = best else { continue };
            let (own, other) = (own.entry, self.candidate[candidate].entry);
            let mut steps = Vec::new();
            if own.shape.len() != other.shape.len() {
                let mut shape = vec!["\"golden\""; own.shape.len()];
                if own.shape.len() >= 2 {
                    shape[own.shape.len() - 2] = "-1";
                }
                steps.push(format!("{{ reshape = [{}] }}", shape.join(", ")));
            }
            if more {
                steps.push("{ last_tokens = \"golden\" }".to_owned());
            }
            let mut body = Vec::new();
            if !steps.is_empty() {
                body.push(format!("steps = [{}]", steps.join(", ")));
            }
            if !more {
                body.push("golden_steps = [{ last_tokens = \"candidate\" }]".to_owned());
            }
            let body = self.with_dtype(body, own, other);
            self.note(&[candidate], &[golden], body, Evidence::Contents(difference));
        }
    }

    /// Golden tensors whose columns are those of several of the candidate's, perhaps with heads before tokens.
    fn joined(&mut self) {
        for golden in self.open() {
            let own = &self.golden[golden].rows;
            let (mut parts, mut at, mut worst): (Vec<(usize, bool)>, _, _) = (Vec::new(), 0, 0.0_f64);
            while at < own.columns {
                let fits = |rows: usize, columns: usize| {
                    rows == own.rows && columns < own.columns && at + columns <= own.columns
                };
                let nearest = self.candidate.iter().enumerate().flat_map(|(index, candidate)| {
                    let (plain, heads) = (&candidate.rows, Heads::of(candidate.rows.tensor));
                    let plain = fits(plain.rows, plain.columns).then(|| {
                        (index, false, plain.columns, own.columns_from(at, plain, 0, plain.columns))
                    });
                    let heads = heads.filter(|heads| fits(heads.rows(), heads.columns()));
                    let heads =
                        heads.map(|heads| (index, true, heads.columns(), own.columns_of_heads(at, &heads)));
                    plain.into_iter().chain(heads)
                });
                let nearest = nearest.min_by(|a, b| a.3.total_cmp(&b.3));
                let Some((index, heads, columns, difference)) = nearest.filter(|nearest| nearest.3 <= ALIKE)
                else {
                    break;
                };
                worst = worst.max(difference);
                at += columns;
                parts.push((index, heads));
            }
            let alike = parts.iter().all(|(_, heads)| *heads == parts[0].1);
            let heads = parts.first().is_some_and(|(_, heads)| *heads);
            let parts: Vec<usize> = parts.into_iter().map(|(index, _)| index).collect();
            if at < own.columns || parts.len() < 2 || !alike || !(heads || self.concatenates(&parts)) {
                continue;
            }
            let (own, other) = (self.golden[golden].entry, self.candidate[parts[0]].entry);
            let mut body = vec!["concat = -1".to_owned()];
            let mut rank = other.shape.len();
            if heads {
                // Tokens before heads, and these as one dimension.
                let order = if rank == 4 { "[0, 2, 1, 3]" } else { "[1, 0, 2]" };
                body.insert(0, format!("each = [{{ permute = {order} }}, {{ flatten = [-2, -1] }}]"));
                rank -= 1;
            }
            if own.shape.len() != rank {
                body.push("steps = [{ reshape = \"golden\" }]".to_owned());
            }
            let body = self.with_dtype(body, own, other);
            self.note(&parts, &[golden], body, Evidence::Contents(worst));
        }
    }

    /// Whether parts are alike but for their last dimension.
    fn concatenates(&self, parts: &[usize]) -> bool {
        let front = |&part: &usize| {
            let entry = self.candidate[part].entry;
            (entry.dtype, entry.shape.split_last().map(|(_, front)| front.to_vec()))
        };
        parts.iter().all(|part| front(part) == front(&parts[0]))
    }

    /// Tensors of the candidate whose columns are those of several golden ones.
    fn split(&mut self) {
        for candidate in 0..self.candidate.len() {
            if self.used[candidate] {
                continue;
            }
            let whole = &self.candidate[candidate].rows;
            let open = self.open();
            let (mut pieces, mut at, mut worst) = (Vec::new(), 0, 0.0_f64);
            while at < whole.columns {
                let fits = |index: &&usize| {
                    let piece = &self.golden[**index].rows;
                    let new = piece.columns < whole.columns && at + piece.columns <= whole.columns;
                    piece.rows == whole.rows && new && !pieces.contains(*index)
                };
                let distance = |&index: &usize| {
                    let piece = &self.golden[index].rows;
                    (index, piece.columns_from(0, whole, at, piece.columns))
                };
                let nearest = open.iter().filter(fits).map(distance).min_by(|a, b| a.1.total_cmp(&b.1));
                let Some((index, difference)) = nearest.filter(|(_, difference)| *difference <= ALIKE) else {
                    break;
                };
                worst = worst.max(difference);
                at += self.golden[index].rows.columns;
                pieces.push(index);
            }
            if at < whole.columns || pieces.len() < 2 {
                continue;
            }
            let (own, other) = (self.golden[pieces[0]].entry, self.candidate[candidate].entry);
            let mut body = vec!["split = -1".to_owned()];
            if own.shape.len() != other.shape.len() {
                body.push("pieces = [{ reshape = \"golden\" }]".to_owned());
            }
            let body = self.with_dtype(body, own, other);
            self.note(&[candidate], &pieces, body, Evidence::Contents(worst));
        }
    }

    /// Golden tensors that are the sum of two of one module's outputs.
    fn added(&mut self) {
        for golden in self.open() {
            let own = &self.golden[golden].rows;
            let elements = own.rows * own.columns;
            let mut best: Option<([usize; 2], f64)> = None;
            for pair in 1..self.candidate.len() {
                let parts = [pair - 1, pair];
                let [a, b] = parts.map(|part| &self.candidate[part]);
                let outputs =
                    module(&a.entry.name) == module(&b.entry.name) && a.entry.shape == b.entry.shape;
                if !outputs || a.rows.rows * a.rows.columns != elements || a.entry.dtype != b.entry.dtype {
                    continue;
                }
                let sum = |place: usize| a.rows.at(place) + b.rows.at(place);
                let difference = likeness::distance(elements, |place| own.at(place), sum);
                if difference <= ALIKE && best.is_none_or(|(_, so_far)| difference < so_far) {
                    best = Some((parts, difference));
                }
            }
            let Some((parts, difference)) = best else { continue };
            let (own, other) = (self.golden[golden].entry, self.candidate[parts[0]].entry);
            let mut body = vec!["add = true".to_owned()];
            if own.shape != other.shape {
                body.push("steps = [{ reshape = \"golden\" }]".to_owned());
            }
            let body = self.with_dtype(body, own, other);
            self.note(&parts, &[golden], body, Evidence::Contents(difference));
        }
    }

    /// What is left: of the right size, between the counterparts of the golden entries before and after, and of the
    /// same last word if there are several.
    fn by_place(&mut self) {
        for golden in self.open() {
            let own = &self.golden[golden];
            let before = self.places[..golden].iter().rev().find_map(|place| *place);
            let after = self.places[golden + 1..].iter().find_map(|place| *place);
            let range = before.map_or(0, |place| place + 1)..after.unwrap_or(self.candidate.len());
            let fits = |index: &usize| {
                let other = &self.candidate[*index];
                let alike = other.rows.columns == own.rows.columns && other.rows.rows == own.rows.rows;
                alike && !self.used[*index] && other.entry.dtype.is_float() == own.entry.dtype.is_float()
            };
            let fitting: Vec<usize> = range.filter(fits).collect();
            let same_word =
                |index: &&usize| last_word(&self.candidate[**index].entry.name) == last_word(&own.entry.name);
            let chosen = match fitting[..] {
                [one] => one,
                _ => match fitting.iter().filter(same_word).collect::<Vec<_>>()[..] {
                    [one] => *one,
                    _ => continue,
                },
            };
            let elements = own.rows.rows * own.rows.columns;
            let other = &self.candidate[chosen];
            let difference =
                likeness::distance(elements, |place| own.rows.at(place), |place| other.rows.at(place));
            let reshape = own.entry.shape != other.entry.shape;
            let body =
                if reshape { vec!["steps = [{ reshape = \"golden\" }]".to_owned()] } else { Vec::new() };
            let body = self.with_dtype(body, own.entry, other.entry);
            self.note(&[chosen], &[golden], body, Evidence::Place(difference));
        }
    }

    /// The candidate's tensor that has the name of a golden entry.
    fn own(&self, golden: usize) -> Option<usize> {
        let name = &self.golden[golden].entry.name;
        self.candidate.iter().position(|candidate| &candidate.entry.name == name)
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

/// The last segment of a name that is no number.
fn last_word(name: &str) -> Option<&str> {
    name.rsplit('.').find(|segment| !segment.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A name without its last segment, which is an output's where a module has several.
fn module(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(module, _)| module)
}
