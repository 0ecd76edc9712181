//! What is known of a family of models.

use golden::{Dump, Entry};

use super::graph::Graph;
use super::lines::File;
use super::link::link;
use super::pattern::NamePattern;
use super::role::SiteRole;
use crate::error::{Error, Result, toml_problem};

/// What is known of a family of models.
#[derive(Debug, Clone, Default)]
pub struct Model {
    recognised_by: Vec<NamePattern>,
    nothing_else_in: Vec<NamePattern>,
    together: Vec<(NamePattern, NamePattern)>,
    tiled: Vec<NamePattern>,
    image_features: Vec<String>,
    head_angles: Option<String>,
    layer_lists: Vec<String>,
    /// The roles of sites with such names.
    roles: Vec<(NamePattern, SiteRole)>,
    pub(crate) graph: Graph,
}

impl Model {
    /// Reads the file of a family.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] for what is no TOML, has an unknown field, role or step, or makes no sense.
    pub(super) fn parse(file: &'static str, text: &str) -> Result<Self> {
        let problem = |message| Error::Model { file, message };
        let mut lines: File = toml::from_str(text).map_err(|error| problem(toml_problem(text, &error)))?;
        let graph = link(&lines).map_err(problem)?;
        for name in lines.head_angles.iter().chain(&lines.image_features) {
            if !graph.named.contains_key(name) {
                return Err(problem(format!("expected a site of this file, found `{name}`")));
            }
        }
        let every_line = std::mem::take(&mut lines.modules).into_iter().flat_map(|section| section.sites);
        let roles = every_line.filter(|line| !line.site.starts_with('.'));
        let roles = roles.filter_map(|line| Some((NamePattern::from(line.site), line.role?))).collect();
        Ok(Model {
            recognised_by: lines.recognised_by,
            nothing_else_in: lines.nothing_else_in,
            together: lines.together,
            tiled: lines.tiled,
            image_features: lines.image_features,
            head_angles: lines.head_angles,
            layer_lists: lines.layer_lists,
            roles,
            graph,
        })
    }

    /// The same, with another model's roles for names that have none here.
    pub(super) fn with_roles_of(mut self, other: &Model) -> Self {
        self.roles.extend(other.roles.iter().cloned());
        self
    }

    /// How many sites of a dump tell that it is of this family; `None` if it is not.
    pub(super) fn recognised(&self, sites: &[&str]) -> Option<usize> {
        let has = |pattern: &NamePattern| sites.iter().any(|site| pattern.has(module_of(site)));
        let is_foreign = |site: &&str| {
            let name = module_of(site);
            self.nothing_else_in.iter().any(|pattern| pattern.has(name)) && self.graph.place(name).is_none()
        };
        if self.together.iter().any(|(one, other)| has(one) && !has(other)) || sites.iter().any(is_foreign) {
            return None;
        }
        let tells = |site: &&&str| self.recognised_by.iter().any(|pattern| pattern.has(module_of(site)));
        Some(sites.iter().filter(tells).count()).filter(|&count| count > 0)
    }

    /// What a site is for, where that is known. All calls of a module are for the same.
    pub fn role(&self, name: &str) -> Option<SiteRole> {
        let name = module_of(name);
        let of_place = self.graph.place(name).and_then(|place| self.graph.role(place));
        of_place.or_else(|| self.roles.iter().find(|(sites, _)| sites.has(name)).map(|&(_, role)| role))
    }

    /// The first entry of a dump that is for something.
    pub fn entry<'a>(&self, dump: &'a Dump, role: SiteRole) -> Option<&'a Entry> {
        dump.entries().iter().find(|entry| self.role(&entry.name) == Some(role))
    }

    /// The features of the pictures, as they take the place of tokens.
    pub fn image_features<'a>(&self, dump: &'a Dump) -> Option<&'a Entry> {
        self.image_features.iter().find_map(|name| dump.entry(name))
    }

    /// How many channels a head of the language model has.
    pub fn head_size(&self, dump: &Dump) -> Option<usize> {
        dump.entry(self.head_angles.as_deref()?)?.shape.last().copied()
    }

    /// Whether a site's rows are those of tiles.
    pub fn is_tiled(&self, name: &str) -> bool {
        self.tiled.iter().any(|sites| sites.has(name))
    }

    /// Whether the number of a layer follows a name.
    pub fn is_layer_list(&self, name: &str) -> bool {
        self.layer_lists.iter().any(|list| list == name)
    }
}

/// A name without the number of the call (`#1`).
fn module_of(name: &str) -> &str {
    split_call(name).0
}

/// A name without the number of the call, and that number with its sign (`#1`), empty for the first.
pub(crate) fn split_call(name: &str) -> (&str, &str) {
    name.find('#').map_or((name, ""), |at| name.split_at(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a file that has these lines beside two good sections.
    fn problem(lines: &str) -> String {
        let good = r#"
            [[modules]]
            sites = [{ site = "ids" }, { site = "embed", step = "single", from = ["ids"] }]
            [[modules]]
            module = "layers.{n}"
            x = { first = "embed", then = "layers.{n-1}" }
            sites = [
                { site = ".norm", step = "several", from = ["x"] },
                { site = ".", step = "several", from = ["x", ".norm"] },
            ]
        "#;
        match Model::parse("family.toml", &format!("{lines}\n{good}")) {
            Err(Error::Model { file: "family.toml", message }) => message,
            other => panic!("{lines}: {other:?}"),
        }
    }

    #[test]
    fn a_mistake_in_a_file_is_named() {
        let section =
            |module: &str, sites: &str| format!("[[modules]]\nmodule = \"{module}\"\nsites = [{sites}]");
        for (lines, expected) in [
            ("family = 1".to_owned(), "unknown field `family`"),
            (section("a", r#"{ site = ".", stepp = "single" }"#), "unknown field `stepp`"),
            (
                section("a", r#"{ site = ".", step = "double" }"#),
                "unknown variant `double`, expected one of `single`",
            ),
            (section("a", r#"{ site = ".", step = "input" }"#), "unknown variant `input`"),
            (section("a", r#"{ site = ".", role = "queryes" }"#), "unknown variant `queryes`"),
            (section("a", r#"{ site = ".", step = "single", rows = "some" }"#), "unknown variant `some`"),
            (
                section("a", r#"{ site = ".", step = "single", from = [{ site = "ids", row = "same" }] }"#),
                "expected the name of a site, or a table with `site`",
            ),
            ("modules = 3".to_owned(), "TOML parse error"),
            (
                section("a", r#"{ site = ".", from = ["ids"] }"#),
                "site `a`: expected a `step`, since it has a `from`, found none",
            ),
            (
                section("a", r#"{ site = ".", step = "single", from = ["ids | .b"] }"#),
                "site `a`: expected a site of this file, found `a.b`",
            ),
            (
                section("a", r#"{ site = ".", step = "single", from = [{ site = "ids", when = ["idz"] }] }"#),
                "site `a`: expected a site of this file, found `idz`",
            ),
            (
                section("a", r#"{ site = ".", step = "single", from = ["layers.{n}"] }"#),
                "site `a`: expected a site of the same layer, or `.{last}`, found `layers.{n}`",
            ),
            (
                section("a", r#"{ site = ".", step = "single", from = ["layers.0.norm"] }"#),
                "site `a`: expected a site of this file, found `layers.0.norm`",
            ),
            (
                section("a", r#"{ site = ".", step = "single", from = ["ids.{last}"] }"#),
                "site `a`: expected a site of this file, found `ids.{last}`",
            ),
            (
                section("a", r#"{ site = ".", step = "single", from = ["x"] }"#),
                "site `a`: expected a section with `x`, found none",
            ),
            (section("a", r#"{ site = "ids" }"#), "site `ids`: expected one line, found two"),
            (section("", r#"{ site = ".b" }"#), "site `.b`: expected a `module` around it, found none"),
            (
                section("a", r#"{ site = ".b.{n}" }"#),
                "site `a.b.{n}`: expected `{n}` in the section's `module` only, found it here",
            ),
            (
                section("a.{n}.b", r#"{ site = "." }"#),
                "`module`: expected a name, perhaps with `.{n}` at its end, found `a.{n}.b`",
            ),
            (
                section("a", r#"{ site = "*.b", role = "cos", step = "single" }"#),
                "site `*.b`: expected only a role beside a `*`, found more",
            ),
            (
                section("a", "{ site = \".\" }") + "\nx = { first = \"ids\", then = \"a\" }",
                "`module`: expected `.{n}` at the end, since it has an `x`, found `a`",
            ),
            (
                section("a.{n}", "{ site = \".\" }") + "\nx = { first = \"ids\", then = \"a.{n}\" }",
                "`x`: expected a site of the layer before in `then`, such as `a.{n-1}`, found `a.{n}`",
            ),
            (
                section("a.{n}", "{ site = \".\" }") + "\nx = { first = \"layers.{n}\", then = \"a.{n-1}\" }",
                "`x`: expected a site that is in no layer, found `layers.{n}`",
            ),
            ("head_angles = \"cos\"".to_owned(), "expected a site of this file, found `cos`"),
            ("image_features = [\"mlp1\"]".to_owned(), "expected a site of this file, found `mlp1`"),
        ] {
            let found = problem(&lines);
            assert!(found.contains(expected), "{lines}: {found}");
        }
    }

    #[test]
    fn a_site_that_is_computed_from_itself_is_named() {
        for (lines, expected) in [
            (r#"sites = [{ site = "a", step = "single", from = ["a"] }]"#, "`a` compute from each other"),
            (
                r#"sites = [{ site = "a", step = "single", from = ["ids", "b"] }, { site = "b", step = "single", from = ["a"] }]"#,
                "expected no circle, found one: `b`, `a` compute from each other",
            ),
            (
                r#"
                module = "other.{n}"
                x = { first = "a", then = "other.{n-1}" }
                sites = [{ site = ".", step = "single", from = ["x"] }, { site = "a", step = "single", from = ["other.{last}"] }]
                "#,
                "`a`, `other.{n}` compute from each other",
            ),
        ] {
            let found = problem(&format!("[[modules]]\n{lines}"));
            assert!(found.contains(expected), "{lines}: {found}");
        }
    }
}
