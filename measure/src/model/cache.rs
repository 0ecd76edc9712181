//! The key-value cache, by the names that the dump's format has for its parts.

/// The keys or the values of a layer, [batch, kv heads, positions, head width].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachePart {
    /// The number of the layer.
    pub layer: u64,
    /// `keys` or `values`.
    pub what: &'static str,
}

impl CachePart {
    /// The part of the cache that a site is; `None` of another site.
    pub fn of(name: &str) -> Option<Self> {
        let (layer, what) = name.strip_prefix("past_key_values.")?.split_once('.')?;
        let what = ["keys", "values"].into_iter().find(|&part| part == what)?;
        Some(CachePart { layer: layer.parse().ok()?, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_and_values_of_a_layer_are_parts() {
        let keys = CachePart { layer: 12, what: "keys" };
        assert_eq!(CachePart::of("past_key_values.12.keys"), Some(keys));
        for other in
            ["past_key_values.positions", "past_key_values.x.keys", "past_key_values.1.keys.0", "keys"]
        {
            assert_eq!(CachePart::of(other), None, "{other}");
        }
    }
}
