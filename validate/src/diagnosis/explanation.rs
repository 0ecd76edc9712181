//! What a diagnosis found.

use golden::Dtype;

/// Why a candidate is off: what was found in numbers, and how well that explains the error.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What is wrong, with `{}` where each of the values stands; the reports put both together.
    pub pattern: &'static str,
    /// The values, in their order.
    pub values: Vec<Value>,
    /// The error as it is, relative to the length of the golden tensor.
    pub before: f64,
    /// What is left of it if the mistake is undone.
    pub after: f64,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number, of which four digits tell.
    Number(f64),
    /// A number, of which three decimals tell.
    Decimal(f64),
    /// A number that is best told as a power of ten.
    Power(f64),
    /// A count, an index or a size.
    Count(usize),
    /// Indices.
    List(Vec<usize>),
    /// Indices in ascending order, which may be neighbours.
    Span(Vec<usize>),
    /// The name of one of several things that a diagnosis knows.
    Name(&'static str),
    /// A site.
    Site(String),
    /// A dtype.
    Dtype(Dtype),
}

/// The explanation that leaves least, the first of several.
pub(super) fn best(explanations: impl IntoIterator<Item = Explanation>) -> Option<Explanation> {
    explanations.into_iter().min_by(|a, b| a.after.total_cmp(&b.after))
}
