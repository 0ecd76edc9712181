//! What each entry of a dump was computed from, as the model's family connects its sites.
//!
//! It is followed through every site that runs, recorded or not: from a site that is not recorded, the way goes on to what that was
//! computed from. Inputs and rows are those of the family's file; the operators are those of the public code. Where keys and values in the
//! cache come from is kept from step to step.

mod attention;
mod operators;
mod way;

use std::collections::HashMap;

use golden::{Entry, Flow, RowAlignment};
use measure::model::{Model, Running, named};
use tch::Kind;

use crate::math::AttnImplementation;
use crate::model::observer::Site;
use crate::model::{ATTN_WEIGHTS, LANGUAGE_MODEL, VISION_MODEL};
use attention::Cached;
use operators::{Groups, Operators};
use way::Way;

/// The file of the model's family.
const FAMILY: &str = "nemotron-vl";

const INPUT_IDS: &str = "input_ids";
const INPUTS_EMBEDS: &str = "inputs_embeds";
const EMBED_TOKENS: &str = "language_model.model.embed_tokens";

/// Follows what is computed from what, while the model runs.
pub(crate) struct Tracker {
    family: &'static Model,
    attention: AttnImplementation,
    groups: Groups,
    step: Step,
    /// What is in the cache, by the name of the attention.
    cache: HashMap<String, Cached>,
    /// Where the logits of each step come from that was followed.
    logits: Vec<Way>,
}

/// The tensors of a step.
struct Step {
    running: Running<'static>,
    tensors: Vec<Way>,
    /// The tensors by the sites that give them. Several give the same: a module's output is that of the last module inside.
    sites: HashMap<String, usize>,
    /// The sum behind each attention, by the layer's name.
    sums: HashMap<String, usize>,
    /// The dtype of the tower's features.
    features: Option<Kind>,
}

impl Step {
    fn new(family: &'static Model) -> Self {
        Self {
            running: Running::new(family),
            tensors: Vec::new(),
            sites: HashMap::new(),
            sums: HashMap::new(),
            features: None,
        }
    }

    fn add(&mut self, site: &str, way: Way) -> usize {
        self.tensors.push(way);
        self.sites.insert(site.to_owned(), self.tensors.len() - 1);
        self.tensors.len() - 1
    }

    fn join(&self, way: &mut Way, site: &str, rows: RowAlignment) {
        if let Some(&tensor) = self.sites.get(site) {
            way.join(&self.tensors[tensor], rows);
        }
    }
}

impl Tracker {
    /// A tracker of a model with an attention; `None` if the family's file is not there.
    pub(crate) fn new(attention: AttnImplementation) -> Option<Self> {
        let family = named(FAMILY)?;
        Some(Self {
            family,
            attention,
            groups: Groups::default(),
            step: Step::new(family),
            cache: HashMap::new(),
            logits: Vec::new(),
        })
    }

    /// Notes an input of the run; its tensor.
    pub(crate) fn input(&mut self, name: &str) -> usize {
        self.step.running.run(name);
        self.step.add(name, Way::default())
    }

    /// Notes that a site has given an output of some kind; its tensor, `None` for a site that the family does not know.
    pub(crate) fn output(&mut self, site: Site<'_>, kind: Kind) -> Option<usize> {
        let sources = self.step.running.run(site.name)?;
        if site.name == VISION_MODEL {
            self.step.features = Some(kind);
        }
        if let Some((attention, end)) = site.name.rsplit_once('.') {
            if end == ATTN_WEIGHTS {
                let way = self.cache.get(attention).map(|cached| cached.weights.clone());
                return Some(self.step.add(site.name, way.unwrap_or_default()));
            }
            if end == "o_proj" {
                let way = self.attend(attention, kind);
                return Some(self.step.add(site.name, way));
            }
        }
        let operators = operators::of_site(site, kind, self.step.features);
        let merges = site.name == INPUTS_EMBEDS && sources.len() > 1;
        let chosen = site.name == EMBED_TOKENS && !self.logits.is_empty();
        if let [(source, RowAlignment::Same)] = &sources[..]
            && operators.own.is_empty()
            && let Some(&tensor) = self.step.sites.get(source)
        {
            // The same tensor: whoever goes on from one of the two goes on from the other.
            self.step.sites.insert(site.name.to_owned(), tensor);
            return Some(tensor);
        }
        let mut way = Way::default();
        for (source, rows) in &sources {
            self.step.join(&mut way, source, *rows);
        }
        if merges {
            // Which tokens are replaced.
            self.step.join(&mut way, INPUT_IDS, RowAlignment::Mixed);
            way.pass(self.groups.add(operators::MERGE));
        }
        if chosen && let Some(logits) = self.logits.last() {
            way.join(logits, RowAlignment::Mixed);
            way.pass(self.groups.add(operators::CHOOSE));
        }
        for own in operators.own {
            way.pass(self.groups.add(own));
        }
        if operators.has_sum {
            way.pass(self.sum(site));
        }
        Some(self.step.add(site.name, way))
    }

    /// The group of the sum behind an attention, which the layer goes on from as well as its second norm.
    fn sum(&mut self, site: Site<'_>) -> usize {
        let layer = if operators::is_layer(site) {
            site.name
        } else {
            site.name.rsplit_once('.').map_or("", |(layer, _)| layer)
        };
        match self.step.sums.get(layer) {
            Some(&group) => group,
            None => {
                let group = self.groups.add(operators::ADD);
                self.step.sums.insert(layer.to_owned(), group);
                group
            }
        }
    }

    /// Notes that a tensor of this step is recorded in an entry.
    pub(crate) fn recorded(&mut self, tensor: usize, order: u64) {
        self.step.tensors[tensor] = Way::of_entry(order);
    }

    /// What a tensor of this step was computed from; `entries` are those so far.
    pub(crate) fn flow(&self, tensor: usize, entries: &[Entry]) -> Flow {
        self.groups.flow(&self.step.tensors[tensor], entries)
    }

    /// Notes that a step has ended.
    pub(crate) fn end_of_step(&mut self) {
        let step = std::mem::replace(&mut self.step, Step::new(self.family));
        let logits = step.sites.get(LANGUAGE_MODEL).map(|&tensor| step.tensors[tensor].clone());
        self.logits.extend(logits);
    }

    /// What the logits of all steps were computed from; `None` unless all `steps` were followed.
    pub(crate) fn step_logits(&mut self, steps: usize, entries: &[Entry]) -> Option<Flow> {
        if self.logits.len() != steps {
            return None;
        }
        let mut way = Way::default();
        for logits in &self.logits {
            way.join(logits, RowAlignment::Mixed);
            way.pass(self.groups.add(operators::CAST));
        }
        way.pass(self.groups.add(operators::STACK));
        Some(self.groups.flow(&way, entries))
    }
}

/// Whether the attention returns weights.
fn has_weights(attention: AttnImplementation) -> bool {
    attention == AttnImplementation::Eager
}

/// All rows of some tensors may matter.
fn mixed<'a>(ways: impl IntoIterator<Item = &'a Way>, groups: &mut Groups, operators: &[Operators]) -> Way {
    let mut way = Way::default();
    for other in ways {
        way.join(other, RowAlignment::Mixed);
    }
    for operators in operators {
        way.pass(groups.add(operators));
    }
    way
}
