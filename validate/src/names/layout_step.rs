//! What brings a tensor from one engine's layout into another's, a step at a time.

use std::fmt;

use serde::Deserialize;

use super::strides::Strides;

/// One step: a change of shape, of the order of dimensions, or of the part that is looked at.
///
/// A negative dimension is counted from the last one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LayoutStep {
    /// The elements in another shape, in the same order.
    Reshape(Reshape),
    /// The dimensions in another order.
    Permute(Vec<i64>),
    /// Two dimensions exchanged.
    Transpose([i64; 2]),
    /// Without a dimension of size 1.
    Squeeze(i64),
    /// With a new dimension of size 1, which has this place afterwards.
    Unsqueeze(i64),
    /// Dimensions, from the first to the second, merged into one.
    Flatten([i64; 2]),
    /// A dimension cut into several.
    Unflatten(Unflatten),
    /// A part of a dimension.
    Slice(Slice),
    /// One place of a dimension, which is then gone.
    Index(Index),
    /// As many of the last tokens, which are the last dimension but one.
    LastTokens(Size),
    /// As many of the first tokens.
    FirstTokens(Size),
}

/// A shape.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Reshape {
    /// That of the other side.
    Other(OtherSide),
    /// These sizes.
    Sizes(Vec<Size>),
}

/// A size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Size {
    /// What the other side has in this dimension.
    Other(OtherSide),
    /// A number; −1 for what is left.
    Number(i64),
}

/// Which dump the other side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OtherSide {
    /// For steps of the candidate's tensor.
    Golden,
    /// For steps of the golden one.
    Candidate,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unflatten {
    dim: i64,
    sizes: Vec<Size>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slice {
    dim: i64,
    #[serde(default)]
    start: i64,
    end: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    dim: i64,
    at: i64,
}

/// Why a step cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The rule does not fit the tensor.
    Rule { expected: String, found: String },
    /// The two dumps do not fit each other: the tensors differ in size, which is a finding about the candidate.
    Sizes,
}

impl OtherSide {
    pub(super) fn name(self) -> &'static str {
        match self {
            OtherSide::Golden => "golden",
            OtherSide::Candidate => "candidate",
        }
    }
}

impl LayoutStep {
    /// The name in a map.
    pub(super) fn name(&self) -> &'static str {
        match self {
            LayoutStep::Reshape(_) => "reshape",
            LayoutStep::Permute(_) => "permute",
            LayoutStep::Transpose(_) => "transpose",
            LayoutStep::Squeeze(_) => "squeeze",
            LayoutStep::Unsqueeze(_) => "unsqueeze",
            LayoutStep::Flatten(_) => "flatten",
            LayoutStep::Unflatten(_) => "unflatten",
            LayoutStep::Slice(_) => "slice",
            LayoutStep::Index(_) => "index",
            LayoutStep::LastTokens(_) => "last_tokens",
            LayoutStep::FirstTokens(_) => "first_tokens",
        }
    }

    /// The sides that sizes are taken from.
    pub(super) fn others(&self) -> Vec<OtherSide> {
        let of = |sizes: &[Size]| {
            sizes
                .iter()
                .filter_map(|size| if let Size::Other(side) = size { Some(*side) } else { None })
                .collect()
        };
        match self {
            LayoutStep::Reshape(Reshape::Other(side)) => vec![*side],
            LayoutStep::Reshape(Reshape::Sizes(sizes)) => of(sizes),
            LayoutStep::Unflatten(unflatten) => of(&unflatten.sizes),
            LayoutStep::LastTokens(size) | LayoutStep::FirstTokens(size) => of(&[*size]),
            _ => Vec::new(),
        }
    }

    /// Takes the step; `other` is the shape of the other side.
    pub(super) fn take(&self, from: &Strides, other: &[usize]) -> Result<Taken, Refusal> {
        let shape = from.shape();
        Ok(Taken::View(match self {
            LayoutStep::Reshape(Reshape::Other(_)) => return reshape(from, other.to_vec()),
            LayoutStep::Reshape(Reshape::Sizes(sizes)) => {
                return reshape(from, resolved(sizes, from.len_elems(), other, 0)?);
            }
            LayoutStep::Permute(order) => {
                let places = order.iter().map(|&dim| dimension(dim, shape)).collect::<Result<Vec<_>, _>>()?;
                let mut sorted = places.clone();
                sorted.sort_unstable();
                if sorted != (0..shape.len()).collect::<Vec<_>>() {
                    return Err(rule(
                        format!("each of {} dimensions once", shape.len()),
                        format!("{order:?}"),
                    ));
                }
                from.permuted(&places)
            }
            LayoutStep::Transpose(pair) => {
                let [a, b] = [dimension(pair[0], shape)?, dimension(pair[1], shape)?];
                let mut places: Vec<usize> = (0..shape.len()).collect();
                places.swap(a, b);
                from.permuted(&places)
            }
            LayoutStep::Squeeze(dim) => {
                let dim = dimension(*dim, shape)?;
                if shape[dim] != 1 {
                    return Err(rule(format!("size 1 of dimension {dim}"), format!("{shape:?}")));
                }
                from.squeezed(dim)
            }
            LayoutStep::Unsqueeze(dim) => {
                let mut wider = shape.to_vec();
                wider.push(1);
                let dim = dimension(*dim, &wider)?;
                wider.pop();
                wider.insert(dim, 1);
                return reshape(from, wider);
            }
            LayoutStep::Flatten([first, last]) => {
                let (first, last) = (dimension(*first, shape)?, dimension(*last, shape)?);
                if first > last {
                    return Err(rule(
                        "the first dimension before the last".to_owned(),
                        format!("{first}, {last}"),
                    ));
                }
                let mut flat = shape[..first].to_vec();
                flat.push(shape[first..=last].iter().product());
                flat.extend(&shape[last + 1..]);
                return reshape(from, flat);
            }
            LayoutStep::Unflatten(Unflatten { dim, sizes }) => {
                let dim = dimension(*dim, shape)?;
                let mut cut = shape[..dim].to_vec();
                cut.extend(resolved(sizes, shape[dim], other, dim)?);
                cut.extend(&shape[dim + 1..]);
                return reshape(from, cut);
            }
            LayoutStep::Slice(slice) => slice.of(from)?,
            LayoutStep::Index(index) => index.of(from)?,
            LayoutStep::LastTokens(size) | LayoutStep::FirstTokens(size) => {
                tokens(from, size, matches!(self, LayoutStep::LastTokens(_)), other)?
            }
        }))
    }
}

impl Slice {
    fn of(&self, from: &Strides) -> Result<Strides, Refusal> {
        let shape = from.shape();
        let dim = dimension(self.dim, shape)?;
        let size = shape[dim] as i64;
        let place = |at: i64| if at < 0 { at + size } else { at };
        let (first, last) = (place(self.start), self.end.map_or(size, place));
        if first < 0 || last > size || first >= last {
            return Err(rule(
                format!("a part of the {size} places of dimension {dim}"),
                format!("{first}..{last}"),
            ));
        }
        Ok(from.narrowed(dim, first as usize, (last - first) as usize))
    }
}

impl Index {
    fn of(&self, from: &Strides) -> Result<Strides, Refusal> {
        let shape = from.shape();
        let dim = dimension(self.dim, shape)?;
        let size = shape[dim] as i64;
        let place = if self.at < 0 { self.at + size } else { self.at };
        if place < 0 || place >= size {
            return Err(rule(format!("one of the {size} places of dimension {dim}"), self.at.to_string()));
        }
        Ok(from.narrowed(dim, place as usize, 1).squeezed(dim))
    }
}

/// The first or last tokens: so many, or as many as the other side has.
fn tokens(from: &Strides, size: &Size, last: bool, other: &[usize]) -> Result<Strides, Refusal> {
    let shape = from.shape();
    let dim = dimension(-2, shape)?;
    let count = match size {
        Size::Number(count) => usize::try_from(*count).ok().filter(|&count| count > 0 && count <= shape[dim]),
        Size::Other(_) => {
            let count = other.len().checked_sub(2).map(|dim| other[dim]);
            Some(count.filter(|&count| count <= shape[dim]).ok_or(Refusal::Sizes)?)
        }
    };
    let expected = || rule(format!("a number of tokens up to {}", shape[dim]), format!("{size}"));
    let count = count.ok_or_else(expected)?;
    let start = if last { shape[dim] - count } else { 0 };
    Ok(from.narrowed(dim, start, count))
}

/// What a step leads to.
pub(super) enum Taken {
    /// The same bytes, seen otherwise.
    View(Strides),
    /// Bytes that must be put into their order first, in this shape.
    Copy(Vec<usize>),
}

fn reshape(from: &Strides, shape: Vec<usize>) -> Result<Taken, Refusal> {
    if shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size)) != Some(from.len_elems()) {
        return Err(Refusal::Sizes);
    }
    Ok(from.reshaped(&shape).map_or(Taken::Copy(shape), Taken::View))
}

fn rule(expected: String, found: String) -> Refusal {
    Refusal::Rule { expected, found }
}

/// A dimension's place, counted from the front.
pub(super) fn dimension(dim: i64, shape: &[usize]) -> Result<usize, Refusal> {
    let rank = shape.len() as i64;
    let place = if dim < 0 { dim + rank } else { dim };
    usize::try_from(place)
        .ok()
        .filter(|&place| place < shape.len())
        .ok_or_else(|| rule(format!("more dimensions than dimension {dim} needs"), format!("{shape:?}")))
}

/// Sizes whose product is `elements`; the first stands in dimension `at` of the result.
fn resolved(sizes: &[Size], elements: usize, other: &[usize], at: usize) -> Result<Vec<usize>, Refusal> {
    let mut known = Vec::with_capacity(sizes.len());
    let mut free = None;
    for (place, size) in sizes.iter().enumerate() {
        known.push(match *size {
            Size::Other(_) => *other.get(at + place).ok_or(Refusal::Sizes)?,
            Size::Number(-1) if free.is_none() => {
                free = Some(place);
                1
            }
            Size::Number(number) => usize::try_from(number)
                .map_err(|_| rule("sizes, and −1 once at most".to_owned(), format!("{number}")))?,
        });
    }
    let product: usize = known.iter().product();
    let from_other = sizes.iter().any(|size| matches!(size, Size::Other(_)));
    let fits =
        if free.is_some() { product > 0 && elements.is_multiple_of(product) } else { product == elements };
    if !fits {
        // Where sizes come from the other dump, that they do not fit tells of the dumps; else of the rule.
        let found = || rule(format!("sizes for {elements} elements"), format!("{known:?}"));
        return Err(if from_other { Refusal::Sizes } else { found() });
    }
    if let Some(free) = free {
        known[free] = elements / product;
    }
    Ok(known)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Other(side) => f.write_str(side.name()),
            Size::Number(number) => write!(f, "{number}"),
        }
    }
}

/// The step in words, for a report.
impl fmt::Display for LayoutStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = |sizes: &[Size]| sizes.iter().map(Size::to_string).collect::<Vec<_>>().join(", ");
        match self {
            LayoutStep::Reshape(Reshape::Other(_)) => write!(f, "reshape"),
            LayoutStep::Reshape(Reshape::Sizes(shape)) => write!(f, "reshape [{}]", sizes(shape)),
            LayoutStep::Permute(order) => write!(f, "permute {order:?}"),
            LayoutStep::Transpose(pair) => write!(f, "transpose {pair:?}"),
            LayoutStep::Squeeze(dim) => write!(f, "squeeze {dim}"),
            LayoutStep::Unsqueeze(dim) => write!(f, "unsqueeze {dim}"),
            LayoutStep::Flatten(dims) => write!(f, "flatten {dims:?}"),
            LayoutStep::Unflatten(unflatten) => {
                write!(f, "unflatten {} [{}]", unflatten.dim, sizes(&unflatten.sizes))
            }
            LayoutStep::Slice(slice) => {
                let end = slice.end.map_or_else(String::new, |end| end.to_string());
                write!(f, "slice {} [{}:{end}]", slice.dim, slice.start)
            }
            LayoutStep::Index(index) => write!(f, "index {} [{}]", index.dim, index.at),
            LayoutStep::LastTokens(count) => write!(f, "last_tokens {count}"),
            LayoutStep::FirstTokens(count) => write!(f, "first_tokens {count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes steps as a map has them; the shape and whether the bytes must be copied on the way.
    fn taken(shape: &[usize], steps: &str, other: &[usize]) -> Result<(Vec<usize>, bool), Refusal> {
        #[derive(Deserialize)]
        struct Steps {
            steps: Vec<LayoutStep>,
        }
        let Steps { steps } = toml::from_str(&format!("steps = {steps}")).unwrap();
        let (mut strides, mut copied) = (Strides::contiguous(shape), false);
        for step in steps {
            strides = match step.take(&strides, other)? {
                Taken::View(view) => view,
                Taken::Copy(shape) => {
                    copied = true;
                    Strides::contiguous(&shape)
                }
            };
        }
        Ok((strides.shape().to_vec(), copied))
    }

    #[test]
    fn steps_change_shapes() {
        let of = |shape: &[usize], steps: &str, other: &[usize]| taken(shape, steps, other).unwrap();
        assert_eq!(of(&[82, 16], "[{ reshape = 'golden' }]", &[2, 41, 16]), (vec![2, 41, 16], false));
        assert_eq!(of(&[2, 41, 16], "[{ flatten = [0, 1] }]", &[]), (vec![82, 16], false));
        assert_eq!(
            of(&[82, 16], "[{ unflatten = { dim = 0, sizes = [2, -1] } }]", &[]),
            (vec![2, 41, 16], false)
        );
        let heads = "[{ permute = [0, 2, 1, 3] }, { reshape = 'golden' }]";
        assert_eq!(of(&[2, 4, 41, 8], heads, &[2, 41, 32]), (vec![2, 41, 32], true));
        assert_eq!(of(&[1, 41, 16], "[{ last_tokens = 1 }, { squeeze = 0 }]", &[]), (vec![1, 16], false));
        assert_eq!(of(&[1, 41, 16], "[{ last_tokens = 'golden' }]", &[1, 9, 16]), (vec![1, 9, 16], false));
        assert_eq!(of(&[3, 72, 16], "[{ slice = { dim = 1, start = 8 } }]", &[]), (vec![3, 64, 16], false));
        assert_eq!(of(&[3, 72, 16], "[{ slice = { dim = -2, start = -64, end = -1 } }]", &[]).0, [3, 63, 16]);
        assert_eq!(of(&[3, 72, 16], "[{ index = { dim = 0, at = -1 } }]", &[]).0, [72, 16]);
        assert_eq!(of(&[41, 16], "[{ unsqueeze = 0 }, { unsqueeze = -1 }]", &[]).0, [1, 41, 16, 1]);
        assert_eq!(of(&[41, 16], "[{ transpose = [0, 1] }]", &[]).0, [16, 41]);
        assert_eq!(
            of(&[192, 16], "[{ unflatten = { dim = 0, sizes = ['golden', -1] } }]", &[3, 72, 16]).0,
            [3, 64, 16]
        );
    }

    #[test]
    fn a_step_that_does_not_fit_the_tensor_is_refused() {
        for (shape, steps) in [
            (&[2, 3][..], "[{ permute = [0, 0] }]"),
            (&[2, 3], "[{ permute = [0, 1, 2] }]"),
            (&[2, 3], "[{ squeeze = 0 }]"),
            (&[2, 3], "[{ transpose = [0, 2] }]"),
            (&[2, 3], "[{ flatten = [1, 0] }]"),
            (&[2, 3], "[{ unflatten = { dim = 1, sizes = [2, -1] } }]"),
            (&[2, 3], "[{ reshape = [4, 2] }]"),
            (&[2, 3], "[{ reshape = [-1, -1] }]"),
            (&[2, 3], "[{ slice = { dim = 1, start = 3 } }]"),
            (&[2, 3], "[{ slice = { dim = 1, end = 4 } }]"),
            (&[2, 3], "[{ index = { dim = 1, at = 3 } }]"),
            (&[2, 3], "[{ last_tokens = 3 }]"),
            (&[3], "[{ last_tokens = 1 }]"),
        ] {
            let refusal = taken(shape, steps, &[]).unwrap_err();
            assert!(matches!(refusal, Refusal::Rule { .. }), "{steps}: {refusal:?}");
        }
    }

    #[test]
    fn dumps_of_other_sizes_are_a_finding_and_no_mistake_of_the_rule() {
        assert_eq!(taken(&[40, 16], "[{ reshape = 'golden' }]", &[1, 41, 16]), Err(Refusal::Sizes));
        assert_eq!(taken(&[40, 16], "[{ last_tokens = 'golden' }]", &[1, 41, 16]), Err(Refusal::Sizes));
    }
}
