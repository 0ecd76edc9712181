//! Which earlier entries a module computes from: as its family's file in `models/` has it, and for what no file knows, read off
//! the nesting of the names and the order of execution.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use golden::{Entry, Role};

use super::nesting::{MOST_SOURCES, Nesting};
use super::site::{Site, Source};
use crate::model::{Graph, Known, Layers, Model, Place, RowAlignment, Step, model_of, split_call};

/// How many modules are looked at on the way up to them.
const MOST_MODULES: usize = 4096;

/// The inputs of each entry among the entries before it; of an entry for which `usable` is false, nothing is known.
pub(super) fn sites(model: &Model, entries: &[&Entry], usable: &[bool]) -> Vec<Site> {
    let graph = &model.graph;
    let names = entries.iter().map(|entry| entry.name.as_str());
    let places: Vec<Option<Place>> = names.clone().map(|name| graph.place(split_call(name).0)).collect();
    let recorded = places.iter().zip(names.clone()).zip(usable).enumerate();
    let recorded = recorded.filter(|(_, (_, usable))| **usable);
    let mut structure = Structure {
        graph,
        index: recorded
            .filter_map(|(index, ((place, name), _))| Some((((*place)?, split_call(name).1), index)))
            .collect(),
        layers: graph.layers(names),
        entries,
        places: &places,
        nesting: Nesting::default(),
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
    sites(model_of(entries), &all, &vec![true; all.len()]).into_iter().map(|site| site.step).collect()
}

struct Structure<'a> {
    graph: &'a Graph,
    /// The usable entries of known sites, by place and call.
    index: HashMap<(Place, &'a str), usize>,
    /// The layers of which something was recorded, usable or not.
    layers: Layers,
    entries: &'a [&'a Entry],
    places: &'a [Option<Place>],
    /// The usable entries so far.
    nesting: Nesting<'a>,
}

impl Structure<'_> {
    fn site(&self, at: usize) -> Site {
        let entry = self.entries[at];
        if entry.role == Role::Input {
            return Site { step: Step::Input, sources: Vec::new() };
        }
        let call = split_call(&entry.name).1;
        let Some(known) = self.places[at].and_then(|place| self.known(place)) else {
            return Site { step: Step::Unknown, sources: self.nearby(at) };
        };
        let mut step = known.step;
        let mut sources: Vec<Source> = Vec::new();
        for (alternatives, rows) in &known.inputs {
            let recorded = alternatives.iter().find_map(|&place| self.recorded(place, call, at));
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

    fn known(&self, place: Place) -> Option<Known> {
        self.graph.known(place, &self.layers, |place| self.index.contains_key(&(place, "")))
    }

    /// The index of a usable entry of a place before another, of the same call of the module if it ran several times.
    fn recorded(&self, place: Place, call: &str, before: usize) -> Option<usize> {
        let same_call = (!call.is_empty()).then(|| self.index.get(&(place, call))).flatten();
        same_call.or_else(|| self.index.get(&(place, ""))).copied().filter(|&index| index < before)
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
                    let inputs = self.known(place).map(|known| known.inputs).unwrap_or_default();
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
        let site =
            sites(model_of(entries.iter().copied()), &entries, &vec![true; names.len()]).pop().unwrap();
        (site.step, site.sources.iter().map(|source| names[source.index]).collect())
    }

    #[test]
    fn every_site_of_the_bundled_dumps_has_known_inputs() {
        let goldens = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/fixtures/goldens");
        for name in ["shapes-wide-bfloat16", "shapes-text-float32"] {
            let dump = Dump::open(goldens.join(name)).unwrap();
            let entries: Vec<&Entry> = dump.entries().iter().collect();
            let sites = sites(model_of(dump.entries()), &entries, &vec![true; entries.len()]);
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
