//! Python's text of a value, where a template shows it.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// Whether Python's `str.isspace` holds: Unicode's white space, and four control characters that separate records.
pub fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

/// Python's `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Values within values that are written: Python itself gives up at about a thousand.
const MAX_DEPTH: usize = 500;

/// Python's text of a value as it is written, and what is paid for it: a value that holds another many times is written as
/// often.
struct Writer<'a> {
    text: String,
    state: &'a State<'a, 'a>,
    paid: usize,
    depth: usize,
}

/// Bytes that one step of the engine pays for, as it counts its own.
pub const BYTES_PER_STEP: usize = 64;

/// Python's `str(value)`; nothing for an undefined value, as Jinja has it.
///
/// # Errors
/// The value is nested too deeply, or is more than the template may write.
pub fn str_of(value: &Value, state: &State) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(String::new()),
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        _ => {
            let mut writer = Writer { text: String::new(), state, paid: 0, depth: 0 };
            writer.repr(value)?;
            Ok(writer.text)
        }
    }
}

impl Writer<'_> {
    /// Python's `repr(value)`.
    fn repr(&mut self, value: &Value) -> Result<(), Error> {
        self.state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::Undefined => self.text.push_str("Undefined"),
            ValueKind::None => self.text.push_str("None"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "True" } else { "False" }),
            ValueKind::Number if !value.is_integer() => {
                let text = f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float_repr);
                self.text.push_str(&text);
            }
            ValueKind::String => string_repr(value.as_str().unwrap_or_default(), &mut self.text),
            ValueKind::Seq | ValueKind::Iterable => {
                let (begin, end) = match (value.is_tuple(), value.len()) {
                    (true, Some(1)) => ("(", ",)"),
                    (true, _) => ("(", ")"),
                    (false, _) => ("[", "]"),
                };
                let items = value.try_iter().into_iter().flatten();
                self.items(begin, end, items, |writer, item| writer.repr(&item))?;
            }
            ValueKind::Map => {
                let keys = value.try_iter().into_iter().flatten();
                self.items("{", "}", keys, |writer, key| {
                    writer.repr(&key)?;
                    writer.text.push_str(": ");
                    writer.repr(&value.get_item(&key).unwrap_or(Value::UNDEFINED))
                })?;
            }
            _ => self.text.push_str(&value.to_string()),
        }
        self.pay()
    }

    fn items(
        &mut self,
        begin: &str,
        end: &str,
        items: impl Iterator<Item = Value>,
        mut write: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        self.text.push_str(begin);
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.text.push_str(", ");
            }
            write(self, item)?;
        }
        self.text.push_str(end);
        self.depth -= 1;
        Ok(())
    }

    fn pay(&mut self) -> Result<(), Error> {
        let steps = (self.text.len() - self.paid) / BYTES_PER_STEP;
        self.paid += steps * BYTES_PER_STEP;
        self.state.consume_fuel(steps as u64)
    }
}

fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("values nested deeper than {MAX_DEPTH}"))
}

/// Pays for writing a value in some form, of so many bytes for each value in it and for each level that it is down; strings
/// cost their length.
///
/// # Errors
/// As [`str_of`].
pub fn pay_for(value: &Value, state: &State, each: usize, each_level: usize) -> Result<(), Error> {
    fn pay(
        value: &Value,
        depth: usize,
        cost: &impl Fn(usize, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        cost(value.as_str().map_or(0, str::len), depth)?;
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
            return Ok(());
        }
        for item in value.try_iter().into_iter().flatten() {
            if value.kind() == ValueKind::Map {
                pay(&value.get_item(&item).unwrap_or(Value::UNDEFINED), depth + 1, cost)?;
            }
            pay(&item, depth + 1, cost)?;
        }
        Ok(())
    }
    pay(value, 0, &|text, depth| {
        let bytes = each.saturating_add(text).saturating_add(each_level.saturating_mul(depth));
        state.consume_fuel(1 + (bytes / BYTES_PER_STEP) as u64)
    })
}

/// The shortest digits that read back as the same number, as Python writes them.
pub fn float_repr(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if exponent != 0 && !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{number:?}"),
    }
}

fn string_repr(text: &str, repr: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    repr.push(quote);
    for character in text.chars() {
        match character {
            '\n' => repr.push_str("\\n"),
            '\r' => repr.push_str("\\r"),
            '\t' => repr.push_str("\\t"),
            '\\' => repr.push_str("\\\\"),
            _ if character == quote => {
                repr.push('\\');
                repr.push(quote);
            }
            _ if character < ' ' || ('\x7f'..='\u{a0}').contains(&character) => {
                repr.push_str(&format!("\\x{:02x}", u32::from(character)));
            }
            _ => repr.push(character),
        }
    }
    repr.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strip_takes_what_python_calls_space() {
        assert_eq!(strip(" \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\u{85}\u{a0}\u{2003}a b\u{3000} "), "a b");
        // Python keeps these.
        assert_eq!(strip("\u{200b}a\0"), "\u{200b}a\0");
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        let value = Value::from(minijinja::value::Serde(
            serde_json::json!([null, true, 1, 2.0, "it's", "\"'\n", {"a": [false]}]),
        ));
        let environment = minijinja::Environment::new();
        let state = environment.empty_state();
        let text = |value: &Value| str_of(value, &state).unwrap();
        assert_eq!(text(&value), r#"[None, True, 1, 2.0, "it's", '"\'\n', {'a': [False]}]"#);
        assert_eq!(text(&Value::from("plain")), "plain");
        assert_eq!(text(&Value::UNDEFINED), "");
    }

    #[test]
    fn floats_switch_to_exponents_where_python_does() {
        for (number, expected) in [
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (-2.5, "-2.5"),
            (1e100, "1e+100"),
            (0.0, "0.0"),
        ] {
            assert_eq!(float_repr(number), expected);
        }
    }
}
