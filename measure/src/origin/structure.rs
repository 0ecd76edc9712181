//! Which earlier entries a module computes from: read off the module paths of the public `modeling.py`, and for other
//! structures off the nesting of the names and the order of execution.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use golden::{Entry, Role};

use super::nesting::{MOST_SOURCES, Nesting};
use super::site::{RowAlignment, Site, Source, Step};

/// The path of the vision transformer.
const TOWER: &str = "vision_model.radio_model.model";

/// The path of the language model without its head.
const LLAMA: &str = "language_model.model";

/// How many modules are looked at on the way up to them.
const MOST_MODULES: usize = 4096;

/// What the public code says of a module: the step, and the names of its inputs. Of alternatives the first that was
/// recorded counts: a module that does nothing in this model leaves no entry.
struct Known {
    step: Step,
    inputs: Vec<(Vec<String>, RowAlignment)>,
}

/// The inputs of each entry among the entries before it; of an entry for which `usable` is false, nothing is known.
pub(super) fn sites(entries: &[&Entry], usable: &[bool]) -> Vec<Site> {
    let recorded = entries.iter().zip(usable).enumerate().filter(|(_, (_, usable))| **usable);
    let numbers = |list: &str| entries.iter().filter_map(|entry| number_in(list, &entry.name)).collect();
    let mut structure = Structure {
        index: recorded.map(|(index, (entry, _))| (entry.name.as_str(), index)).collect(),
        entries,
        nesting: Nesting::default(),
        blocks: numbers(&format!("{TOWER}.blocks")),
        layers: numbers(&format!("{LLAMA}.layers")),
    };
    let site = |(index, usable): (usize, &bool)| {
        let site = structure.site(index);
        if *usable {
            structure.nesting.add(&entries[index].name, index);
        }
        site
    };
    usable.iter().enumerate().map(site).collect()
}

/// What each module does, in the order of a dump's entries.
pub fn steps(entries: &[Entry]) -> Vec<Step> {
    let all: Vec<&Entry> = entries.iter().collect();
    sites(&all, &vec![true; all.len()]).into_iter().map(|site| site.step).collect()
}

struct Structure<'a> {
    index: HashMap<&'a str, usize>,
    entries: &'a [&'a Entry],
    /// The usable entries so far.
    nesting: Nesting<'a>,
    /// The numbers of the tower's blocks and of the language model's layers of which something was recorded.
    blocks: BTreeSet<usize>,
    layers: BTreeSet<usize>,
}

impl Structure<'_> {
    fn site(&self, at: usize) -> Site {
        let entry = self.entries[at];
        if entry.role == Role::Input {
            return Site { step: Step::Input, sources: Vec::new() };
        }
        let (name, call) = split_call(&entry.name);
        let Some(known) = self.known(name) else {
            return Site { step: Step::Unknown, sources: self.nearby(at) };
        };
        let mut step = known.step;
        let mut sources: Vec<Source> = Vec::new();
        for (alternatives, rows) in &known.inputs {
            let recorded = alternatives.iter().find_map(|name| self.recorded(name, call, at));
            match recorded {
                Some(index) => sources.push(Source { index, rows: *rows }),
                None => {
                    // Something between was not recorded: its own inputs stand for it.
                    step = Step::Unknown;
                    let found = self.walk_up(alternatives, call, at);
                    sources
                        .extend(found.into_iter().map(|index| Source { index, rows: RowAlignment::Mixed }));
                }
            }
        }
        sources.sort_by_key(|source| source.index);
        sources.dedup_by_key(|source| source.index);
        if sources.is_empty() && !known.inputs.is_empty() {
            sources = self.nearby(at);
        }
        Site { step, sources }
    }

    /// The index of a usable entry of a name before another, of the same call of the module if it ran several times.
    fn recorded(&self, name: &str, call: &str, before: usize) -> Option<usize> {
        let same_call =
            (!call.is_empty()).then(|| self.index.get(format!("{name}{call}").as_str())).flatten();
        same_call.or_else(|| self.index.get(name)).copied().filter(|&index| index < before)
    }

    /// The recorded entries nearest before modules that were not recorded.
    fn walk_up(&self, names: &[String], call: &str, before: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut seen: HashSet<String> = HashSet::new();
        let mut next: VecDeque<String> = names.iter().cloned().collect();
        while let Some(name) = next.pop_front() {
            if found.len() == MOST_SOURCES || seen.len() == MOST_MODULES {
                break;
            }
            if !seen.insert(name.clone()) {
                continue;
            }
            if let Some(index) = self.recorded(&name, call, before) {
                found.insert(index);
                continue;
            }
            match self.way_past(&name) {
                Some(inputs) => next.extend(inputs),
                None => {
                    let inputs = self.known(&name).map(|known| known.inputs).unwrap_or_default();
                    next.extend(inputs.into_iter().flat_map(|(alternatives, _)| alternatives));
                }
            }
        }
        found
    }

    /// What the output of a block or layer computes from that is not recorded, where nothing of it is: the last before it of
    /// which something is. What lies between adds nothing, however many there are.
    fn way_past(&self, name: &str) -> Option<Vec<String>> {
        let rotary = ["cos", "sin"].map(|output| format!("{LLAMA}.rotary_emb.{output}"));
        let lists = [
            (format!("{TOWER}.blocks"), &self.blocks, Vec::new()),
            (format!("{LLAMA}.layers"), &self.layers, rotary.to_vec()),
        ];
        lists.into_iter().find_map(|(list, numbers, mut inputs)| {
            let number = name.strip_prefix(&list)?.strip_prefix('.')?.parse::<usize>().ok()?;
            let before = numbers.range(..number).next_back().copied().unwrap_or(0);
            inputs.push(format!("{list}.{before}"));
            (number > 0 && !numbers.contains(&number)).then_some(inputs)
        })
    }

    /// The general rule: a module computes from the modules inside it, from those before it in the same container, and
    /// from what came before that container.
    fn nearby(&self, at: usize) -> Vec<Source> {
        let name = self.entries[at].name.as_str();
        let parent = name.rsplit_once('.').map(|(parent, _)| parent).filter(|parent| !parent.is_empty());
        let mut found = BTreeSet::new();
        if let Some(inside) = self.nesting.inside(name) {
            found.insert(inside.last);
            found.extend(inside.before);
        } else if let Some(inside) = parent.and_then(|parent| self.nesting.inside(parent)) {
            found.extend(inside.children.iter().copied());
            found.extend(inside.before);
        } else {
            found.extend(self.nesting.last);
        }
        found.into_iter().map(|index| Source { index, rows: RowAlignment::Mixed }).collect()
    }

    fn known(&self, name: &str) -> Option<Known> {
        if let Some(rest) = name.strip_prefix(TOWER).and_then(|rest| rest.strip_prefix(".blocks.")) {
            let (number, site) = rest.split_once('.').unwrap_or((rest, ""));
            return tower_block(number.parse().ok()?, site);
        }
        if let Some(rest) = name.strip_prefix(LLAMA).and_then(|rest| rest.strip_prefix(".layers.")) {
            let (number, site) = rest.split_once('.').unwrap_or((rest, ""));
            return llama_layer(number.parse().ok()?, site);
        }
        let tower = |site: &str| format!("{TOWER}.{site}");
        let llama = |site: &str| format!("{LLAMA}.{site}");
        let of = |step, input: String, rows| Some(Known { step, inputs: vec![(vec![input], rows)] });
        if let Some(site) = name.strip_prefix(TOWER).and_then(|rest| rest.strip_prefix('.')) {
            let conditioner = "vision_model.radio_model.input_conditioner".to_owned();
            return match site {
                "patch_generator.im_to_patches" => of(Step::Single, conditioner, RowAlignment::Mixed),
                "patch_generator.embedder" => {
                    of(Step::Single, tower("patch_generator.im_to_patches"), RowAlignment::Same)
                }
                "patch_generator.cls_token" => {
                    of(Step::Single, tower("patch_generator.embedder"), RowAlignment::FromEnd)
                }
                "patch_generator" => of(Step::Single, tower("patch_generator.cls_token"), RowAlignment::Same),
                "blocks" => {
                    of(Step::Single, tower(&format!("blocks.{}", self.blocks.last()?)), RowAlignment::Same)
                }
                "norm" => of(Step::Several, tower("blocks"), RowAlignment::Same),
                _ => None,
            };
        }
        if let Some(site) = name.strip_prefix(LLAMA).and_then(|rest| rest.strip_prefix('.')) {
            return match site {
                "embed_tokens" => of(Step::Single, "input_ids".to_owned(), RowAlignment::Mixed),
                "norm" => {
                    of(Step::Several, llama(&format!("layers.{}", self.layers.last()?)), RowAlignment::Same)
                }
                "rotary_emb.cos" | "rotary_emb.sin" => Some(Known { step: Step::Single, inputs: Vec::new() }),
                _ => None,
            };
        }
        match name {
            "vision_model.radio_model.input_conditioner" => {
                of(Step::Several, "pixel_values".to_owned(), RowAlignment::Same)
            }
            "vision_model" => Some(Known {
                step: Step::Single,
                inputs: vec![(vec![tower("norm"), tower("blocks")], RowAlignment::FromEnd)],
            }),
            "mlp1.0" => of(Step::Several, "vision_model".to_owned(), RowAlignment::Mixed),
            "mlp1.1" => of(Step::Single, "mlp1.0".to_owned(), RowAlignment::Same),
            "mlp1.2" => of(Step::Activation, "mlp1.1".to_owned(), RowAlignment::Same),
            "mlp1.3" => of(Step::Single, "mlp1.2".to_owned(), RowAlignment::Same),
            "mlp1" => of(Step::Single, "mlp1.3".to_owned(), RowAlignment::Same),
            "inputs_embeds" => {
                let mut inputs = vec![(vec![llama("embed_tokens")], RowAlignment::Same)];
                // A request without a picture has none of its features.
                if self.index.contains_key("pixel_values") || self.index.contains_key("mlp1") {
                    inputs.push((vec!["mlp1".to_owned()], RowAlignment::Mixed));
                }
                Some(Known { step: Step::Single, inputs })
            }
            "language_model.model" => of(Step::Single, llama("norm"), RowAlignment::Same),
            "language_model.lm_head" => of(Step::Single, llama("norm"), RowAlignment::FromEnd),
            "language_model" => of(Step::Single, "language_model.lm_head".to_owned(), RowAlignment::Same),
            "step_logits" => of(Step::Unknown, "language_model.lm_head".to_owned(), RowAlignment::Mixed),
            _ => None,
        }
    }
}

/// The number of a list's module that a name is of or in.
fn number_in(list: &str, name: &str) -> Option<usize> {
    let rest = name.strip_prefix(list)?.strip_prefix('.')?;
    rest.split(['.', '#']).next()?.parse().ok()
}

/// A block of the vision transformer: `x + attn(norm1(x))`, then the same with `norm2` and `mlp`; where the tower
/// scales its branches, `ls1` and `ls2` do.
fn tower_block(number: usize, site: &str) -> Option<Known> {
    let block = |site: &str| vec![format!("{TOWER}.blocks.{number}.{site}")];
    let x = vec![match number.checked_sub(1) {
        Some(previous) => format!("{TOWER}.blocks.{previous}"),
        None => format!("{TOWER}.patch_generator"),
    }];
    let scaled = |scale: &str, branch: &str| [block(scale), block(branch)].concat();
    let (step, inputs) = match site {
        "norm1" => (Step::Several, vec![x]),
        "attn.qkv" => (Step::Single, vec![block("norm1")]),
        "attn.proj" => {
            return Some(Known {
                step: Step::Attention,
                inputs: vec![(block("attn.qkv"), RowAlignment::Mixed)],
            });
        }
        "attn" => (Step::Single, vec![block("attn.proj")]),
        "ls1" => (Step::Single, vec![block("attn")]),
        "norm2" => (Step::Several, vec![x, scaled("ls1", "attn")]),
        "mlp.fc1" => (Step::Single, vec![block("norm2")]),
        "mlp.act" => (Step::Activation, vec![block("mlp.fc1")]),
        "mlp.fc2" => (Step::Single, vec![block("mlp.act")]),
        "mlp" => (Step::Single, vec![block("mlp.fc2")]),
        "ls2" => (Step::Single, vec![block("mlp")]),
        "" => (Step::Several, vec![x, scaled("ls1", "attn"), scaled("ls2", "mlp")]),
        _ => return None,
    };
    Some(Known { step, inputs: inputs.into_iter().map(|names| (names, RowAlignment::Same)).collect() })
}

/// A layer of the language model: `x + self_attn(input_layernorm(x))`, then the same with `post_attention_layernorm`
/// and `mlp`, which is `down_proj(act_fn(gate_proj(x)) · up_proj(x))`.
fn llama_layer(number: usize, site: &str) -> Option<Known> {
    let layer = |site: &str| vec![format!("{LLAMA}.layers.{number}.{site}")];
    let x = vec![match number.checked_sub(1) {
        Some(previous) => format!("{LLAMA}.layers.{previous}"),
        None => "inputs_embeds".to_owned(),
    }];
    let (step, inputs) = match site {
        "input_layernorm" => (Step::Several, vec![x]),
        "self_attn.q_proj" | "self_attn.k_proj" | "self_attn.v_proj" => {
            (Step::Single, vec![layer("input_layernorm")])
        }
        "self_attn.o_proj" | "self_attn.attn_weights" => {
            let values = (site == "self_attn.o_proj").then_some("self_attn.v_proj");
            let inputs = ["self_attn.q_proj", "self_attn.k_proj"].into_iter().chain(values).map(layer);
            let rotary = ["cos", "sin"].map(|output| vec![format!("{LLAMA}.rotary_emb.{output}")]);
            let inputs = inputs.chain(rotary).map(|names| (names, RowAlignment::Mixed));
            return Some(Known { step: Step::Attention, inputs: inputs.collect() });
        }
        "self_attn" => (Step::Single, vec![layer("self_attn.o_proj")]),
        "post_attention_layernorm" => (Step::Several, vec![x, layer("self_attn")]),
        "mlp.gate_proj" | "mlp.up_proj" => (Step::Single, vec![layer("post_attention_layernorm")]),
        "mlp.act_fn" => (Step::Activation, vec![layer("mlp.gate_proj")]),
        // The product of both is no site of its own.
        "mlp.down_proj" => (Step::Several, vec![layer("mlp.act_fn"), layer("mlp.up_proj")]),
        "mlp" => (Step::Single, vec![layer("mlp.down_proj")]),
        "" => (Step::Several, vec![x, layer("self_attn"), layer("mlp")]),
        _ => return None,
    };
    Some(Known { step, inputs: inputs.into_iter().map(|names| (names, RowAlignment::Same)).collect() })
}

/// A name without the number of the call, and that number with its sign (`#1`), empty for the first.
fn split_call(name: &str) -> (&str, &str) {
    name.find('#').map_or((name, ""), |at| name.split_at(at))
}

#[cfg(test)]
mod tests {
    use golden::{Dtype, Dump};

    use super::*;

    fn entry(name: &str) -> Entry {
        Entry {
            order: 0,
            name: name.to_owned(),
            role: Role::Activation,
            module: String::new(),
            dtype: Dtype::Float32,
            shape: vec![1],
            sha256: String::new(),
            file: None,
            sketch: None,
            extra: serde_json::Map::new(),
        }
    }

    /// The step of the last of some sites, and the names of its inputs.
    fn last<'a>(names: &[&'a str]) -> (Step, Vec<&'a str>) {
        let entries: Vec<Entry> = names.iter().map(|name| entry(name)).collect();
        let entries: Vec<&Entry> = entries.iter().collect();
        let site = sites(&entries, &vec![true; names.len()]).pop().unwrap();
        (site.step, site.sources.iter().map(|source| names[source.index]).collect())
    }

    #[test]
    fn every_site_of_the_bundled_dumps_has_known_inputs() {
        let goldens = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/fixtures/goldens");
        for name in ["shapes-wide-bfloat16", "shapes-text-float32"] {
            let dump = Dump::open(goldens.join(name)).unwrap();
            let entries: Vec<&Entry> = dump.entries().iter().collect();
            for (site, entry) in sites(&entries, &vec![true; entries.len()]).iter().zip(&entries) {
                let without_inputs = entry.role == Role::Input || entry.name.contains("rotary_emb");
                assert_eq!(site.sources.is_empty(), without_inputs, "{name}: {}", entry.name);
                assert_eq!(site.step == Step::Unknown, entry.name == "step_logits", "{name}: {}", entry.name);
            }
        }
    }

    #[test]
    fn a_sum_has_all_its_branches() {
        let block = "vision_model.radio_model.model.blocks";
        let names = [".3", ".4.norm1", ".4.attn", ".4.norm2", ".4.mlp", ".4"].map(|s| format!("{block}{s}"));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(last(&names), (Step::Several, vec![names[0], names[2], names[4]]));
        let scaled = [".3", ".4.attn", ".4.ls1", ".4.norm2"].map(|s| format!("{block}{s}"));
        let scaled: Vec<&str> = scaled.iter().map(String::as_str).collect();
        assert_eq!(last(&scaled), (Step::Several, vec![scaled[0], scaled[2]]));
    }

    #[test]
    fn where_something_between_is_not_recorded_its_own_inputs_stand_for_it() {
        let layer = "language_model.model.layers";
        let names = ["inputs_embeds".to_owned(), format!("{layer}.0"), format!("{layer}.1.mlp.down_proj")];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(last(&names), (Step::Unknown, vec![names[1]]));
        // A layer's number may be anything, and nothing between is looked for.
        let far = format!("{layer}.{}", usize::MAX);
        assert_eq!(last(&[names[0], names[1], &far]), (Step::Unknown, vec![names[1]]));
        // Many layers deep, each with three ways up.
        let names = ["inputs_embeds".to_owned(), format!("{layer}.31")];
        assert_eq!(last(&[&names[0], &names[1]]), (Step::Unknown, vec!["inputs_embeds"]));
    }

    #[test]
    fn another_structure_is_read_off_names_and_order() {
        let names = ["x", "encoder.a.fc", "encoder.a.act", "encoder.a", "encoder.b.fc"];
        assert_eq!(last(&names), (Step::Unknown, vec!["encoder.a"]));
        assert_eq!(last(&names[..3]), (Step::Unknown, vec!["x", "encoder.a.fc"]));
        assert_eq!(last(&names[..4]), (Step::Unknown, vec!["x", "encoder.a.act"]));
        assert_eq!(last(&["x", "head"]), (Step::Unknown, vec!["x"]));
    }

    #[test]
    fn a_module_that_runs_again_has_the_inputs_of_that_run() {
        assert_eq!(last(&["mlp1.0", "mlp1.1", "mlp1.0#1", "mlp1.1#1"]), (Step::Single, vec!["mlp1.0#1"]));
    }
}
