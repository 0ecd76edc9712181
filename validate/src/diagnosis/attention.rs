//! Mistakes between the projections of an attention and the one behind it.
//!
//! Neither scores nor the weighted sum are in a dump, nor are the weights of the projection behind them: nothing can be
//! undone. But the golden queries, keys and values are there. So the weighted sum is computed from them, as it should be
//! and with each known mistake, and the change that the mistake makes is compared with the change that was found. A
//! projection turns and stretches, and keeps by and large which tokens changed alike: that is what is compared.

use golden::{Dump, TensorView};
use rayon::prelude::*;

use super::case::Case;
use super::mistakes::{Diagnosis, Mistake};
use crate::entry::EntryReport;
use measure::metric::value_at;
use measure::origin::Step;

/// How many queries are followed, and the most multiplications for attempts of one kind.
const QUERIES: usize = 64;
const LEAST_QUERIES: usize = 16;
const MULTIPLICATIONS: usize = 200_000_000;

/// How like the found change must be to the predicted one, at least.
const LIKENESS: f64 = 0.7;

/// By how much nearer to the found change the best prediction must be than those of other kinds.
const MARGIN: f64 = 0.75;

/// An attention over one sequence, or the first tile.
#[derive(Clone, Copy)]
struct Core<'a> {
    tokens: usize,
    head_dim: usize,
    heads: usize,
    kv_heads: usize,
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
struct Way {
    /// How many later tokens each token sees; none where it sees all.
    ahead: Option<usize>,
    scale: f32,
    rotate_queries: bool,
    rotate_keys: bool,
    pairs: bool,
    backwards: bool,
    heads_in_turn: bool,
    layout: HeadLayout,
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
enum HeadLayout {
    /// Queries of all heads, then keys, then values.
    Parts,
    /// Head by head, each with its queries, keys and values.
    Heads,
    /// As parts, with the heads innermost.
    HeadsInnermost,
}

/// The mistake of an attention whose inputs are right, if a known one explains the error.
pub(super) fn diagnose(
    golden: &Dump,
    entries: &[EntryReport],
    entry: &EntryReport,
    case: &Case<'_>,
) -> Option<Diagnosis> {
    if entry.origin.step != Step::Attention {
        return None;
    }
    // A tower's number of heads is in no dump: each that fits is tried.
    let cores = Core::of(golden, entries, entry);
    let tokens = cores.first()?.tokens;
    let width = cores.first()?.heads * cores.first()?.head_dim;
    let most = (MULTIPLICATIONS / (tokens * width * cores.len()).max(1)).clamp(LEAST_QUERIES, QUERIES);
    // The first and the last token are among them: what a mask hides shows there.
    let count = most.min(tokens);
    let rows: Vec<usize> = (0..count).map(|row| row * (tokens - 1) / (count - 1).max(1)).collect();
    let found: Vec<Vec<f64>> = rows
        .iter()
        .map(|&row| {
            (0..case.columns).map(|column| case.candidate(row, column) - case.golden(row, column)).collect()
        })
        .collect();
    let mut attempts: Vec<(f64, Mistake, String)> = cores
        .into_par_iter()
        .flat_map(|core| {
            let right = core.run(&core.right(), &rows);
            let (rows, found) = (&rows, &found);
            let attempt = move |(mistake, text, way): (Mistake, String, Way)| {
                let changed = core.run(&way, rows);
                let difference = |(a, b): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
                    a.iter().zip(b).map(|(a, b)| a - b).collect()
                };
                let change: Vec<Vec<f64>> = changed.iter().zip(&right).map(difference).collect();
                (likeness(&change, found), mistake, text)
            };
            core.mistakes().into_par_iter().map(attempt)
        })
        .collect();
    attempts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (best, mistake, text) = attempts.first()?.clone();
    let left = |likeness: f64| (1.0 - likeness * likeness).max(0.0).sqrt();
    let other = attempts.iter().find(|(_, other, _)| *other != mistake).map_or(0.0, |other| other.0);
    (best >= LIKENESS && left(best) <= MARGIN * left(other)).then(|| Diagnosis {
        mistake,
        text: format!("the error is like that of an attention in which {text}"),
        before: case.error,
        after: left(best) * case.error,
    })
}

impl<'a> Core<'a> {
    /// The attention before an entry; several where the number of heads is not known.
    fn of(golden: &'a Dump, entries: &[EntryReport], entry: &EntryReport) -> Vec<Core<'a>> {
        let inputs: Vec<&EntryReport> = entry.origin.inputs.iter().map(|&input| &entries[input]).collect();
        let input = |end: &str| {
            let entry = inputs.iter().find(|input| input.entry.name.ends_with(end))?;
            golden.get(&entry.entry.name).filter(|view| view.len_elems() > 0)
        };
        if let Some(fused) = input(".qkv") {
            return Core::fused(fused);
        }
        let parts = ["q_proj", "k_proj", "v_proj", ".cos", ".sin"].map(input);
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

    fn is_causal(&self) -> bool {
        matches!(self.states, States::Rotated { .. })
    }

    fn right(&self) -> Way {
        Way {
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

    fn mistakes(&self) -> Vec<(Mistake, String, Way)> {
        let right = self.right();
        let mut mistakes = Vec::new();
        let mut add = |mistake: Mistake, text: &str, way: Way| mistakes.push((mistake, text.to_owned(), way));
        if self.is_causal() {
            add(Mistake::Mask, "every token sees those behind it, too", Way { ahead: None, ..right });
            add(Mistake::Mask, "every token sees the one behind it, too", Way { ahead: Some(1), ..right });
        } else {
            add(Mistake::Mask, "no token sees those behind it", Way { ahead: Some(0), ..right });
        }
        let width = (self.heads * self.head_dim) as f32;
        let scaled = |scale: f32| Way { scale, ..right };
        add(Mistake::AttentionScale, "scores are not divided by the root of `head_dim`", scaled(1.0));
        add(
            Mistake::AttentionScale,
            "scores are divided twice by the root of `head_dim`",
            scaled(right.scale.powi(2)),
        );
        let text = "scores are divided by the root of the width, and not of `head_dim`";
        add(Mistake::AttentionScale, text, scaled(width.powf(-0.5)));
        if self.is_causal() {
            let text = "pairs of neighbours are rotated, and not the halves of each head";
            add(Mistake::Interleaved, text, Way { pairs: true, ..right });
            let (queries, keys) =
                (Way { rotate_queries: false, ..right }, Way { rotate_keys: false, ..right });
            add(Mistake::NotRotated, "queries are not rotated", queries);
            add(Mistake::NotRotated, "keys are not rotated", keys);
            let neither = Way { rotate_queries: false, ..keys };
            add(Mistake::NotRotated, "neither queries nor keys are rotated", neither);
            let text = "queries are rotated the other way than keys";
            add(Mistake::NotRotated, text, Way { backwards: true, ..right });
        }
        if self.kv_heads > 1 && self.kv_heads < self.heads {
            let text = "query heads take turns with the key-value heads, and are not grouped";
            add(Mistake::KvHeads, text, Way { heads_in_turn: true, ..right });
        }
        if !self.is_causal() {
            let text = "the fused projection is read head by head, and not as queries, keys and values";
            add(Mistake::HeadLayout, text, Way { layout: HeadLayout::Heads, ..right });
            let text = "the numbers of all heads alternate, and heads are not contiguous";
            add(Mistake::HeadLayout, text, Way { layout: HeadLayout::HeadsInnermost, ..right });
        }
        mistakes
    }

    /// The weighted sums of some tokens.
    fn run(&self, way: &Way, rows: &[usize]) -> Vec<Vec<f64>> {
        let (tokens, dim, heads) = (self.tokens, self.head_dim, self.heads);
        let mut outputs = vec![vec![0.0; heads * dim]; rows.len()];
        for head in 0..heads {
            let kv = if way.heads_in_turn { head % self.kv_heads } else { head / (heads / self.kv_heads) };
            let all = |part| -> Vec<f32> {
                (0..tokens).flat_map(|token| self.head(part, token, kv, way)).collect()
            };
            let (keys, values) = (all(Part::Keys), all(Part::Values));
            for (&row, output) in rows.iter().zip(&mut outputs) {
                let query = self.head(Part::Queries, row, head, way);
                let visible = way.ahead.map_or(tokens, |ahead| (row + 1 + ahead).min(tokens));
                let score = |key: &[f32]| way.scale * query.iter().zip(key).map(|(a, b)| a * b).sum::<f32>();
                let scores: Vec<f32> = keys.chunks_exact(dim).take(visible).map(score).collect();
                let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let weights: Vec<f64> = scores.iter().map(|score| f64::from(score - most).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for (value, weight) in values.chunks_exact(dim).zip(&weights) {
                    for (place, value) in value.iter().enumerate() {
                        // The channel that the projection behind takes it for.
                        let column = match way.layout {
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
    fn head(&self, part: Part, token: usize, head: usize, way: &Way) -> Vec<f32> {
        let (dim, heads) = (self.head_dim, self.heads);
        let at = part as usize;
        match self.states {
            States::Fused(view) => {
                let width = heads * dim;
                let column = |place: usize| match way.layout {
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
                    Part::Queries if way.rotate_queries => {
                        if way.backwards {
                            -1.0
                        } else {
                            1.0
                        }
                    }
                    Part::Keys if way.rotate_keys => 1.0,
                    _ => return states,
                };
                rotate(
                    &mut states,
                    &numbers(&cos, token * dim),
                    &numbers(&sin, token * dim),
                    sign,
                    way.pairs,
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

/// How like the rows of two tensors are to each other: the cosine between their tables of inner products, which do not
/// change when all rows are turned.
///
/// Of products of each row with itself the cosine is taken apart, and the lesser of both counts: in many dimensions any rows
/// are nearly at right angles, and tables that have nothing but a diagonal would all be alike.
fn likeness(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = |a: &[f64], b: &[f64]| {
        let lengths = product(a, a).sqrt() * product(b, b).sqrt();
        if lengths > 0.0 { product(a, b) / lengths } else { 0.0 }
    };
    let apart = |rows: &[Vec<f64>]| -> Vec<f64> {
        let pairs = rows.iter().enumerate().flat_map(|(at, a)| rows[..at].iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| product(a, b)).collect()
    };
    let lengths = |rows: &[Vec<f64>]| -> Vec<f64> { rows.iter().map(|row| product(row, row)).collect() };
    cosine(&apart(a), &apart(b)).min(cosine(&lengths(a), &lengths(b)))
}

#[cfg(test)]
mod tests {
    use golden::Dtype;

    use super::*;

    #[test]
    fn turned_rows_are_alike_and_others_are_not() {
        let rows = vec![vec![1.0, 0.0], vec![0.0, 2.0], vec![1.0, 1.0]];
        let turned: Vec<Vec<f64>> = rows.iter().map(|row| vec![-3.0 * row[1], 3.0 * row[0]]).collect();
        assert!((likeness(&rows, &turned) - 1.0).abs() < 1e-12);
        let other = vec![vec![0.0, 1.0], vec![0.0, 2.0], vec![-1.0, 1.0]];
        assert!(likeness(&rows, &other) < 0.95);
        assert!(likeness(&rows, &[vec![0.0; 2], vec![0.0; 2], vec![0.0; 2]]).abs() < 1e-12);
    }

    #[test]
    fn rows_of_many_dimensions_are_not_alike_for_being_at_right_angles() {
        // Two tables that are nothing but noise, 1,000 dimensions each.
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        let mut rows =
            || -> Vec<Vec<f64>> { (0..32).map(|_| (0..1000).map(|_| noise()).collect()).collect() };
        let found = likeness(&rows(), &rows());
        assert!(found.abs() < 0.2, "{found}");
    }

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
        let all = core.run(&Way { ahead: None, scale: 0.0, ..core.right() }, &[0]);
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
