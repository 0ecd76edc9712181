//! The lines of a family's file, as they are written.

use golden::RowAlignment;
use serde::Deserialize;

use super::pattern::NamePattern;
use super::role::SiteRole;
use super::step::Step;

/// A family's file. `models/nemotron-vl.toml` explains the fields.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) recognised_by: Vec<NamePattern>,
    #[serde(default)]
    pub(super) nothing_else_in: Vec<NamePattern>,
    /// Where a site of the first name is, one of the second is, too.
    #[serde(default)]
    pub(super) together: Vec<(NamePattern, NamePattern)>,
    #[serde(default)]
    pub(super) tiled: Vec<NamePattern>,
    #[serde(default)]
    pub(super) image_features: Vec<String>,
    pub(super) head_angles: Option<String>,
    #[serde(default)]
    pub(super) layer_lists: Vec<String>,
    pub(super) modules: Vec<Section>,
}

/// The sites in a module, or some that are in none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    #[serde(default)]
    pub(super) module: String,
    pub(super) x: Option<LayerInput>,
    pub(super) sites: Vec<SiteLine>,
}

/// What a layer is given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerInput {
    /// The site that layer 0 is given, or some alternatives.
    pub(super) first: String,
    /// The site of the layer before that all others are given.
    pub(super) then: String,
}

/// A site.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteLine {
    pub(super) site: String,
    pub(super) step: Option<Step>,
    #[serde(default)]
    pub(super) from: Vec<InputLine>,
    #[serde(default)]
    pub(super) rows: RowAlignment,
    pub(super) role: Option<SiteRole>,
}

/// An input: the name of a site or some alternatives, alone or with more to say.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected the name of a site, or a table with `site` and perhaps `rows` (`same`, `from_end`, `mixed`) and `when`"
)]
pub(super) enum InputLine {
    Name(String),
    Table(InputTable),
}

/// An input that has rows of its own, or a condition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputTable {
    pub(super) site: String,
    pub(super) rows: Option<RowAlignment>,
    #[serde(default)]
    pub(super) when: Vec<String>,
}

impl Section {
    /// The full name of a site that is written inside the section.
    pub(super) fn full_name(&self, written: &str) -> String {
        match written.strip_prefix('.') {
            Some("") => self.module.clone(),
            Some(_) => format!("{}{written}", self.module),
            None => written.to_owned(),
        }
    }
}

impl InputLine {
    /// The name or names, how rows belong together, and when it counts.
    pub(super) fn parts(&self, of_site: RowAlignment) -> (&str, RowAlignment, &[String]) {
        match self {
            InputLine::Name(name) => (name, of_site, &[]),
            InputLine::Table(table) => (&table.site, table.rows.unwrap_or(of_site), &table.when),
        }
    }
}
