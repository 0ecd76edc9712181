//! A family's sites while a model runs.

use std::collections::HashSet;

use super::RowAlignment;
use super::file::Model;
use super::graph::{Graph, Layers, Place};

/// The sites of a forward pass that have run so far, as a family's file connects them.
#[derive(Debug)]
pub struct Running<'a> {
    graph: &'a Graph,
    layers: Layers,
    ran: HashSet<Place>,
}

impl<'a> Running<'a> {
    /// A pass that is about to begin.
    pub fn new(model: &'a Model) -> Self {
        let graph = &model.graph;
        Self { graph, layers: graph.layers(std::iter::empty()), ran: HashSet::new() }
    }

    /// Notes that a site has run. Those that it computes from, among the ones that have run before, each with its rows; `None`
    /// for a site that the family does not know, or that is given from outside.
    pub fn run(&mut self, name: &str) -> Option<Vec<(String, RowAlignment)>> {
        self.graph.add_layer_of(name, &mut self.layers);
        let place = self.graph.place(name)?;
        let mut found = Vec::new();
        let known = self.inputs(place, RowAlignment::Same, &mut HashSet::new(), &mut found);
        self.ran.insert(place);
        known.then(|| found.into_iter().map(|(place, rows)| (self.graph.name(place), rows)).collect())
    }

    /// Finds what a place computes from. A site that has not run stands for what it would have been computed from.
    fn inputs(
        &self,
        place: Place,
        rows: RowAlignment,
        seen: &mut HashSet<(Place, RowAlignment)>,
        found: &mut Vec<(Place, RowAlignment)>,
    ) -> bool {
        let Some(known) = self.graph.known(place, &self.layers, |place| self.ran.contains(&place)) else {
            return false;
        };
        for (alternatives, inner) in known.inputs {
            let rows = rows.through(inner);
            match alternatives.iter().find(|place| self.ran.contains(place)) {
                Some(&place) => match found.iter_mut().find(|(before, _)| *before == place) {
                    Some((_, before)) => *before = before.or(rows),
                    None => found.push((place, rows)),
                },
                None => {
                    for place in alternatives {
                        if seen.insert((place, rows)) {
                            self.inputs(place, rows, seen, found);
                        }
                    }
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::named;

    fn sources(ran: &[&str]) -> Option<Vec<(String, RowAlignment)>> {
        let mut running = Running::new(named("nemotron-vl").unwrap());
        ran.iter().map(|name| running.run(name)).last().flatten()
    }

    #[test]
    fn a_site_computes_from_what_has_run_before_it() {
        let (embeds, layer) = ("inputs_embeds", "language_model.model.layers");
        let (norm, attention) = (format!("{layer}.0.input_layernorm"), format!("{layer}.0.self_attn"));
        let same = |names: &[&str]| {
            Some(names.iter().map(|&name| (name.to_owned(), RowAlignment::Same)).collect::<Vec<_>>())
        };
        assert_eq!(sources(&[embeds, &norm]), same(&[embeds]));
        let first = format!("{layer}.0");
        assert_eq!(
            sources(&[embeds, &norm, &attention, &format!("{first}.mlp"), &first]),
            same(&[embeds, &attention, &format!("{first}.mlp")])
        );
        assert_eq!(sources(&[embeds, &first, "language_model.model.norm"]), same(&[&first]));
        assert_eq!(sources(&[embeds, &first, &format!("{layer}.1.input_layernorm")]), same(&[&first]));
    }

    #[test]
    fn what_has_not_run_stands_for_its_own_inputs() {
        // A token that is decoded has no `inputs_embeds`.
        let embed = "language_model.model.embed_tokens";
        let found = sources(&[embed, "language_model.model.layers.0.input_layernorm"]).unwrap();
        assert_eq!(found, [(embed.to_owned(), RowAlignment::Same)]);
        assert_eq!(sources(&[embed]), Some(vec![]));
        assert_eq!(sources(&["pixel_values"]), None);
        assert_eq!(sources(&["visual.merger"]), None);
        // Many layers deep, each with three ways up, through attentions among others.
        let far = sources(&[embed, "language_model.model.layers.31.input_layernorm"]).unwrap();
        assert_eq!(far, [(embed.to_owned(), RowAlignment::Mixed)]);
    }
}
