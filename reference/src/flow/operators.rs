//! The operators of the public code that lie between a site and the sites that it is computed from, as PyTorch names them.
//!
//! A conversion that changes no dtype is none. Views and copies are not counted, nor is what is computed of weights alone.

use golden::{Entry, Flow, RowAlignment};
use tch::Kind;

use super::way::Way;
use crate::model::observer::Site;

/// Operators with their numbers.
pub(super) type Operators = &'static [(&'static str, u64)];

pub(super) const ADD: Operators = &[("aten.add", 1)];
pub(super) const CAST: Operators = &[("aten._to_copy", 1)];
pub(super) const LINEAR: Operators = &[("aten.linear", 1)];
const SCALE: Operators = &[("aten.mul", 1)];
/// What lengthens a sequence, of keys, values or tokens.
pub(super) const APPEND: Operators = &[("aten.cat", 1)];
pub(super) const STACK: Operators = &[("aten.stack", 1)];
pub(super) const VALUES: Operators = &[("aten.matmul", 1)];
pub(super) const SDPA: Operators = &[("aten.scaled_dot_product_attention", 1)];

/// The token with the highest logit, or padding behind the end of the answer.
pub(super) const CHOOSE: Operators = &[("aten.argmax", 1), ("aten.mul", 1), ("aten.add", 1)];

/// Padding, where an earlier token may have ended the answer.
pub(super) const PAD: Operators = &[("aten.rsub", 1), ("aten.mul", 1)];

/// Whether a token ends the answer.
pub(super) const ENDS: Operators =
    &[("aten.isin", 1), ("aten.bitwise_or", 1), ("aten.bitwise_not", 1), ("aten.bitwise_and", 1)];

/// `x cos + rotate_half(x) sin`
pub(super) const ROTATE: Operators = &[("aten.mul", 2), ("aten.neg", 1), ("aten.cat", 1), ("aten.add", 1)];

/// Scores, their scale, the mask, and the softmax.
pub(super) const SCORES: Operators =
    &[("aten.matmul", 1), ("aten.mul", 1), ("aten.add", 1), ("aten.softmax", 1)];

const RMS_NORM: Operators =
    &[("aten.pow", 1), ("aten.mean", 1), ("aten.add", 1), ("aten.rsqrt", 1), ("aten.mul", 2)];

/// What puts the features of pictures in the places that are kept for them.
pub(super) const MERGE: Operators = &[("aten.eq", 1), ("aten.index_put", 1)];

/// What computes in float32 converts its input, and its result back, where the model's dtype is another.
pub(super) const THERE_AND_BACK: Operators = &[("aten._to_copy", 2)];

/// The operators of a site.
pub(super) struct OfSite {
    /// Its own.
    pub(super) own: Vec<Operators>,
    /// Whether there is the sum behind the attention of its layer among them, too.
    pub(super) has_sum: bool,
}

/// Those of a site whose output is of some kind, but for the decoder's attention; `features` is the kind of the tower's.
pub(super) fn of_site(site: Site<'_>, kind: Kind, features: Option<Kind>) -> OfSite {
    let ends = |end| site.name.ends_with(end);
    let rounds = kind != Kind::Float;
    let (own, more): (Operators, Option<Operators>) = match site.module {
        "InputConditioner" => (&[("aten.sub", 1), ("aten.div", 1)], rounds.then_some(CAST)),
        "ClsToken" => (&[("aten.add", 1), ("aten.cat", 1)], None),
        "LayerNorm" => {
            let casts = ends("mlp1.0") && features.is_some_and(|features| features != kind);
            (&[("aten.layer_norm", 1)], casts.then_some(CAST))
        }
        "Linear" if ends(".attn.proj") => (LINEAR, Some(SDPA)),
        "Linear" if ends(".mlp.down_proj") => (LINEAR, Some(SCALE)),
        "Linear" | "ViTPatchLinear" => (LINEAR, None),
        "GELU" => (&[("aten.gelu", 1)], None),
        "SiLUActivation" => (&[("aten.silu", 1)], None),
        "LayerScale" => (SCALE, None),
        "Embedding" => (&[("aten.embedding", 1)], None),
        "LlamaRMSNorm" => (RMS_NORM, rounds.then_some(THERE_AND_BACK)),
        "Block" | "LlamaDecoderLayer" => (ADD, None),
        _ => (&[], None),
    };
    let own = [own].into_iter().chain(more).filter(|operators| !operators.is_empty()).collect();
    let has_sum = is_layer(site) || ends(".norm2") || ends(".post_attention_layernorm");
    OfSite { own, has_sum }
}

/// Whether a site is a layer of the tower or the decoder.
pub(super) fn is_layer(site: Site<'_>) -> bool {
    matches!(site.module, "Block" | "LlamaDecoderLayer")
}

/// The operators that have run, in groups that are on the same ways.
#[derive(Default)]
pub(super) struct Groups(Vec<Operators>);

impl Groups {
    /// Adds a group; its number.
    pub(super) fn add(&mut self, operators: Operators) -> usize {
        self.0.push(operators);
        self.0.len() - 1
    }

    /// Where a tensor comes from that these operators make of others, any row of which may matter.
    pub(super) fn mixed<'a>(
        &mut self,
        ways: impl IntoIterator<Item = &'a Way>,
        operators: &[Operators],
    ) -> Way {
        let mut way = Way::default();
        for other in ways {
            way.join(other, RowAlignment::Mixed);
        }
        for operators in operators {
            way.pass(self.add(operators));
        }
        way
    }

    /// A way as a dump has it, `entries` being those so far; `None` of one that was lost.
    pub(super) fn flow(&self, way: &Way, entries: &[Entry]) -> Option<Flow> {
        way.is_known().then_some(())?;
        let nearest_first = || way.inputs.iter().rev();
        let mut flow = Flow {
            inputs: nearest_first().map(|(&order, _)| entries[order as usize].key().into_owned()).collect(),
            ..Flow::default()
        };
        if way.inputs.values().any(|&rows| rows != RowAlignment::Same) {
            flow.input_rows = nearest_first().map(|(_, &rows)| rows).collect();
        }
        for group in way.operators() {
            for &(name, count) in self.0[group] {
                *flow.operations.entry(name.to_owned()).or_default() += count;
            }
        }
        Some(flow)
    }
}
