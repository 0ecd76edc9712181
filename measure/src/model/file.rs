//! A model's file.

use golden::{Dump, Entry};
use serde::Deserialize;

use super::role::SiteRole;

/// What is known of a family of models.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The site whose channels are those of a head of the language model.
    pub head_angles: String,
    /// The sites that may have the features of the pictures, as they take the place of tokens.
    pub image_features: Vec<String>,
    /// The names that the number of a layer follows.
    pub layer_lists: Vec<String>,
    tiled: Vec<Sites>,
    roles: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    site: Sites,
    role: SiteRole,
}

/// A name, or the beginning or end of some.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "String")]
enum Sites {
    Named(String),
    Beginning(String),
    Ending(String),
}

impl From<String> for Sites {
    fn from(text: String) -> Self {
        match (text.strip_suffix('*'), text.strip_prefix('*')) {
            (Some(beginning), _) => Sites::Beginning(beginning.to_owned()),
            (None, Some(end)) => Sites::Ending(end.to_owned()),
            (None, None) => Sites::Named(text),
        }
    }
}

impl Sites {
    fn has(&self, name: &str) -> bool {
        match self {
            Sites::Named(site) => name == site,
            Sites::Beginning(beginning) => name.starts_with(beginning.as_str()),
            Sites::Ending(end) => name.ends_with(end.as_str()),
        }
    }
}

impl Model {
    /// Reads a model's file.
    ///
    /// # Errors
    ///
    /// What is no TOML, or has other fields.
    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// What a site is for, where that is known.
    pub fn role(&self, name: &str) -> Option<SiteRole> {
        self.roles.iter().find(|rule| rule.site.has(name)).map(|rule| rule.role)
    }

    /// The first entry of a dump that is for something.
    pub fn entry<'a>(&self, dump: &'a Dump, role: SiteRole) -> Option<&'a Entry> {
        dump.entries().iter().find(|entry| self.role(&entry.name) == Some(role))
    }

    /// Whether a site's rows are those of tiles.
    pub fn is_tiled(&self, name: &str) -> bool {
        self.tiled.iter().any(|sites| sites.has(name))
    }
}
