//! Patterns of tensor names.

/// What `{i}`, a layer's number, and a `*` at the end stand for in one name.
pub(super) struct Captured<'a> {
    number: &'a str,
    rest: &'a str,
}

impl<'a> Captured<'a> {
    pub(super) fn of(pattern: &str, name: &'a str) -> Option<Self> {
        let (pattern, any_rest) = match pattern.strip_suffix('*') {
            Some(pattern) => (pattern, true),
            None => (pattern, false),
        };
        let (number, name) = match pattern.split_once("{i}") {
            None => ("", name.strip_prefix(pattern)?),
            Some((before, after)) => {
                let name = name.strip_prefix(before)?;
                let digits = name.bytes().take_while(u8::is_ascii_digit).count();
                let (number, name) = name.split_at(digits);
                // `01` would be a second name of the first layer.
                if number.is_empty() || (number.len() > 1 && number.starts_with('0')) {
                    return None;
                }
                (number, name.strip_prefix(after)?)
            }
        };
        (any_rest != name.is_empty()).then_some(Self { number, rest: name })
    }

    pub(super) fn fill(&self, pattern: &str) -> String {
        pattern.replace("{i}", self.number).replace('*', self.rest)
    }
}
