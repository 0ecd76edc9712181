//! Makes site names fit a column.

/// The least number of names that make a shared beginning worth a line in the legend.
const WORTH_NAMES: usize = 3;

/// The most segments of a shared beginning.
const MOST_SEGMENTS: usize = 16;

/// The most lines of a legend.
const MOST_PREFIXES: usize = 3;

/// The short forms of long beginnings that many names share.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Abbreviations {
    /// Each beginning, without its last dot, and what stands for it.
    pub(super) prefixes: Vec<(String, String)>,
}

impl Abbreviations {
    /// Chooses beginnings if any of the names is longer than the column.
    pub(super) fn for_names(names: &[&str], width: usize) -> Self {
        let mut abbreviations = Abbreviations::default();
        if names.iter().all(|name| name.chars().count() <= width) {
            return abbreviations;
        }
        let mut left: Vec<&str> = names.to_vec();
        while abbreviations.prefixes.len() < MOST_PREFIXES {
            let Some(prefix) = best_prefix(&left) else { break };
            let alias = alias(prefix);
            left.retain(|name| !name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')));
            if abbreviations.prefixes.iter().any(|(_, taken)| *taken == alias) {
                continue;
            }
            abbreviations.prefixes.push((prefix.to_owned(), alias));
        }
        abbreviations
    }

    /// A name with its beginning abbreviated.
    pub(super) fn apply(&self, name: &str) -> String {
        for (prefix, alias) in &self.prefixes {
            if let Some(rest) = name.strip_prefix(prefix.as_str())
                && rest.starts_with('.')
            {
                return format!("{alias}{rest}");
            }
        }
        name.to_owned()
    }

    /// A name that fits a width: abbreviated, and shortened in its middle if that is not enough.
    pub(super) fn fit(&self, name: &str, width: usize) -> String {
        shorten(&self.apply(name), width)
    }
}

/// What stands for a beginning: the first word of its first component.
fn alias(prefix: &str) -> String {
    let first = prefix.split('.').next().unwrap_or(prefix);
    let word = first.split('_').next().unwrap_or(first);
    format!("{word}…")
}

/// The beginning, up to a dot, whose abbreviation saves the most characters.
fn best_prefix<'a>(names: &[&'a str]) -> Option<&'a str> {
    let mut savings: std::collections::BTreeMap<&'a str, (usize, usize)> = std::collections::BTreeMap::new();
    for name in names {
        for (dot, _) in name.match_indices('.').take(MOST_SEGMENTS) {
            let prefix = &name[..dot];
            let saved = prefix.chars().count().saturating_sub(alias(prefix).chars().count());
            let entry = savings.entry(prefix).or_default();
            entry.0 += 1;
            entry.1 += saved;
        }
    }
    let worth = savings.into_iter().filter(|&(_, (names, saved))| names >= WORTH_NAMES && saved > 0);
    worth.max_by_key(|&(_, (_, saved))| saved).map(|(prefix, _)| prefix)
}

/// Takes out the middle of a text that is too long, keeping more of its end, which tells names apart.
pub(super) fn shorten(text: &str, width: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let head = kept / 3;
    let tail = kept - head;
    let head: String = chars[..head].iter().collect();
    let tail: String = chars[chars.len() - tail..].iter().collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_beginnings_are_abbreviated_once_and_short_names_left() {
        let names = [
            "pixel_values",
            "vision_model.radio_model.model.blocks.0.attn.qkv",
            "vision_model.radio_model.model.blocks.0.attn.proj",
            "vision_model.radio_model.model.blocks.1.attn",
            "vision_model.radio_model.input_conditioner",
            "mlp1.0",
            "language_model.model.layers.0.mlp.gate_proj",
            "language_model.model.layers.0.self_attn.q_proj",
            "language_model.model.layers.1.self_attn.q_proj",
        ];
        let abbreviations = Abbreviations::for_names(&names, 34);
        let expected = [
            ("vision_model.radio_model.model.blocks", "vision…"),
            ("language_model.model.layers", "language…"),
        ];
        assert_eq!(abbreviations.prefixes, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(abbreviations.apply(names[1]), "vision….0.attn.qkv");
        assert_eq!(
            abbreviations.apply("vision_model.radio_model.model.blocks"),
            "vision_model.radio_model.model.blocks"
        );
        assert_eq!(abbreviations.apply("mlp1.0"), "mlp1.0");
        assert_eq!(Abbreviations::for_names(&["mlp1.0", "mlp1.1", "mlp1.2"], 34), Abbreviations::default());
    }

    #[test]
    fn shortened_names_fit_and_keep_their_end() {
        let short = shorten("a.very.long.name.of.a.module.that.ends.in.q_proj", 20);
        assert_eq!(short, "a.very…nds.in.q_proj");
        assert_eq!(short.chars().count(), 20);
        assert_eq!(shorten("mlp1", 4), "mlp1");
    }
}
