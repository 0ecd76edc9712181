//! A module as a site of its output: what it does, and what it computes from.

/// What a module does between its inputs and its output, as far as rounding is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Given from outside.
    Input,
    /// One operation whose error is at most proportional to its inputs': a projection, a lookup, a concatenation.
    Single,
    /// One elementwise non-linear operation: where its curve is steep for its value, a relative error grows.
    Activation,
    /// Some roundings in a row: a normalisation, or a sum of several branches.
    Several,
    /// A projection behind an attention core that is no site of its own: scores, softmax and weighted sum.
    Attention,
    /// Whatever lies between, with operations that nobody recorded.
    Unknown,
}

/// How the rows of an input belong to those of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowAlignment {
    /// One to one.
    Same,
    /// From the end of each sequence: prefix tokens were added or dropped, or only the last token is left.
    FromEnd,
    /// Any row of the same outermost index, if both have as many; else any row.
    Mixed,
}

/// An earlier entry that a site computes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) index: usize,
    pub(super) rows: RowAlignment,
}

/// A site and its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) step: Step,
    pub(super) sources: Vec<Source>,
}
