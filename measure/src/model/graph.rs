//! The sites of a family, and the sites that each of them is computed from.

use std::collections::{BTreeSet, HashMap};

use golden::RowAlignment;

use super::role::SiteRole;
use super::step::Step;

/// The sites of a family. A site has the same number in all layers of a stack.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    pub(super) sites: Vec<KnownSite>,
    /// The sites outside of stacks, by name.
    pub(super) named: HashMap<String, usize>,
    pub(super) stacks: Vec<Stack>,
}

/// A line of a family's file.
#[derive(Debug, Clone)]
pub(super) struct KnownSite {
    /// The name, with `{n}` for the number of a layer.
    pub(super) name: String,
    /// The stack whose layers have it.
    pub(super) stack: Option<usize>,
    /// `None` where nothing is known of what it computes.
    pub(super) step: Option<Step>,
    pub(super) inputs: Vec<Input>,
    pub(super) role: Option<SiteRole>,
}

/// Layers of equal structure, each of which computes from the one before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Stack {
    /// What the number of a layer follows, with its dot.
    pub(super) prefix: String,
    /// The sites of a layer, by what follows its number and a dot; empty for the layer itself.
    pub(super) sites: HashMap<String, usize>,
    /// What layer 0 is given: the first that was recorded.
    pub(super) first: Vec<usize>,
    /// The site of a layer that the next layer is given.
    pub(super) output: Option<usize>,
    /// What sites of a layer compute from that is in no layer.
    pub(super) outside: Vec<usize>,
}

/// An input of a site: the first of some alternatives that was recorded.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) alternatives: Vec<Reference>,
    pub(super) rows: RowAlignment,
    /// It counts where one of these was recorded; always, if there are none.
    pub(super) when: Vec<usize>,
}

/// An input, as seen from its site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference {
    /// A site outside of stacks.
    Site(usize),
    /// A site of the same layer.
    SameLayer(usize),
    /// A site of the last layer of which something was recorded.
    LastLayer(usize),
    /// What the layer is given.
    LayerInput,
}

/// A site of one layer, or one outside of stacks, whose layer is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    site: usize,
    layer: usize,
}

/// What a place computes from.
pub(crate) struct Known {
    pub(crate) step: Step,
    /// Of alternatives the first that was recorded counts: a module that does nothing in this model leaves no entry.
    pub(crate) inputs: Vec<(Vec<Place>, RowAlignment)>,
}

/// The numbers of the layers of each stack of which something was recorded.
#[derive(Debug)]
pub(crate) struct Layers(Vec<BTreeSet<usize>>);

impl Graph {
    /// The place with a name, which is without the number of a call.
    pub(crate) fn place(&self, name: &str) -> Option<Place> {
        if let Some(&site) = self.named.get(name) {
            return Some(Place { site, layer: 0 });
        }
        self.stacks.iter().find_map(|stack| {
            let (layer, inside) = stack.layer(name)?;
            Some(Place { site: *stack.sites.get(inside)?, layer })
        })
    }

    /// What the site of a place is for.
    pub(crate) fn role(&self, place: Place) -> Option<SiteRole> {
        self.sites[place.site].role
    }

    /// The layers that names belong to, of known sites and others.
    pub(crate) fn layers<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Layers {
        let of = |stack: &Stack| names.clone().filter_map(|name| Some(stack.layer(name)?.0)).collect();
        Layers(self.stacks.iter().map(of).collect())
    }

    /// Adds the layer that a name belongs to.
    pub(crate) fn add_layer_of(&self, name: &str, layers: &mut Layers) {
        for (stack, layers) in self.stacks.iter().zip(&mut layers.0) {
            layers.extend(stack.layer(name).map(|(layer, _)| layer));
        }
    }

    /// The name of the site of a place.
    pub(crate) fn name(&self, place: Place) -> String {
        self.sites[place.site].name.replace("{n}", &place.layer.to_string())
    }

    /// What is known of a place, given the layers and what else was recorded.
    pub(crate) fn known(
        &self,
        place: Place,
        layers: &Layers,
        is_recorded: impl Fn(Place) -> bool,
    ) -> Option<Known> {
        let site = &self.sites[place.site];
        let step = site.step?;
        let outside = |site| Place { site, layer: 0 };
        let mut inputs = Vec::with_capacity(site.inputs.len());
        for input in &site.inputs {
            if !input.when.is_empty() && !input.when.iter().any(|&site| is_recorded(outside(site))) {
                continue;
            }
            let mut places = Vec::with_capacity(input.alternatives.len());
            for &reference in &input.alternatives {
                match reference {
                    Reference::Site(site) => places.push(outside(site)),
                    Reference::SameLayer(site) => places.push(Place { site, layer: place.layer }),
                    Reference::LastLayer(site) => {
                        let stack = self.sites[site].stack?;
                        places.push(Place { site, layer: *layers.0[stack].last()? });
                    }
                    Reference::LayerInput => {
                        let stack = &self.stacks[site.stack?];
                        match place.layer.checked_sub(1) {
                            Some(layer) => places.push(Place { site: stack.output?, layer }),
                            None => places.extend(stack.first.iter().map(|&site| outside(site))),
                        }
                    }
                }
            }
            inputs.push((places, input.rows));
        }
        Some(Known { step, inputs })
    }

    /// What the output of a layer computes from of which nothing was recorded: the last layer before it of which something
    /// was. What lies between adds nothing, however many layers there are.
    pub(crate) fn past_layers(&self, place: Place, layers: &Layers) -> Option<Vec<Place>> {
        let number = self.sites[place.site].stack?;
        let (stack, recorded) = (&self.stacks[number], &layers.0[number]);
        if place.layer == 0 || stack.output != Some(place.site) || recorded.contains(&place.layer) {
            return None;
        }
        let layer = recorded.range(..place.layer).next_back().copied().unwrap_or(0);
        let outside = stack.outside.iter().map(|&site| Place { site, layer: 0 });
        Some(outside.chain([Place { layer, ..place }]).collect())
    }
}

impl Stack {
    /// The number of the layer that a name is of or in, and what follows it.
    fn layer<'a>(&self, name: &'a str) -> Option<(usize, &'a str)> {
        let rest = name.strip_prefix(self.prefix.as_str())?;
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let (number, inside) = rest.split_at(digits);
        let inside = match inside.strip_prefix('.') {
            Some("") => return None,
            Some(inside) => inside,
            None if inside.is_empty() || inside.starts_with('#') => "",
            None => return None,
        };
        // `00` is the number of no layer.
        let number = Some(number).filter(|number| !number.starts_with('0') || number.len() == 1)?;
        Some((number.parse().ok()?, inside))
    }
}
