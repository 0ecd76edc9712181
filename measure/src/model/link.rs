//! Makes a graph of the lines of a family's file.

use std::collections::HashMap;

use super::graph::{Graph, Input, KnownSite, Reference, Stack};
use super::lines::{File, InputLine, Section, SiteLine};

/// The number of a layer, at the end of a `module`.
const LAYER: &str = ".{n}";

/// The same, at the end of a section's `x`.
const LAYER_BEFORE: &str = ".{n-1}";

/// The last layer of which something was recorded.
const LAST_LAYER: &str = ".{last}";

/// What a layer is given.
const LAYER_INPUT: &str = "x";

/// Makes a graph of a file's lines, and checks them.
///
/// # Errors
///
/// A sentence, for a name that no line explains, is there twice or can never match, and for a site that is computed from
/// itself.
pub(super) fn link(file: &File) -> Result<Graph, String> {
    let mut linker = Linker { graph: Graph::default(), by_name: HashMap::new() };
    let mut stacks = Vec::with_capacity(file.modules.len());
    for section in &file.modules {
        stacks.push(linker.add(section)?);
    }
    for (section, stack) in file.modules.iter().zip(stacks) {
        if let (Some(stack), Some(x)) = (stack, &section.x) {
            let first = linker.all(&x.first, "x", |name| linker.outside(name))?;
            let output = linker.output(&x.then, stack)?;
            let stack = &mut linker.graph.stacks[stack];
            (stack.first, stack.output) = (first, Some(output));
        }
        for line in site_lines(section) {
            linker.connect(section, line)?;
        }
    }
    linker.graph.note_outside();
    linker.graph.check_cycles()?;
    Ok(linker.graph)
}

/// The lines of a section that tell of one site, and not of all with such a name.
fn site_lines(section: &Section) -> impl Iterator<Item = &SiteLine> {
    section.sites.iter().filter(|line| !line.site.contains('*'))
}

struct Linker {
    graph: Graph,
    /// All sites, by the name with `{n}`.
    by_name: HashMap<String, usize>,
}

impl Linker {
    /// Adds the sites of a section, and the stack that they are in.
    fn add(&mut self, section: &Section) -> Result<Option<usize>, String> {
        let module = &section.module;
        let list = module.strip_suffix(LAYER);
        if list.unwrap_or(module).contains(['{', '}', '*']) {
            return Err(format!(
                "`module`: expected a name, perhaps with `{LAYER}` at its end, found `{module}`"
            ));
        }
        if section.x.is_some() && list.is_none() {
            return Err(format!(
                "`module`: expected `{LAYER}` at the end, since it has an `x`, found `{module}`"
            ));
        }
        let stack = list.map(|list| {
            self.graph.stacks.push(Stack { prefix: format!("{list}."), ..Stack::default() });
            self.graph.stacks.len() - 1
        });
        for line in &section.sites {
            if line.site.contains('*') {
                if line.step.is_some() || !line.from.is_empty() || line.role.is_none() {
                    return Err(format!(
                        "site `{}`: expected only a role beside a `*`, found more",
                        line.site
                    ));
                }
                continue;
            }
            self.add_site(section, line, stack)?;
        }
        Ok(stack)
    }

    fn add_site(&mut self, section: &Section, line: &SiteLine, stack: Option<usize>) -> Result<(), String> {
        let name = section.full_name(&line.site);
        if name.is_empty() || name.starts_with('.') {
            return Err(format!("site `{}`: expected a `module` around it, found none", line.site));
        }
        if line.site.contains(['{', '}']) {
            return Err(format!(
                "site `{name}`: expected `{{n}}` in the section's `module` only, found it here"
            ));
        }
        if line.step.is_none() && !line.from.is_empty() {
            return Err(format!("site `{name}`: expected a `step`, since it has a `from`, found none"));
        }
        let site = self.graph.sites.len();
        if self.by_name.insert(name.clone(), site).is_some() {
            return Err(format!("site `{name}`: expected one line, found two"));
        }
        let stack = stack.zip(line.site.strip_prefix('.'));
        match stack {
            Some((stack, inside)) => self.graph.stacks[stack].sites.insert(inside.to_owned(), site),
            None => self.graph.named.insert(name.clone(), site),
        };
        let stack = stack.map(|(stack, _)| stack);
        self.graph.sites.push(KnownSite {
            name,
            stack,
            step: line.step,
            inputs: Vec::new(),
            role: line.role,
        });
        Ok(())
    }

    /// Gives a site its inputs.
    fn connect(&mut self, section: &Section, line: &SiteLine) -> Result<(), String> {
        let name = section.full_name(&line.site);
        let site = self.by_name[&name];
        let mut inputs = Vec::with_capacity(line.from.len());
        for input in &line.from {
            inputs.push(self.input(section, site, line, input)?);
        }
        self.graph.sites[site].inputs = inputs;
        Ok(())
    }

    fn input(
        &self,
        section: &Section,
        site: usize,
        line: &SiteLine,
        input: &InputLine,
    ) -> Result<Input, String> {
        let name = &self.graph.sites[site].name;
        let (names, rows, when) = input.parts(line.rows);
        let alternatives = self.all(names, name, |input| self.reference(section, site, input))?;
        let when = when.iter().map(|other| self.outside(&section.full_name(other)));
        let when = when.collect::<Result<_, _>>().map_err(|problem| format!("site `{name}`: {problem}"))?;
        Ok(Input { alternatives, rows, when })
    }

    /// Each of some alternatives.
    fn all<T>(
        &self,
        names: &str,
        of: &str,
        one: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let all = names.split('|').map(|name| one(name.trim()));
        all.collect::<Result<_, _>>().map_err(|problem| format!("site `{of}`: {problem}"))
    }

    fn reference(&self, section: &Section, site: usize, written: &str) -> Result<Reference, String> {
        let own = self.graph.sites[site].stack;
        if written == LAYER_INPUT {
            return match own.filter(|_| section.x.is_some()) {
                Some(_) => Ok(Reference::LayerInput),
                None => Err("expected a section with `x`, found none".to_owned()),
            };
        }
        let name = section.full_name(written);
        if name.contains(LAST_LAYER) {
            let site = self.find(&name.replace(LAST_LAYER, LAYER), &name)?;
            return match self.graph.sites[site].stack.filter(|&stack| own != Some(stack)) {
                Some(_) => Ok(Reference::LastLayer(site)),
                None => Err(format!("expected the last layer of another list, found `{name}`")),
            };
        }
        let found = self.find(&name, &name)?;
        match self.graph.sites[found].stack {
            None => Ok(Reference::Site(found)),
            Some(stack) if own == Some(stack) => Ok(Reference::SameLayer(found)),
            Some(_) => Err(format!("expected a site of the same layer, or `{LAST_LAYER}`, found `{name}`")),
        }
    }

    /// A site outside of stacks.
    fn outside(&self, name: &str) -> Result<usize, String> {
        let site = self.find(name, name)?;
        let outside = self.graph.sites[site].stack.is_none();
        outside.then_some(site).ok_or_else(|| format!("expected a site that is in no layer, found `{name}`"))
    }

    /// The site of a layer that the next layer is given.
    fn output(&self, then: &str, stack: usize) -> Result<usize, String> {
        let site = self.by_name.get(&then.replace(LAYER_BEFORE, LAYER)).copied();
        let site =
            site.filter(|&site| then.contains(LAYER_BEFORE) && self.graph.sites[site].stack == Some(stack));
        site.ok_or_else(|| {
            let list = &self.graph.stacks[stack].prefix;
            format!(
                "`x`: expected a site of the layer before in `then`, such as `{list}{{n-1}}`, found `{then}`"
            )
        })
    }

    fn find(&self, name: &str, written: &str) -> Result<usize, String> {
        self.by_name
            .get(name)
            .copied()
            .ok_or_else(|| format!("expected a site of this file, found `{written}`"))
    }
}

impl Graph {
    /// Notes what the layers of each stack compute from that is in no layer.
    fn note_outside(&mut self) {
        for site in &self.sites {
            let Some(stack) = site.stack else { continue };
            for reference in site.inputs.iter().flat_map(|input| &input.alternatives) {
                let outside = &mut self.stacks[stack].outside;
                if let Reference::Site(input) = *reference
                    && !outside.contains(&input)
                {
                    outside.push(input);
                }
            }
        }
    }

    /// Follows the inputs of each site, within a layer and outside of layers.
    fn check_cycles(&self) -> Result<(), String> {
        let mut seen = vec![false; self.sites.len()];
        (0..self.sites.len()).try_for_each(|site| self.follow(site, &mut Vec::new(), &mut seen))
    }

    fn follow(&self, site: usize, path: &mut Vec<usize>, seen: &mut [bool]) -> Result<(), String> {
        if let Some(start) = path.iter().position(|&before| before == site) {
            let names: Vec<String> =
                path[start..].iter().rev().map(|&site| format!("`{}`", self.sites[site].name)).collect();
            return Err(format!(
                "expected no circle, found one: {} compute from each other",
                names.join(", ")
            ));
        }
        if seen[site] {
            return Ok(());
        }
        path.push(site);
        for reference in self.sites[site].inputs.iter().flat_map(|input| &input.alternatives) {
            match *reference {
                Reference::Site(input) | Reference::SameLayer(input) | Reference::LastLayer(input) => {
                    self.follow(input, path, seen)?;
                }
                Reference::LayerInput => {
                    let stack = self.sites[site].stack.map(|stack| &self.stacks[stack]);
                    let first = stack.map_or(&[][..], |stack| &stack.first);
                    first.iter().try_for_each(|&input| self.follow(input, path, seen))?;
                }
            }
        }
        path.pop();
        seen[site] = true;
        Ok(())
    }
}
