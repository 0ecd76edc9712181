//! What Python an `auto_map` of a configuration names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::names::{is_plain, is_repository};

/// The modules of other repositories that an `auto_map` of the configuration, at any depth, takes its code from.
pub(super) fn other_repositories(config: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    let mut entries = Vec::new();
    collect_classes(config, &mut entries);
    for (repository, module) in entries.iter().filter_map(|entry| entry.split_once("--")) {
        let module = format!("{}.py", module.split('.').next().unwrap_or_default());
        if is_repository(repository) && is_plain(&module) {
            found.entry(repository.into()).or_default().insert(module);
        }
    }
    found
}

/// The modules of the repository itself that the `auto_map` of a configuration names.
pub(super) fn own_modules(config: &Value) -> BTreeSet<String> {
    let mut entries = Vec::new();
    collect_classes(config, &mut entries);
    let own = entries.iter().filter(|entry| !entry.contains("--"));
    own.map(|entry| format!("{}.py", entry.split('.').next().unwrap_or_default())).collect()
}

/// The entries of each `auto_map`: `module.Class`, or `owner/name--module.Class`.
fn collect_classes<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    let Value::Object(object) = value else { return };
    for (name, value) in object {
        if name == "auto_map" {
            for entry in value.as_object().into_iter().flat_map(|map| map.values()) {
                match entry {
                    Value::Array(several) => found.extend(several.iter().filter_map(Value::as_str)),
                    entry => found.extend(entry.as_str()),
                }
            }
        } else {
            collect_classes(value, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_map_names_modules_of_other_repositories_at_any_depth() {
        let config = serde_json::json!({
            "auto_map": { "AutoModel": "modeling.Model", "AutoConfig": "a/b--configuration.Config" },
            "vision_config": { "auto_map": { "AutoModel": "nvidia/C-RADIOv2-H--hf_model.RADIOModel" } },
            "text": "x/y--z",
            "other": {
                "auto_map": {
                    "AutoModel": "../../etc--passwd", "AutoConfig": 3, "AutoTokenizer": [null, "a/b--tokenization.T"]
                }
            }
        });
        let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<String>>();
        let expected = [
            ("a/b".to_string(), set(&["configuration.py", "tokenization.py"])),
            ("nvidia/C-RADIOv2-H".to_string(), set(&["hf_model.py"])),
        ];
        assert_eq!(other_repositories(&config), BTreeMap::from(expected));
        assert_eq!(own_modules(&config), set(&["modeling.py"]));
    }
}
