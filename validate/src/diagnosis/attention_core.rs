//! An attention as it is computed from recorded queries, keys and values, right or with a mistake.

use golden::{Dump, TensorView};
use measure::metric::value_at;

use super::roles::SiteRole;
use crate::entry::EntryReport;

/// An attention over one sequence, or the first tile.
#[derive(Clone, Copy)]
pub(super) struct Core<'a> {
    pub(super) tokens: usize,
    pub(super) head_dim: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    states: States<'a>,
}

/// Queries, keys and values as they come from their projections; read where they lie, since all of a long sequence are much.
#[derive(Clone, Copy)]
enum States<'a> {
    /// Each from a projection of its own, to be rotated; later tokens are hidden.
    Rotated { projections: [TensorView<'a>; 3], cos: TensorView<'a>, sin: TensorView<'a> },
    /// From one.
    Fused(TensorView<'a>),
}

/// How an attention is computed.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Computation {
    /// How many later tokens each token sees; none where it sees all.
    pub(super) ahead: Option<usize>,
    pub(super) scale: f32,
    pub(super) rotate_queries: bool,
    pub(super) rotate_keys: bool,
    pub(super) pairs: bool,
    pub(super) backwards: bool,
    pub(super) heads_in_turn: bool,
    pub(super) layout: HeadLayout,
}

/// What a projection gives.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Queries,
    Keys,
    Values,
}

/// How the fused projection's channels are read.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum HeadLayout {
    /// Queries of all heads, then keys, then values.
    Parts,
    /// Head by head, each with its queries, keys and values.
    Heads,
    /// As parts, with the heads innermost.
    HeadsInnermost,
}

/// A way to compute an attention that is a mistake.
pub(super) struct Variant {
    /// What is wrong.
    pub(super) pattern: &'static str,
    /// Which attentions it can be made in.
    pub(super) applies: fn(&Core<'_>) -> bool,
    /// What is computed otherwise.
    pub(super) change: fn(&Core<'_>, &mut Computation),
}

/// What is said of a variant.
macro_rules! pattern {
    ($what:literal) => {
        concat!("the error is like that of an attention in which ", $what)
    };
}
pub(super) use pattern;

impl<'a> Core<'a> {
    /// The attention before an entry; several where the number of heads is not known.
    pub(super) fn of(golden: &'a Dump, inputs: &[&EntryReport]) -> Vec<Core<'a>> {
        let input = |wanted: SiteRole| {
            let entry = inputs.iter().find(|input| input.site_role == Some(wanted))?;
            golden.get(&entry.entry.key()).filter(|view| view.len_elems() > 0)
        };
        if let Some(fused) = input(SiteRole::FusedQkv) {
            return Core::fused(fused);
        }
        let parts =
            [SiteRole::Queries, SiteRole::Keys, SiteRole::Values, SiteRole::Cos, SiteRole::Sin].map(input);
        let [Some(q), Some(k), Some(v), Some(cos), Some(sin)] = parts else { return Vec::new() };
        Core::rotated([q, k, v], cos, sin).into_iter().collect()
    }

    fn rotated(projections: [TensorView<'a>; 3], cos: TensorView<'a>, sin: TensorView<'a>) -> Option<Self> {
        let size = |part: &TensorView<'_>| match part.shape() {
            &[1, tokens, width] if width > 0 => Some((tokens, width)),
            _ => None,
        };
        let [(tokens, q), (_, k), (_, v)] = match projections.each_ref().map(size) {
            [Some(q), Some(k), Some(v)] => [q, k, v],
            _ => return None,
        };
        let (_, head_dim) = size(&cos)?;
        let same = [&projections[1], &projections[2], &cos, &sin];
        let same = same.into_iter().all(|part| size(part).is_some_and(|(other, _)| other == tokens));
        let fits = k == v && size(&sin)?.1 == head_dim && head_dim % 2 == 0;
        if !same || !fits || q % head_dim != 0 || k % head_dim != 0 || q % k != 0 {
            return None;
        }
        let states = States::Rotated { projections, cos, sin };
        Some(Core { tokens, head_dim, heads: q / head_dim, kv_heads: k / head_dim, states })
    }

    fn fused(view: TensorView<'a>) -> Vec<Self> {
        let &[_, tokens, columns] = view.shape() else { return Vec::new() };
        if columns == 0 || columns % 3 != 0 {
            return Vec::new();
        }
        let width = columns / 3;
        let core = |head_dim: usize| {
            let heads = width / head_dim;
            Core { tokens, head_dim, heads, kv_heads: heads, states: States::Fused(view) }
        };
        (8..=256).step_by(8).filter(|size| width % size == 0).map(core).collect()
    }

    pub(super) fn is_causal(&self) -> bool {
        matches!(self.states, States::Rotated { .. })
    }

    pub(super) fn sees_all(&self) -> bool {
        !self.is_causal()
    }

    /// As it should be.
    pub(super) fn right(&self) -> Computation {
        Computation {
            ahead: self.is_causal().then_some(0),
            scale: (self.head_dim as f32).powf(-0.5),
            rotate_queries: true,
            rotate_keys: true,
            pairs: false,
            backwards: false,
            heads_in_turn: false,
            layout: HeadLayout::Parts,
        }
    }

    /// The weighted sums of some tokens.
    pub(super) fn run(&self, how: &Computation, rows: &[usize]) -> Vec<Vec<f64>> {
        let (tokens, dim, heads) = (self.tokens, self.head_dim, self.heads);
        let mut outputs = vec![vec![0.0; heads * dim]; rows.len()];
        for head in 0..heads {
            let kv = if how.heads_in_turn { head % self.kv_heads } else { head / (heads / self.kv_heads) };
            let all = |part| -> Vec<f32> {
                (0..tokens).flat_map(|token| self.head(part, token, kv, how)).collect()
            };
            let (keys, values) = (all(Part::Keys), all(Part::Values));
            for (&row, output) in rows.iter().zip(&mut outputs) {
                let query = self.head(Part::Queries, row, head, how);
                let visible = how.ahead.map_or(tokens, |ahead| (row + 1 + ahead).min(tokens));
                let score = |key: &[f32]| how.scale * query.iter().zip(key).map(|(a, b)| a * b).sum::<f32>();
                let scores: Vec<f32> = keys.chunks_exact(dim).take(visible).map(score).collect();
                let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let weights: Vec<f64> = scores.iter().map(|score| f64::from(score - most).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for (value, weight) in values.chunks_exact(dim).zip(&weights) {
                    for (place, value) in value.iter().enumerate() {
                        // The channel that the projection behind takes it for.
                        let column = match how.layout {
                            HeadLayout::HeadsInnermost => place * heads + head,
                            HeadLayout::Parts | HeadLayout::Heads => head * dim + place,
                        };
                        output[column] += weight / sum * f64::from(*value);
                    }
                }
            }
        }
        outputs
    }

    /// The numbers of a head of a token.
    fn head(&self, part: Part, token: usize, head: usize, how: &Computation) -> Vec<f32> {
        let (dim, heads) = (self.head_dim, self.heads);
        let at = part as usize;
        match self.states {
            States::Fused(view) => {
                let width = heads * dim;
                let column = |place: usize| match how.layout {
                    HeadLayout::Parts => at * width + head * dim + place,
                    HeadLayout::Heads => (head * 3 + at) * dim + place,
                    HeadLayout::HeadsInnermost => at * width + place * heads + head,
                };
                (0..dim).map(|place| value_at(&view, token * 3 * width + column(place)) as f32).collect()
            }
            States::Rotated { projections, cos, sin } => {
                let width = if part == Part::Queries { heads * dim } else { self.kv_heads * dim };
                let numbers = |view: &TensorView<'_>, start: usize| -> Vec<f32> {
                    (start..start + dim).map(|at| value_at(view, at) as f32).collect()
                };
                let mut states = numbers(&projections[at], token * width + head * dim);
                let sign = match part {
                    Part::Queries if how.rotate_queries => {
                        if how.backwards {
                            -1.0
                        } else {
                            1.0
                        }
                    }
                    Part::Keys if how.rotate_keys => 1.0,
                    _ => return states,
                };
                rotate(
                    &mut states,
                    &numbers(&cos, token * dim),
                    &numbers(&sin, token * dim),
                    sign,
                    how.pairs,
                );
                states
            }
        }
    }
}

/// Rotates a head by the angles of its halves, or the pairs in it by the same angles.
fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32], sign: f32, pairs: bool) {
    let half = head.len() / 2;
    for angle in 0..half {
        let (first, second) = if pairs { (2 * angle, 2 * angle + 1) } else { (angle, angle + half) };
        let (x, y, cos, sin) = (head[first], head[second], cos[angle], sign * sin[angle]);
        head[first] = x * cos - y * sin;
        head[second] = y * cos + x * sin;
    }
}

#[cfg(test)]
mod tests {
    use golden::Dtype;

    use super::*;

    #[test]
    fn a_token_that_sees_itself_alone_has_its_own_value() {
        let bytes =
            |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
        let (queries, keys) = (bytes(&[1.0; 8]), bytes(&[1.0, 2.0, 3.0, 4.0]));
        let (values, cos, sin) = (bytes(&[5.0, 6.0, 7.0, 8.0]), bytes(&[1.0; 4]), bytes(&[0.0; 4]));
        let view = |shape, bytes| TensorView::new(Dtype::Float32, shape, bytes).unwrap();
        let projections = [view(&[1, 2, 4], &queries), view(&[1, 2, 2], &keys), view(&[1, 2, 2], &values)];
        let core = Core::rotated(projections, view(&[1, 2, 2], &cos), view(&[1, 2, 2], &sin)).unwrap();
        assert_eq!((core.heads, core.kv_heads), (2, 1));
        assert_eq!(core.run(&core.right(), &[0]), [[5.0, 6.0, 5.0, 6.0]]);
        let all = core.run(&Computation { ahead: None, scale: 0.0, ..core.right() }, &[0]);
        assert_eq!(all, [[6.0, 7.0, 6.0, 7.0]]);
    }

    #[test]
    fn a_quarter_turn_moves_a_half_into_the_other() {
        let mut head = [1.0, 2.0, 3.0, 4.0];
        rotate(&mut head, &[0.0; 4], &[1.0; 4], 1.0, false);
        assert_eq!(head, [-3.0, -4.0, 1.0, 2.0]);
        let mut head = [1.0, 2.0, 3.0, 4.0];
        rotate(&mut head, &[0.0; 4], &[1.0; 4], 1.0, true);
        assert_eq!(head, [-2.0, 1.0, -4.0, 3.0]);
    }
}
