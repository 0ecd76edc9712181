//! Parts of a tensor that only one side has: what is left is found among the other side's.

use golden::TensorView;
use measure::metric::value_at;

use super::explanation::Value;
use super::probe::Probe;

/// The most numbers of a part that are compared.
const NUMBERS: usize = 4096;

/// How far a part may be from its like, relative to its length.
const NEAR: f64 = 0.02;

/// A tensor as parts along one of its dimensions.
pub(super) struct Parts<'a> {
    pub(super) view: &'a TensorView<'a>,
    pub(super) count: usize,
    outer: usize,
    inner: usize,
}

impl Parts<'_> {
    pub(super) fn value(&self, part: usize, at: usize) -> f64 {
        let (outer, inner) = (at / self.inner, at % self.inner);
        value_at(self.view, (outer * self.count + part) * self.inner + inner)
    }

    pub(super) fn sample(&self) -> impl Iterator<Item = usize> + use<> {
        let numbers = self.outer * self.inner;
        (0..numbers).step_by(numbers.div_ceil(NUMBERS).max(1))
    }

    pub(super) fn squares(&self, part: usize) -> f64 {
        self.sample().map(|at| self.value(part, at).powi(2)).sum()
    }

    pub(super) fn difference(&self, part: usize, other: &Parts<'_>, other_part: usize) -> f64 {
        self.sample().map(|at| (self.value(part, at) - other.value(other_part, at)).powi(2)).sum()
    }
}

/// What one side has more.
pub(super) struct Lacking<'a> {
    /// The side that has more.
    pub(super) more: Parts<'a>,
    /// Along which dimension.
    pub(super) dimension: usize,
    /// What only that side has.
    pub(super) alone: Vec<usize>,
    /// Whether the candidate lacks it.
    pub(super) in_golden: bool,
    /// The error with it, and without.
    pub(super) before: f64,
    pub(super) after: f64,
}

impl Lacking<'_> {
    /// `lacks tiles 1, 2 of 3` as values of a pattern, for parts of a name in the singular and the plural.
    pub(super) fn values(&self, names: [&'static str; 2]) -> Vec<Value> {
        let verb = if self.in_golden { "lacks" } else { "has, and the golden run has not," };
        let name = names[usize::from(self.alone.len() != 1)];
        vec![
            Value::Name(verb),
            Value::Name(name),
            Value::Span(self.alone.clone()),
            Value::Count(self.more.count),
        ]
    }
}

/// What one side has more, if all else is equal.
pub(super) fn lacking<'a>(probe: &'a Probe<'_>) -> Option<Lacking<'a>> {
    let [expected, found] = &probe.tensors;
    let (from, to) = (expected.shape(), found.shape());
    let differing: Vec<usize> =
        (0..from.len()).filter(|&at| from.len() == to.len() && from[at] != to[at]).collect();
    let &[dimension] = differing.as_slice() else { return None };
    // Channels are not told apart by their numbers.
    if dimension + 1 >= from.len() {
        return None;
    }
    let (outer, inner) = (from[..dimension].iter().product(), from[dimension + 1..].iter().product());
    let parts = |view: &'a TensorView<'a>, count| Parts { view, count, outer, inner };
    let (expected, found) = (parts(expected, from[dimension]), parts(found, to[dimension]));
    let lacking = found.count < expected.count;
    let (more, fewer) = if lacking { (&expected, &found) } else { (&found, &expected) };
    if outer * inner == 0 || fewer.count == 0 {
        return None;
    }
    // Each part of the shorter side is the next part of the longer one that is like it.
    let (mut next, mut left, mut total) = (0, 0.0, 0.0);
    let mut alone = Vec::new();
    for part in 0..fewer.count {
        let squares = fewer.squares(part);
        let room = more.count - (fewer.count - part - 1);
        let found = (next..room).find(|&other| {
            more.difference(other, fewer, part) <= NEAR * NEAR * squares.max(more.squares(other))
        })?;
        alone.extend(next..found);
        left += more.difference(found, fewer, part);
        total += squares;
        next = found + 1;
    }
    alone.extend(next..more.count);
    let lost: f64 = alone.iter().map(|&part| more.squares(part)).sum();
    let golden_squares = if lacking { total + lost } else { total };
    let relative = |squares: f64| (squares / golden_squares).sqrt();
    let (before, after) = (relative(lost), relative(left));
    let more = if lacking { expected } else { found };
    (after < before).then_some(Lacking { more, dimension, alone, in_golden: lacking, before, after })
}
