//! What lies between an entry and its inputs, by the operators that were counted there.

use indexmap::IndexMap;

use super::flow::RecordedFlow;
use crate::model::Step;

/// What an operator does, as far as rounding is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// A sum of products along a dimension, with weights or without.
    Projection,
    /// A product of two computed matrices, or a projection that is written as one.
    Product,
    /// Scores, softmax and weighted sum in one.
    Attention,
    Softmax,
    Norm,
    /// One over a root, which a norm that is written out has.
    Root,
    /// The mean or the mean square of such a norm, and others.
    Mean,
    /// Elementwise, and steep for some values.
    Activation,
    /// Elementwise.
    Elementwise,
    /// A conversion to another dtype.
    Conversion,
    /// Elements are chosen or put together, and stay what they are.
    Lookup,
    Unknown,
}

/// How many operators of each kind there are.
struct Counts<'a>(&'a IndexMap<String, u64>);

impl Counts<'_> {
    fn of(&self, kind: Kind) -> u64 {
        let all = self.0.iter().filter(|(name, _)| kind_of(name) == kind);
        all.fold(0, |sum, (_, &count)| sum.saturating_add(count))
    }

    fn has(&self, kind: Kind) -> bool {
        self.of(kind) > 0
    }
}

/// What a module does by its recorded flow; `None` where no operators were counted that there must be.
pub(super) fn step_of(flow: &RecordedFlow) -> Option<Step> {
    if !flow.complete {
        return Some(Step::Unknown);
    }
    match (flow.operations.is_empty(), flow.inputs.len()) {
        // The same tensor, or one that depends on weights alone.
        (true, 0 | 1) => Some(Step::Single),
        (true, _) => None,
        (false, _) => Some(step_of_operations(&flow.operations)),
    }
}

/// A norm by what it divides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Norm {
    /// The root of the mean square.
    RootMeanSquare,
    /// The deviation, behind which the mean is subtracted.
    Layer,
}

/// The norm that some operators are, perhaps of a sum; `None` if they are anything else or more.
pub(super) fn norm_of(operations: &IndexMap<String, u64>) -> Option<Norm> {
    let counts = Counts(operations);
    let others = [
        Kind::Projection,
        Kind::Product,
        Kind::Attention,
        Kind::Softmax,
        Kind::Activation,
        Kind::Lookup,
        Kind::Unknown,
    ];
    let written_out = counts.of(Kind::Root) == 1 && counts.has(Kind::Mean);
    if counts.of(Kind::Norm) + u64::from(written_out) != 1 || others.into_iter().any(|kind| counts.has(kind))
    {
        return None;
    }
    let has = |word: &str| operations.keys().any(|name| name.contains(word));
    match written_out {
        true if has("aten.sub") || has("var") || has("std") => Some(Norm::Layer),
        true => Some(Norm::RootMeanSquare),
        false if has("rms") => Some(Norm::RootMeanSquare),
        false => has("layer_norm").then_some(Norm::Layer),
    }
}

/// What some operators do together. What is not known, or is more than a module's worth, may do anything.
fn step_of_operations(operations: &IndexMap<String, u64>) -> Step {
    let counts = Counts(operations);
    if counts.has(Kind::Unknown) {
        return Step::Unknown;
    }
    let roots = counts.of(Kind::Root);
    let norms = counts.of(Kind::Norm) + roots;
    let (projections, products) = (counts.of(Kind::Projection), counts.of(Kind::Product));
    let (activations, softmaxes) = (counts.of(Kind::Activation), counts.of(Kind::Softmax));
    let cores = counts.of(Kind::Attention);
    if cores > 0 || softmaxes > 0 && products > 0 {
        // Queries and keys may have norms of their own. A product beside a core in one kernel is the projection behind it.
        let one = if cores > 0 { cores == 1 && softmaxes == 0 } else { softmaxes == 1 };
        let behind = projections + if cores > 0 { products } else { products.saturating_sub(2) };
        let is_one = one && behind <= 1 && norms <= 2 && activations == 0;
        return if is_one { Step::Attention } else { Step::Unknown };
    }
    let (projections, activations) = (projections + products, activations + softmaxes);
    // A norm that is written out squares, adds epsilon, and multiplies twice; it converts there and back.
    let elementwise = counts.of(Kind::Elementwise) + if roots == 0 { counts.of(Kind::Mean) } else { 0 };
    let elementwise = elementwise.saturating_sub(5 * roots);
    match (projections, norms, activations) {
        (0, 0, 0) if elementwise <= 1 => Step::Single,
        (1, 0, 0) if elementwise == 0 => Step::Single,
        (0 | 1, 0, 0) | (0, 1, 0) if elementwise <= 4 => Step::Several,
        // As its own operator, perhaps with the gate that it is multiplied by.
        (0, 0, 1) if elementwise <= 1 => Step::Activation,
        (0..=2, 0 | 1, 0 | 1) if projections + norms + activations <= 3 && elementwise <= 8 => Step::Chain,
        _ => Step::Unknown,
    }
}

/// The operators of PyTorch by what they do, without `aten.` and without underscores at the ends.
const KNOWN: &[(Kind, &str)] = &[
    (
        Kind::Projection,
        "linear addmm mv addmv convolution conv1d conv2d conv3d conv_transpose1d conv_transpose2d \
         slow_conv2d_forward mkldnn_convolution bilinear addbmm sum cumsum avg_pool1d avg_pool2d \
         adaptive_avg_pool1d adaptive_avg_pool2d upsample_bilinear2d upsample_bicubic2d index_add \
         scatter_add scatter_reduce",
    ),
    (Kind::Product, "matmul mm bmm baddbmm einsum dot inner"),
    (Kind::Attention, "scaled_dot_product_attention native_multi_head_attention"),
    (Kind::Softmax, "softmax safe_softmax log_softmax"),
    (
        Kind::Norm,
        "layer_norm native_layer_norm rms_norm fused_rms_norm group_norm native_group_norm batch_norm \
         native_batch_norm cudnn_batch_norm instance_norm linalg_vector_norm norm",
    ),
    (Kind::Root, "rsqrt sqrt"),
    (Kind::Mean, "mean var var_mean std std_mean"),
    (
        Kind::Activation,
        "silu gelu relu relu6 tanh sigmoid hardswish hardsigmoid hardtanh leaky_relu prelu elu selu celu \
         mish softplus logsigmoid log_sigmoid_forward exp expm1 log log1p erf glu squared_relu exp2 log2",
    ),
    (
        Kind::Elementwise,
        "add sub rsub mul div neg pow square reciprocal addcmul addcdiv abs clamp clamp_min clamp_max \
         minimum maximum cos sin where masked_fill lerp sign dropout native_dropout outer rotary_emb \
         rotary_embedding",
    ),
    (Kind::Conversion, "to_copy to type_as"),
    (
        Kind::Lookup,
        "embedding index index_select gather take take_along_dim cat stack masked_scatter masked_select \
         index_put index_copy scatter select_scatter slice_scatter copy clone constant_pad_nd pad roll \
         flip repeat repeat_interleave tril triu fill zeros_like ones_like unfold im2col pixel_shuffle \
         pixel_unshuffle max_pool2d amax max amin min upsample_nearest2d split chunk nonzero arange \
         eq ne lt le gt ge logical_not logical_and logical_or bitwise_not bitwise_and bitwise_or",
    ),
];

/// What an operator does. Those of other namespaces are known by words in their names.
fn kind_of(name: &str) -> Kind {
    let (namespace, operator) = name.split_once('.').unwrap_or(("", name));
    let operator = operator.trim_matches('_');
    let known = KNOWN
        .iter()
        .find(|(_, operators)| namespace == "aten" && operators.split(' ').any(|known| known == operator));
    if let Some(&(kind, _)) = known {
        return kind;
    }
    let has = |words: &[&str]| words.iter().any(|word| operator.contains(word));
    if has(&["attention", "attn"]) {
        Kind::Attention
    } else if namespace == "aten" {
        Kind::Unknown
    } else if has(&["layer_norm", "layernorm", "rms_norm", "rmsnorm"]) {
        Kind::Norm
    } else if has(&["silu_and_mul", "gelu_and_mul", "gelu_tanh_and_mul", "swiglu"]) {
        Kind::Activation
    } else if has(&["rotary"]) {
        Kind::Elementwise
    } else {
        Kind::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The step of operators: `linear`, or `mul*2` for two.
    fn step(operators: &str) -> Step {
        let count = |operator: &str| {
            let (name, count) = operator.split_once('*').unwrap_or((operator, "1"));
            let name = if name.contains('.') { name.to_owned() } else { format!("aten.{name}") };
            (name, count.parse().unwrap())
        };
        step_of_operations(&operators.split(' ').map(count).collect())
    }

    #[test]
    fn modules_are_told_by_their_operators() {
        for (step_of, operators) in [
            (Step::Single, "linear"),
            (Step::Single, "linear _to_copy"),
            (Step::Single, "convolution"),
            (Step::Single, "embedding"),
            (Step::Single, "cat"),
            (Step::Single, "embedding masked_scatter"),
            (Step::Single, "eq index_put"),
            (Step::Single, "add cat"),
            (Step::Several, "sub div _to_copy"),
            (Step::Single, "add"),
            (Step::Several, "add*2"),
            (Step::Several, "mul linear"),
            (Step::Several, "layer_norm"),
            (Step::Several, "add layer_norm"),
            (Step::Several, "_fused_rms_norm"),
            (Step::Several, "_to_copy*2 pow mean add rsqrt mul*2"),
            (Step::Several, "add*2 _to_copy*2 pow mean rsqrt mul*2"),
            (Step::Activation, "gelu"),
            (Step::Activation, "silu mul"),
            (Step::Chain, "silu mul linear"),
            (Step::Chain, "gelu linear"),
            (Step::Chain, "layer_norm linear"),
            (Step::Chain, "linear*2"),
            (Step::Chain, "matmul linear"),
            (Step::Chain, "mul*4 pow add*2 tanh"),
            (Step::Attention, "scaled_dot_product_attention linear"),
            (Step::Attention, "mul*4 neg*2 cat*2 add*2 scaled_dot_product_attention linear"),
            (Step::Attention, "matmul*2 mul add softmax _to_copy*2 linear"),
            (Step::Attention, "matmul mul softmax"),
            (Step::Attention, "_scaled_dot_product_flash_attention_for_cpu"),
            (Step::Attention, "vllm.unified_attention_with_output linear"),
            (Step::Several, "_C.fused_add_rms_norm"),
            (Step::Activation, "_C.silu_and_mul"),
            (Step::Unknown, "linear topk"),
            (Step::Unknown, "mine.linear"),
            (Step::Unknown, "linear*4 scaled_dot_product_attention"),
            (Step::Unknown, "scaled_dot_product_attention*2"),
            (Step::Unknown, "linear*3 silu mul layer_norm"),
        ] {
            assert_eq!(step(operators), step_of, "{operators}");
        }
    }

    #[test]
    fn no_operator_is_of_two_kinds() {
        let mut all: Vec<&str> = KNOWN.iter().flat_map(|(_, operators)| operators.split(' ')).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
