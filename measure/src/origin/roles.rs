//! What sites are for, found out from the operators, shapes and data flow where their names tell nothing.

use golden::{Entry, Role};
use indexmap::IndexMap;

use super::flow::RecordedFlow;
use super::operators::{Norm, norm_of, step_of};
use crate::model::{CachePart, SiteRole, Step};

/// The most channels that a picture has.
const COLOURS: usize = 3;

/// What each entry is for by what was recorded of its data flow; `None` of what is not recognised.
///
/// The flow is by indices of `entries`.
pub fn found_roles(entries: &[&Entry], flows: &[Option<RecordedFlow>]) -> Vec<Option<SiteRole>> {
    let mut roles: Vec<Option<SiteRole>> = entries.iter().zip(flows).map(own_role).collect();
    let all = Found { entries, flows };
    for (index, entry) in entries.iter().enumerate() {
        let cached = CachePart::of(&entry.name).map(|part| part.what);
        let role = match cached {
            Some("keys") => SiteRole::Keys,
            Some(_) => SiteRole::Values,
            None => continue,
        };
        all.projections(index).into_iter().for_each(|projection| roles[projection] = Some(role));
    }
    for (index, flow) in flows.iter().enumerate() {
        if flow.as_ref().and_then(step_of) == Some(Step::Attention) {
            all.attended(index, &mut roles);
        }
    }
    roles
}

/// What an entry is for by itself.
fn own_role((entry, flow): (&&Entry, &Option<RecordedFlow>)) -> Option<SiteRole> {
    let flow = flow.as_ref()?;
    if entry.role == Role::Input && flow.inputs.is_empty() {
        let is_picture = matches!(entry.shape[..], [_, COLOURS, height, width] if height.min(width) > 1);
        return (is_picture && entry.dtype.is_float()).then_some(SiteRole::Pixels);
    }
    let has = |name: &str| flow.operations.contains_key(name);
    match (has("aten.cos"), has("aten.sin"), norm_of(&flow.operations)) {
        (true, false, _) => Some(SiteRole::Cos),
        (false, true, _) => Some(SiteRole::Sin),
        (_, _, Some(Norm::RootMeanSquare)) => Some(SiteRole::RmsNorm),
        (_, _, Some(Norm::Layer)) => Some(SiteRole::LayerNorm),
        _ => None,
    }
}

/// The entries, and what they were computed from.
struct Found<'a> {
    entries: &'a [&'a Entry],
    flows: &'a [Option<RecordedFlow>],
}

impl Found<'_> {
    fn inputs(&self, index: usize) -> impl Iterator<Item = usize> {
        self.flows[index].iter().flat_map(|flow| flow.inputs.iter().map(|&(input, _)| input))
    }

    /// The inputs of an entry that are projections of the same step, in order of execution.
    fn projections(&self, index: usize) -> Vec<usize> {
        let step = self.entries[index].step;
        let is_projection = |&input: &usize| {
            let operations = self.flows[input].as_ref().map(|flow| &flow.operations);
            self.entries[input].step == step && operations.is_some_and(is_projection)
        };
        let mut projections: Vec<usize> = self.inputs(index).filter(is_projection).collect();
        projections.sort_unstable();
        projections
    }

    /// Finds queries, keys and values among what an attention computes from. Keys and values have one input and one shape; of
    /// the three the queries come first, unless the cache tells which the others are.
    fn attended(&self, attention: usize, roles: &mut [Option<SiteRole>]) {
        let width = |index: usize| self.entries[index].shape.last().copied();
        let of = |index: usize| self.inputs(index).collect::<Vec<usize>>();
        match self.projections(attention)[..] {
            [fused] => {
                let given = self.inputs(fused).next().and_then(width);
                if given.zip(width(fused)).is_some_and(|(given, width)| width == 3 * given) {
                    roles[fused] = Some(SiteRole::FusedQkv);
                }
            }
            [a, b, c] => {
                let is = |index: usize, role| roles[index] == Some(role);
                let cached = [a, b, c].into_iter().find(|&at| is(at, SiteRole::Keys));
                let cached = cached.zip([a, b, c].into_iter().find(|&at| is(at, SiteRole::Values)));
                let (keys, values) = match cached {
                    Some(cached) => cached,
                    None if of(a) == of(b) && of(b) != of(c) => (a, b),
                    None => (b, c),
                };
                let queries = [a, b, c].into_iter().find(|&at| at != keys && at != values);
                if self.entries[keys].shape == self.entries[values].shape && of(keys) == of(values) {
                    roles[keys] = Some(SiteRole::Keys);
                    roles[values] = Some(SiteRole::Values);
                    queries.into_iter().for_each(|queries| roles[queries] = Some(SiteRole::Queries));
                }
            }
            _ => {}
        }
    }
}

/// Whether some operators are a projection and nothing else, perhaps with its bias.
fn is_projection(operations: &IndexMap<String, u64>) -> bool {
    let mut linear = 0;
    for (name, &count) in operations {
        match name.as_str() {
            "aten.linear" | "aten.addmm" | "aten.mm" | "aten.matmul" => linear += count,
            "aten.add" | "aten._to_copy" => (),
            _ => return false,
        }
    }
    linear == 1
}

#[cfg(test)]
mod tests {
    use golden::RowAlignment;

    use super::*;
    use crate::model::tests::entry;

    /// The roles of sites: each with a width, its inputs, and its operators.
    fn roles(sites: &[(&str, usize, &[usize], &str)]) -> Vec<Option<SiteRole>> {
        let entries: Vec<Entry> = sites
            .iter()
            .map(|&(name, width, ..)| Entry { shape: vec![1, 4, width], ..entry(name) })
            .collect();
        let flow = |&(_, _, inputs, operators): &(&str, usize, &[usize], &str)| {
            let inputs = inputs.iter().map(|&input| (input, RowAlignment::Same)).collect();
            let operations = operators.split_whitespace().map(|name| (format!("aten.{name}"), 1)).collect();
            Some(RecordedFlow { inputs, operations, complete: true })
        };
        let flows: Vec<_> = sites.iter().map(flow).collect();
        found_roles(&entries.iter().collect::<Vec<_>>(), &flows)
    }

    #[test]
    fn an_attention_tells_queries_keys_and_values() {
        use SiteRole::{FusedQkv, Keys, Queries, RmsNorm, Values};
        let attention = "scaled_dot_product_attention linear";
        let own = roles(&[
            ("x", 8, &[], "embedding"),
            ("a", 8, &[0], "pow mean add rsqrt mul"),
            ("b", 8, &[1], "linear"),
            ("c", 4, &[1], "linear add"),
            ("d", 4, &[1], "linear add"),
            ("e", 8, &[2, 3, 4], attention),
            ("f", 24, &[5], "linear"),
            ("g", 8, &[6], attention),
        ]);
        let expected =
            [None, Some(RmsNorm), Some(Queries), Some(Keys), Some(Values), None, Some(FusedQkv), None];
        assert_eq!(own, expected);
        // Keys and values of another tower; then a cache that tells which is which.
        let cross = roles(&[
            ("image", 8, &[], "embedding"),
            ("text", 8, &[], "embedding"),
            ("a", 4, &[0], "linear"),
            ("b", 4, &[0], "linear"),
            ("c", 8, &[1], "linear"),
            ("e", 8, &[2, 3, 4], attention),
        ]);
        assert_eq!(cross[2..5], [Some(Keys), Some(Values), Some(Queries)]);
        let cached = roles(&[
            ("x", 8, &[], "embedding"),
            ("a", 8, &[0], "linear"),
            ("b", 8, &[0], "linear"),
            ("c", 8, &[0], "linear"),
            ("past_key_values.0.keys", 8, &[3], "cat"),
            ("past_key_values.0.values", 8, &[1], "cat"),
            ("e", 8, &[1, 2, 3], attention),
        ]);
        assert_eq!(cached[1..4], [Some(Values), Some(Queries), Some(Keys)]);
    }

    #[test]
    fn what_is_not_recognised_is_nothing() {
        let found = roles(&[
            ("x", 8, &[], "embedding"),
            ("a", 8, &[0], "linear gelu"),
            ("b", 8, &[0, 1], "scaled_dot_product_attention"),
            ("c", 8, &[0], "layer_norm"),
            ("d", 8, &[0], "layer_norm linear"),
            ("e", 8, &[], "matmul cos mul"),
            ("f", 8, &[], "sin"),
            ("g", 8, &[], "sin cos"),
        ]);
        let expected = [
            None,
            None,
            None,
            Some(SiteRole::LayerNorm),
            None,
            Some(SiteRole::Cos),
            Some(SiteRole::Sin),
            None,
        ];
        assert_eq!(found, expected);
    }
}
