//! What a module does between its inputs and its output.

use serde::Deserialize;

/// What a module does between its inputs and its output, as far as rounding is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Given from outside. Only a dump can say this of a site.
    #[serde(skip_deserializing)]
    Input,
    /// One operation whose error is at most proportional to its inputs': a projection, a lookup, a concatenation.
    Single,
    /// One elementwise non-linear operation: where its curve is steep for its value, a relative error grows.
    Activation,
    /// Some roundings in a row: a normalisation, or a sum of several branches.
    Several,
    /// A few operations in a row, such as an activation and a projection, none of which between is a site. Only a dump can say
    /// this of a site.
    #[serde(skip_deserializing)]
    Chain,
    /// A projection behind an attention core that is no site of its own: scores, softmax and weighted sum.
    Attention,
    /// Whatever lies between, with operations that nobody recorded.
    Unknown,
}
