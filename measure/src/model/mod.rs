//! What is known of the models whose dumps are compared: one embedded file a family, `models/*.toml`.

mod cache;
mod file;
mod graph;
mod lines;
mod link;
mod pattern;
mod role;
mod running;
mod step;

use std::sync::LazyLock;

use golden::Entry;

pub use cache::CachePart;
pub use file::Model;
pub use role::SiteRole;
pub use running::Running;
pub use step::Step;

pub(crate) use file::split_call;
pub(crate) use golden::RowAlignment;
pub(crate) use graph::{Graph, Known, Layers, Place};

/// The files in `models/`, by name and content.
macro_rules! files {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../../models/", $name)))),*] };
}

/// The families. If a dump could be of several, it is of the one with most sites in it.
const FAMILIES: &[(&str, &str)] = &files!["nemotron-vl.toml", "llama-causal-lm.toml"];

/// What holds where no family is recognised.
const ANY: (&str, &str) = files!["any.toml"][0];

// The tests read every file, so that none of them is empty here.
static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| FAMILIES.iter().map(|&file| read(file)).collect());

static ANY_MODEL: LazyLock<Model> = LazyLock::new(|| Model::parse(ANY.0, ANY.1).unwrap_or_default());

fn read((name, text): (&'static str, &str)) -> Model {
    Model::parse(name, text).unwrap_or_default().with_roles_of(&ANY_MODEL)
}

/// What is known of the model that a dump's entries are of; [`any_model`] if they are of no known family.
pub fn model_of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> &'static Model {
    family_of(entries).unwrap_or(&ANY_MODEL)
}

/// The family that a dump's entries are of: each file says by which sites it is recognised.
pub fn family_of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Option<&'static Model> {
    let sites: Vec<&str> = entries.into_iter().map(|entry| entry.name.as_str()).collect();
    let of = MODELS.iter().filter_map(|model| Some((model, model.recognised(&sites)?)));
    // Of several with as many, the first.
    of.rev().max_by_key(|&(_, count)| count).map(|(model, _)| model)
}

/// The family of a file in `models/`, by the file's name without `.toml`.
pub fn named(name: &str) -> Option<&'static Model> {
    let families = FAMILIES.iter().zip(MODELS.iter());
    let mut found = families.filter(|((file, _), _)| file.strip_suffix(".toml") == Some(name));
    found.next().map(|(_, model)| model)
}

/// What the names of sites tell of any model.
pub fn any_model() -> &'static Model {
    &ANY_MODEL
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An activation of this name, of one element.
    pub(crate) fn entry(name: &str) -> Entry {
        let fields = serde_json::json!({
            "order": 0, "name": name, "role": "activation", "module": "", "dtype": "float32", "shape": [1], "sha256": "",
        });
        serde_json::from_value(fields).unwrap()
    }

    /// Whether the model of a dump with such entries has a site.
    fn knows(names: &[&str], site: &str) -> bool {
        let entries: Vec<Entry> = names.iter().map(|name| entry(name)).collect();
        model_of(&entries).graph.place(site).is_some()
    }

    #[test]
    fn every_file_is_read_and_recognises_its_own_sites() {
        let any = Model::parse(ANY.0, ANY.1).unwrap();
        assert!(any.graph.stacks.is_empty());
        assert!(any.is_layer_list("layers") && !any.is_layer_list("mlp1"));
        for ((name, text), of_list) in FAMILIES.iter().zip(MODELS.iter()) {
            let model = Model::parse(name, text).unwrap();
            let names = model.graph.sites.iter().map(|site| entry(&site.name.replace("{n}", "3")));
            let names: Vec<Entry> = names.collect();
            let found = model_of(&names);
            assert!(std::ptr::eq(found, of_list), "{name}");
            for entry in &names {
                assert!(found.graph.place(&entry.name).is_some(), "{name}: {}", entry.name);
            }
        }
    }

    #[test]
    fn roles_are_those_of_the_file_and_for_other_names_those_of_any_model() {
        let model = model_of(&[entry("mlp1")]);
        let layer = "language_model.model.layers.3";
        assert_eq!(model.role("pixel_values"), Some(SiteRole::Pixels));
        assert_eq!(model.role(&format!("{layer}.self_attn.q_proj")), Some(SiteRole::Queries));
        assert_eq!(model.role(&format!("{layer}.self_attn.q_proj#2")), Some(SiteRole::Queries));
        assert_eq!(model.role("vision_model.radio_model.model.blocks.0.attn.qkv"), Some(SiteRole::FusedQkv));
        assert_eq!(model.role("vision_model.radio_model.input_conditioner"), Some(SiteRole::Conditioner));
        assert_eq!(model.role("mlp1.3"), Some(SiteRole::Projector));
        assert_eq!(model.role("language_model.lm_head"), None);
        assert_eq!(model.role("vision_model.encoder.layers.0.attn.qkv"), Some(SiteRole::FusedQkv));
        assert!(model.is_tiled("mlp1.0") && !model.is_tiled("inputs_embeds"));
        let other = model_of(&[entry("encoder.h.0.attn.qkv")]);
        assert_eq!(other.role("encoder.h.0.attn.qkv"), Some(SiteRole::FusedQkv));
        assert_eq!(other.role("vision_model.radio_model.input_conditioner"), None);
        assert!(!other.is_tiled("mlp1.0"));
    }

    #[test]
    fn a_family_is_recognised_by_its_sites() {
        let layer = "language_model.model.layers.0.mlp";
        assert!(knows(&[layer], layer));
        assert!(knows(&["mlp1#1"], layer));
        assert!(!knows(&["encoder.layers.0.mlp"], layer));
        assert!(!knows(&["pixel_values", "input_ids", "step_logits"], layer));
        assert!(!knows(&[], layer));
    }

    #[test]
    fn a_decoder_that_lacks_modules_of_a_llama_is_none() {
        let llama =
            ["input_layernorm", "post_attention_layernorm", "mlp.gate_proj", "mlp.act_fn", "mlp.up_proj"];
        let named = |modules: &[&str]| -> Vec<String> {
            modules.iter().map(|module| format!("model.layers.0.{module}")).collect()
        };
        let knows = |modules: &[&str]| {
            let names = named(modules);
            knows(&names.iter().map(String::as_str).collect::<Vec<_>>(), "model.layers.0.mlp.act_fn")
        };
        assert!(knows(&llama));
        // Nemotron and Arcee have no gate, Cohere one norm for attention and MLP.
        assert!(!knows(&["input_layernorm", "post_attention_layernorm", "mlp.act_fn", "mlp.up_proj"]));
        assert!(!knows(&["input_layernorm", "mlp.gate_proj", "mlp.act_fn", "mlp.up_proj"]));
    }

    #[test]
    fn a_layers_number_is_a_whole_number() {
        let layers = "language_model.model.layers";
        for (inside, known) in [
            ("0", true),
            ("31.mlp.up_proj", true),
            ("18446744073709551615.mlp", true),
            ("18446744073709551616.mlp", false),
            ("00", false),
            ("x.mlp", false),
            ("1x.mlp", false),
            ("+1.mlp", false),
            ("1.mlp.other", false),
            ("1.", false),
            ("", false),
        ] {
            let name = format!("{layers}.{inside}");
            assert_eq!(knows(&["mlp1"], &name), known, "{name}");
        }
    }
}
