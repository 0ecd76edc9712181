//! Which earlier entries a module computes from: as a run recorded it, else as its family's file in `models/` has it, and for what
//! no file knows, read off the nesting of the names and the order of execution.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use golden::{Entry, Role};
use indexmap::IndexMap;

use super::flow::{DataFlow, RecordedFlow, each_once, flows_between, recorded_flows};
use super::nesting::{MOST_SOURCES, Nesting};
use super::operators::step_of;
use super::site::{Site, Source};
use crate::model::{
    Graph, Known, Layers, Model, Place, RowAlignment, Step, any_model, family_of, model_of, split_call,
};

/// How many modules are looked at on the way up to them.
const MOST_MODULES: usize = 4096;

/// The inputs of each entry among the entries before it; of an entry for which `usable` is false, nothing is known.
///
/// What a run recorded of an entry's data flow overrules what the model's file and the names tell.
pub(super) fn sites(
    model: &Model,
    entries: &[&Entry],
    usable: &[bool],
    flows: &[Option<RecordedFlow>],
) -> Vec<Site> {
    let graph = &model.graph;
    let names = entries.iter().map(|entry| entry.name.as_str());
    let places: Vec<Option<Place>> = names.clone().map(|name| graph.place(split_call(name).0)).collect();
    let mut index: HashMap<(Place, &str), BTreeMap<u64, usize>> = HashMap::new();
    for (at, (entry, place)) in entries.iter().zip(&places).enumerate().filter(|&(at, _)| usable[at]) {
        if let Some(place) = *place {
            index.entry((place, split_call(&entry.name).1)).or_default().insert(entry.step, at);
        }
    }
    let mut structure = Structure {
        graph,
        index,
        layers: graph.layers(names),
        entries,
        places: &places,
        nestings: HashMap::new(),
    };
    let site = |(index, usable): (usize, &bool)| {
        let site = structure.site(index);
        if *usable {
            let entry = entries[index];
            structure.nestings.entry(entry.step).or_default().add(&entry.name, index);
        }
        site
    };
    let known: Vec<Site> = usable.iter().enumerate().map(site).collect();
    let between = flows_between(flows, usable);
    let recorded = |(index, flow): (usize, Option<RecordedFlow>)| {
        flow.map(|flow| site_of(&flow, entries[index], usable, known[index].step))
    };
    let recorded: Vec<Option<Site>> = between.into_iter().enumerate().map(recorded).collect();
    recorded.into_iter().zip(known).map(|(recorded, known)| recorded.unwrap_or(known)).collect()
}

/// A site by its recorded flow; `known` is its step where no operators were recorded.
fn site_of(flow: &RecordedFlow, entry: &Entry, usable: &[bool], known: Step) -> Site {
    let given = entry.role == Role::Input && flow.inputs.is_empty() && flow.complete;
    let step = if given { Step::Input } else { step_of(flow).unwrap_or(known) };
    // Of an entry that cannot be compared itself, the flow is as it was recorded.
    let inputs = flow.inputs.iter().copied().filter(|&(input, _)| usable[input]).collect();
    let sources = each_once(inputs).into_iter().map(|(index, rows)| Source { index, rows }).collect();
    Site { step, sources }
}

/// What each module does, in the order of a dump's entries.
pub fn steps(entries: &[Entry]) -> Vec<Step> {
    let all: Vec<&Entry> = entries.iter().collect();
    let sites = sites(model_of(entries), &all, &vec![true; all.len()], &recorded_flows(entries));
    sites.into_iter().map(|site| site.step).collect()
}

/// What an entry of a dump is computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteFlow {
    /// What lies between, as far as rounding is concerned.
    pub step: Step,
    /// The indices of the entries, each with how its rows belong to the entry's.
    pub inputs: Vec<(usize, RowAlignment)>,
    /// How many of each operator lie between; none where they were not recorded.
    pub operations: IndexMap<String, u64>,
}

/// What each of a dump's entries is computed from, and where that is known from.
///
/// Entries that are not `kept` are left out: those that were computed from them are computed from their inputs.
pub fn flow_of_dump(entries: &[Entry], kept: &[bool]) -> (DataFlow, Vec<SiteFlow>) {
    let flows = recorded_flows(entries);
    let family = family_of(entries);
    let source = match family {
        _ if flows.iter().any(Option::is_some) => DataFlow::Golden,
        Some(_) => DataFlow::Family,
        None => DataFlow::Names,
    };
    let all: Vec<&Entry> = entries.iter().collect();
    let sites = sites(family.unwrap_or(any_model()), &all, kept, &flows);
    let flow = |(site, between): (Site, Option<RecordedFlow>)| SiteFlow {
        step: site.step,
        inputs: site.sources.iter().map(|source| (source.index, source.rows)).collect(),
        operations: between.map(|flow| flow.operations).unwrap_or_default(),
    };
    (source, sites.into_iter().zip(flows_between(&flows, kept)).map(flow).collect())
}

struct Structure<'a> {
    graph: &'a Graph,
    /// The usable entries of known sites, by place and call, then by step.
    index: HashMap<(Place, &'a str), BTreeMap<u64, usize>>,
    /// The layers of which something was recorded, usable or not.
    layers: Layers,
    entries: &'a [&'a Entry],
    places: &'a [Option<Place>],
    /// The usable entries so far, by step.
    nestings: HashMap<u64, Nesting<'a>>,
}

impl Structure<'_> {
    fn site(&self, at: usize) -> Site {
        let entry = self.entries[at];
        if entry.role == Role::Input {
            return Site { step: Step::Input, sources: Vec::new() };
        }
        let call = split_call(&entry.name).1;
        let Some(known) = self.places[at].and_then(|place| self.known(place, entry.step)) else {
            return Site { step: Step::Unknown, sources: self.nearby(at) };
        };
        let mut step = known.step;
        let mut sources: Vec<Source> = Vec::new();
        for (alternatives, rows) in &known.inputs {
            let recorded = alternatives.iter().find_map(|&place| self.recorded(place, call, at));
            match recorded {
                Some(index) => {
                    sources.push(Source { index, rows: *rows });
                    if step == Step::Attention {
                        sources.extend(self.cached(alternatives, call, at));
                    }
                }
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

    fn known(&self, place: Place, step: u64) -> Option<Known> {
        self.graph.known(place, &self.layers, |place| {
            self.index.get(&(place, "")).is_some_and(|steps| steps.contains_key(&step))
        })
    }

    /// The index of a usable entry of a place before another of the same step, of the same call of the module if it ran
    /// several times.
    fn recorded(&self, place: Place, call: &str, before: usize) -> Option<usize> {
        let step = self.entries[before].step;
        let of = |call: &str| self.index.get(&(place, call))?.get(&step).copied();
        let same_call = (!call.is_empty()).then(|| of(call)).flatten();
        same_call.or_else(|| of("")).filter(|&index| index < before)
    }

    /// What an attention reads from the cache: the same inputs of the steps before its own.
    fn cached(&self, alternatives: &[Place], call: &str, before: usize) -> Vec<Source> {
        let step = self.entries[before].step;
        let steps = alternatives.iter().find_map(|&place| self.index.get(&(place, call)));
        let earlier = steps.into_iter().flat_map(|steps| steps.range(..step));
        earlier.map(|(_, &index)| Source { index, rows: RowAlignment::Mixed }).collect()
    }

    /// The recorded entries nearest before modules that were not recorded.
    fn walk_up(&self, places: &[Place], call: &str, before: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut seen: HashSet<Place> = HashSet::new();
        let mut next: VecDeque<Place> = places.iter().copied().collect();
        while let Some(place) = next.pop_front() {
            if found.len() == MOST_SOURCES || seen.len() == MOST_MODULES {
                break;
            }
            if !seen.insert(place) {
                continue;
            }
            if let Some(index) = self.recorded(place, call, before) {
                found.insert(index);
                continue;
            }
            match self.graph.past_layers(place, &self.layers) {
                Some(inputs) => next.extend(inputs),
                None => {
                    let step = self.entries[before].step;
                    let inputs = self.known(place, step).map(|known| known.inputs).unwrap_or_default();
                    next.extend(inputs.into_iter().flat_map(|(alternatives, _)| alternatives));
                }
            }
        }
        found
    }

    /// The general rule: a module computes from the modules inside it, from those before it in the same container, and
    /// from what came before that container.
    fn nearby(&self, at: usize) -> Vec<Source> {
        let name = self.entries[at].name.as_str();
        let Some(nesting) = self.nestings.get(&self.entries[at].step) else { return Vec::new() };
        let parent = name.rsplit_once('.').map(|(parent, _)| parent).filter(|parent| !parent.is_empty());
        let mut found = BTreeSet::new();
        if let Some(inside) = nesting.inside(name) {
            found.insert(inside.last);
            found.extend(inside.before);
        } else if let Some(inside) = parent.and_then(|parent| nesting.inside(parent)) {
            found.extend(inside.children.iter().copied());
            found.extend(inside.before);
        } else {
            found.extend(nesting.last);
        }
        found.into_iter().map(|index| Source { index, rows: RowAlignment::Mixed }).collect()
    }
}

#[cfg(test)]
mod tests {
    use golden::Dump;

    use super::*;
    use crate::model::tests::entry;

    /// The step of the last of some sites, and the names of its inputs.
    fn last<'a>(names: &[&'a str]) -> (Step, Vec<&'a str>) {
        let entries: Vec<Entry> = names.iter().map(|name| entry(name)).collect();
        let entries: Vec<&Entry> = entries.iter().collect();
        let site = sites(
            model_of(entries.iter().copied()),
            &entries,
            &vec![true; names.len()],
            &vec![None; names.len()],
        )
        .pop()
        .unwrap();
        (site.step, site.sources.iter().map(|source| names[source.index]).collect())
    }

    #[test]
    fn every_site_of_the_bundled_dumps_has_known_inputs() {
        let goldens = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/fixtures/goldens");
        for name in ["shapes-wide-bfloat16", "shapes-text-float32"] {
            let dump = Dump::open(goldens.join(name)).unwrap();
            let entries: Vec<&Entry> = dump.entries().iter().collect();
            let (usable, flows) = (vec![true; entries.len()], vec![None; entries.len()]);
            let sites = sites(model_of(dump.entries()), &entries, &usable, &flows);
            for (site, entry) in sites.iter().zip(&entries) {
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
