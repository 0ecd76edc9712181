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
use attention::{Cached, Given};
use operators::{Groups, Operators};
use way::Way;

/// The file of the model's family.
const FAMILY: &str = "nemotron-vl";

const INPUT_IDS: &str = "input_ids";
const INPUTS_EMBEDS: &str = "inputs_embeds";
const EMBED_TOKENS: &str = "language_model.model.embed_tokens";
const ROTARY_EMB: &str = "language_model.model.rotary_emb";

/// Follows what is computed from what, while the model runs.
pub(crate) struct Tracker {
    family: &'static Model,
    attention: AttnImplementation,
    groups: Groups,
    step: Step,
    /// What is in the cache, by the name of the attention.
    cache: HashMap<String, Cached>,
    answer: Answer,
}

/// What the tokens so far come from.
#[derive(Default)]
struct Answer {
    /// The logits of all steps.
    logits: Way,
    /// The tokens that were chosen.
    ids: Way,
    /// Whether one of them ends the answer.
    ends: Way,
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
    /// That of the logits.
    logits: Option<Kind>,
}

impl Step {
    fn new(family: &'static Model) -> Self {
        Self {
            running: Running::new(family),
            tensors: Vec::new(),
            sites: HashMap::new(),
            sums: HashMap::new(),
            features: None,
            logits: None,
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
            answer: Answer::default(),
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
        match site.name {
            VISION_MODEL => self.step.features = Some(kind),
            LANGUAGE_MODEL => self.step.logits = Some(kind),
            _ => {}
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
        if let [(source, RowAlignment::Same)] = &sources[..]
            && operators.own.is_empty()
            && let Some(&tensor) = self.step.sites.get(source)
        {
            // The same tensor: whoever goes on from one of the two goes on from the other.
            self.step.sites.insert(site.name.to_owned(), tensor);
            return Some(tensor);
        }
        let mut way = Way::default();
        // A step that decodes has one token, which is the last.
        let decodes = !self.answer.ids.is_empty();
        for (source, rows) in &sources {
            let is_same = decodes && *rows == RowAlignment::FromEnd;
            self.step.join(&mut way, source, if is_same { RowAlignment::Same } else { *rows });
        }
        if merges {
            // Which tokens are replaced.
            self.step.join(&mut way, INPUT_IDS, RowAlignment::Mixed);
            way.pass(self.groups.add(operators::MERGE));
        }
        if site.name == EMBED_TOKENS {
            // What was chosen before this step; nothing in the prefill.
            way.join(&self.answer.ids, RowAlignment::Mixed);
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

    /// Notes that an attention has run: where the output of its last projection comes from.
    fn attend(&mut self, attention: &str, kind: Kind) -> Way {
        let of = |site: &str| self.step.sites.get(site).map(|&tensor| self.step.tensors[tensor].clone());
        let projection = |name: &str| of(&format!("{attention}.{name}")).unwrap_or_default();
        let angle = |name: &str| of(&format!("{ROTARY_EMB}.{name}")).unwrap_or_default();
        let given = Given {
            projections: ["q_proj", "k_proj", "v_proj"].map(projection),
            angles: ["cos", "sin"].map(angle),
        };
        let casts: &[Operators] = if kind == Kind::Float { &[] } else { &[operators::THERE_AND_BACK] };
        let casts = (self.attention == AttnImplementation::Eager).then_some(casts);
        let cached = self.cache.entry(attention.to_owned()).or_default();
        cached.attend(&given, casts, &mut self.groups)
    }

    /// What the keys (0) or values (1) of an attention's cache come from, `entries` being those so far; they are recorded next.
    pub(crate) fn cached(&mut self, attention: &str, which: usize, entries: &[Entry]) -> Option<Flow> {
        let way = &mut self.cache.get_mut(attention)?.states[which];
        let flow = self.groups.flow(way, entries);
        *way = Way::of_entry(entries.len() as u64);
        flow
    }

    /// Notes that a tensor of this step is recorded in an entry.
    pub(crate) fn recorded(&mut self, tensor: usize, order: u64) {
        self.step.tensors[tensor] = Way::of_entry(order);
    }

    /// What a tensor of this step was computed from, `entries` being those so far; `None` where the way there is too long.
    pub(crate) fn flow(&self, tensor: usize, entries: &[Entry]) -> Option<Flow> {
        self.groups.flow(&self.step.tensors[tensor], entries)
    }

    /// Notes that a step has ended, and that a token is chosen by its logits.
    pub(crate) fn end_of_step(&mut self) {
        let step = std::mem::replace(&mut self.step, Step::new(self.family));
        let Some(&logits) = step.sites.get(LANGUAGE_MODEL) else { return };
        let casts: &[Operators] = if step.logits == Some(Kind::Float) { &[] } else { &[operators::CAST] };
        let (groups, answer) = (&mut self.groups, &mut self.answer);
        let logits = &step.tensors[logits];
        // The dump's own copy, and the one that the token is chosen by.
        let row = groups.mixed([logits], casts);
        answer.logits = groups.mixed([&answer.logits, &row], &[]);
        let scores = groups.mixed([logits], casts);
        let pads: &[Operators] = if answer.ends.is_empty() { &[] } else { &[operators::PAD] };
        let chosen = groups.mixed([&scores, &answer.ends], &[operators::CHOOSE]);
        let chosen = groups.mixed([&chosen], pads);
        answer.ids = groups.mixed([&answer.ids, &chosen], &[operators::APPEND]);
        answer.ends = groups.mixed([&answer.ends, &answer.ids], &[operators::ENDS]);
    }

    /// What the logits of all steps were computed from.
    pub(crate) fn step_logits(&mut self, entries: &[Entry]) -> Option<Flow> {
        let way = self.groups.mixed([&self.answer.logits], &[operators::STACK]);
        self.groups.flow(&way, entries)
    }
}
