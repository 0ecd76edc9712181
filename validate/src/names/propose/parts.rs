//! Counterparts that are parts of tensors, or several of them together.

use std::collections::HashMap;

use super::index::Index;
use super::matcher::{Matcher, module};
use super::rule::Evidence;
use super::similarity::{ALIKE, Heads, LastRows, Sample};

/// How many parts a tensor may have.
const MOST_PARTS: usize = 64;

impl Matcher<'_> {
    /// More or fewer tokens: the last ones of those that one side has.
    pub(super) fn tokens(&mut self) {
        let by_columns = self.index(|tensor| tensor.entry.dtype.is_float().then_some(tensor.rows.columns));
        for golden in self.open() {
            let own = &self.golden[golden];
            let blocks = if own.entry.shape.len() > 2 { own.entry.shape[0].max(1) } else { 1 };
            if own.rows.columns <= 1 || !own.rows.rows.is_multiple_of(blocks) || !own.entry.dtype.is_float() {
                continue;
            }
            let mut best: Option<(usize, bool, f64)> = None;
            // The golden tensor's last rows, of each number of them that a candidate has.
            let mut parts: HashMap<usize, Sample> = HashMap::new();
            for &index in by_columns.near(&own.rows.columns, self.about(golden)) {
                let candidate = &self.candidate[index];
                let other = &candidate.rows;
                if !other.rows.is_multiple_of(blocks)
                    || own.rows.rows == other.rows
                    || own.rows.rows * other.rows == 0
                {
                    continue;
                }
                let (more, difference) = if other.rows > own.rows.rows {
                    let last = LastRows::of(other, blocks, own.rows.rows);
                    (true, self.samples[golden].distance(own.rows.elements(), |place| last.at(place)))
                } else {
                    let last = LastRows::of(&own.rows, blocks, other.rows);
                    let part = parts
                        .entry(other.rows)
                        .or_insert_with(|| Sample::of(other.elements(), |place| last.at(place)));
                    (false, part.distance(other.elements(), |place| other.at(place)))
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
    pub(super) fn joined(&mut self) {
        let by_rows = self.index(|tensor| Some(tensor.rows.rows));
        let by_tokens = self.index(|tensor| Some(Heads::of(tensor.rows.tensor)?.rows()));
        for golden in self.open() {
            let own = &self.golden[golden].rows;
            let (mut parts, mut at, mut worst): (Vec<(usize, bool)>, _, _) = (Vec::new(), 0, 0.0_f64);
            while at < own.columns && parts.len() < MOST_PARTS {
                let fits = |columns: usize| columns < own.columns && at + columns <= own.columns;
                // The golden columns from here on, for each number of them that a candidate has.
                let mut samples: HashMap<usize, Sample> = HashMap::new();
                let mut distance = |columns: usize, other: &dyn Fn(usize) -> f64| {
                    let sample = samples.entry(columns).or_insert_with(|| {
                        Sample::of(own.rows * columns, |place| own.at_columns(at, columns, place))
                    });
                    sample.distance(own.rows * columns, other)
                };
                let mut nearest: Option<(usize, bool, usize, f64)> = None;
                let mut add = |index, heads, columns, difference: f64| {
                    let nearer = |&(other, _, _, so_far): &(usize, bool, usize, f64)| {
                        difference < so_far || difference == so_far && index < other
                    };
                    if nearest.as_ref().is_none_or(nearer) {
                        nearest = Some((index, heads, columns, difference));
                    }
                };
                for &index in by_rows.near(&own.rows, self.about(golden)) {
                    let other = &self.candidate[index].rows;
                    if fits(other.columns) {
                        add(index, false, other.columns, distance(other.columns, &|place| other.at(place)));
                    }
                }
                for &index in by_tokens.near(&own.rows, self.about(golden)) {
                    let heads = Heads::of(self.candidate[index].rows.tensor);
                    if let Some(heads) = heads.filter(|heads| fits(heads.columns())) {
                        let width = heads.columns();
                        let at = |place: usize| heads.at(place / width, place % width);
                        add(index, true, width, distance(width, &at));
                    }
                }
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
    pub(super) fn split(&mut self) {
        let by_rows = Index::of(self.golden.iter().map(|tensor| Some(tensor.rows.rows)));
        for candidate in 0..self.candidate.len() {
            if self.used[candidate] {
                continue;
            }
            let place = candidate * self.golden.len() / self.candidate.len();
            let whole = &self.candidate[candidate].rows;
            let (mut pieces, mut at, mut worst) = (Vec::new(), 0, 0.0_f64);
            while at < whole.columns && pieces.len() < MOST_PARTS {
                let fits = |index: &&usize| {
                    let piece = &self.golden[**index].rows;
                    let new = piece.columns < whole.columns && at + piece.columns <= whole.columns;
                    new && !self.found[**index] && !pieces.contains(*index)
                };
                let distance = |&index: &usize| {
                    let columns = self.golden[index].rows.columns;
                    let other = |place: usize| whole.at_columns(at, columns, place);
                    (index, self.samples[index].distance(whole.rows * columns, other))
                };
                let open = by_rows.near(&whole.rows, place).iter();
                let nearest = open.filter(fits).map(distance).min_by(|a, b| a.1.total_cmp(&b.1));
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
    pub(super) fn added(&mut self) {
        let outputs = |pair: usize| {
            let [a, b] = [&self.candidate[pair.checked_sub(1)?], &self.candidate[pair]];
            let alike = a.entry.shape == b.entry.shape && a.entry.dtype == b.entry.dtype;
            (alike && module(&a.entry.name) == module(&b.entry.name)).then_some(a.rows.elements())
        };
        let by_elements = Index::of((0..self.candidate.len()).map(outputs));
        for golden in self.open() {
            let elements = self.golden[golden].rows.elements();
            let mut best: Option<([usize; 2], f64)> = None;
            for &pair in by_elements.near(&elements, self.about(golden)) {
                let parts = [pair - 1, pair];
                let [a, b] = parts.map(|part| &self.candidate[part].rows);
                let difference = self.samples[golden].distance(elements, |place| a.at(place) + b.at(place));
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
}
