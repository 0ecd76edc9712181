//! Reads the fields of a JSON object by name and remembers which were asked for.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};
use store::json;

use crate::Error;
use crate::error::visible;

/// A JSON object of a source file.
///
/// A `null` counts as absent, as it does in Hugging Face's configurations; where the public code would not take it for that,
/// [`Fields::refuse_null`] does.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    path: &'a Path,
    prefix: String,
    object: &'a Map<String, Value>,
    /// Shared by all objects of a file, so that nothing is lost inside one that somebody looked into.
    seen: Rc<RefCell<Seen>>,
}

/// Dotted paths of a file.
#[derive(Debug, Default)]
struct Seen {
    /// Fields that were read, or dealt with otherwise.
    asked: HashSet<String>,
    /// Objects, and lists of objects, whose own fields were looked at.
    opened: HashSet<String>,
    /// Fields that have no influence, as somebody found who looked at them.
    unused: HashSet<String>,
    /// Fields that were taken as unasked for; once is enough.
    taken: HashSet<String>,
}

/// A field that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unasked {
    /// Its dotted path.
    pub(super) path: String,
    /// Its own name.
    pub(super) name: String,
    /// Whether it is `null`, or somebody found that it has no influence.
    pub(super) is_unused: bool,
}

impl<'a> Fields<'a> {
    /// The object that is the whole file at `path`.
    pub(super) fn root(path: &'a Path, value: &'a Value) -> Result<Self, Error> {
        match object(value) {
            Some(object) => Ok(Self { path, prefix: String::new(), object, seen: Rc::default() }),
            None => Err(Error::field(path, ".", "an object", show(value))),
        }
    }

    fn inner(&self, prefix: String, object: &'a Map<String, Value>) -> Self {
        Self { path: self.path, prefix, object, seen: Rc::clone(&self.seen) }
    }

    /// The file.
    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// The dotted path of the field `name`.
    pub(super) fn name(&self, name: &str) -> String {
        dotted(&self.prefix, name)
    }

    /// The names of the fields that are there and not `null`.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.object.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
    }

    /// Whether the field is written at all, be it as `null`.
    pub(super) fn is_written(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// The value of a field that is there and not `null`.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.seen.borrow_mut().asked.insert(self.name(name));
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Says that a field has no influence here, whether or not it was asked for: it is to be listed.
    pub(super) fn unused(&self, name: &str) {
        let name = self.name(name);
        let mut seen = self.seen.borrow_mut();
        seen.asked.remove(&name);
        seen.unused.insert(name);
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.value(name)
            .map(|value| convert(value).ok_or_else(|| self.wrong(name, expected, show(value))))
            .transpose()
    }

    /// A number that counts something.
    pub(super) fn size(&self, name: &str) -> Result<Option<usize>, Error> {
        self.typed(name, "a whole number", |value| value.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    /// A number; it is finite.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, Error> {
        self.typed(name, "a number", Value::as_f64)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        self.typed(name, "`true` or `false`", Value::as_bool)
    }

    /// `true` or `false` where Python asks for truth: a written `null` is `false`.
    pub(super) fn truth(&self, name: &str) -> Result<Option<bool>, Error> {
        let flag = self.flag(name)?;
        Ok(if self.is_written(name) { Some(flag.unwrap_or(false)) } else { None })
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Error> {
        self.typed(name, "a text", Value::as_str)
    }

    /// A token's id.
    pub(super) fn token(&self, name: &str) -> Result<Option<u32>, Error> {
        self.typed(name, "a token's id", |value| value.as_u64().and_then(|n| u32::try_from(n).ok()))
    }

    /// A list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Error> {
        self.typed(name, "a list of texts", |value| {
            value.as_array()?.iter().map(|item| item.as_str().map(str::to_string)).collect()
        })
    }

    /// A list of numbers; they are finite.
    pub(super) fn numbers(&self, name: &str) -> Result<Option<Vec<f64>>, Error> {
        self.typed(name, "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }

    /// An object inside this one.
    pub(super) fn child(&self, name: &str) -> Result<Option<Fields<'a>>, Error> {
        let object = self.typed(name, "an object", object)?;
        Ok(object.map(|object| self.inner(self.opened(name), object)))
    }

    /// An object inside this one that has to be there; `expected` says what it is where it is not.
    pub(super) fn required_child(&self, name: &str, expected: &str) -> Result<Fields<'a>, Error> {
        self.required(name, expected, self.child(name)?)
    }

    /// A list of objects inside this one.
    pub(super) fn children(&self, name: &str) -> Result<Option<Vec<Fields<'a>>>, Error> {
        let items: Option<Vec<&Map<String, Value>>> =
            self.typed(name, "a list of objects", |value| value.as_array()?.iter().map(object).collect())?;
        Ok(items.map(|items| {
            let name = self.opened(name);
            let fields = |(i, object)| self.inner(format!("{name}[{i}]"), object);
            items.into_iter().enumerate().map(fields).collect()
        }))
    }

    fn opened(&self, name: &str) -> String {
        let name = self.name(name);
        self.seen.borrow_mut().opened.insert(name.clone());
        name
    }

    /// `value`, or the failure that the field is not there.
    pub(super) fn required<T>(&self, name: &str, expected: &str, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| self.wrong(name, expected, "none"))
    }

    /// Refuses a written `null` where the public code has a default that it keeps only for an absent field.
    pub(super) fn refuse_null(&self, name: &str, expected: &str) -> Result<(), Error> {
        match self.object.get(name) {
            Some(Value::Null) => Err(self.wrong(name, expected, "`null`")),
            _ => Ok(()),
        }
    }

    /// Refuses a size that is written and differs from `known`; `by` says what `known` was taken from.
    pub(super) fn refuse_other_size(&self, name: &str, known: usize, by: &str) -> Result<(), Error> {
        match self.size(name)? {
            Some(declared) if declared != known => {
                Err(self.wrong(name, format!("`{known}`, {by}"), format!("`{declared}`")))
            }
            _ => Ok(()),
        }
    }

    /// The failure that a field is not what it should be.
    pub(super) fn wrong(&self, name: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::field(self.path, self.name(name), expected, found)
    }

    /// The failure that a field asks for something that isn't supported.
    pub(super) fn unsupported(&self, name: &str, expected: &str, reason: &str) -> Error {
        let found = self.object.get(name).map_or("none".into(), show);
        Error::unsupported(self.path, self.name(name), expected, found, reason)
    }

    /// Refuses any value but `null`, an empty list or object, and those in `harmless`; such a value has no influence.
    pub(super) fn refuse(&self, name: &str, harmless: &[Value], reason: &str) -> Result<(), Error> {
        let is_harmless = match self.value(name) {
            None => true,
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(entries)) => entries.is_empty(),
            Some(value) => harmless.iter().any(|harmless| equal_in_python(value, harmless)),
        };
        if is_harmless {
            self.unused(name);
            return Ok(());
        }
        let allowed: Vec<String> = ["`null`".into()].into_iter().chain(harmless.iter().map(show)).collect();
        Err(self.unsupported(name, &allowed.join(" or "), reason))
    }

    /// The fields that nobody asked for, those of inner objects that somebody looked into included, and no field twice.
    pub(super) fn take_unasked(&self) -> Vec<Unasked> {
        let mut found = Vec::new();
        let mut seen = self.seen.borrow_mut();
        seen.collect_unasked(&self.prefix, self.object, &mut found);
        seen.taken.extend(found.iter().map(|field| field.path.clone()));
        found
    }
}

impl Seen {
    fn collect_unasked(&self, prefix: &str, fields: &Map<String, Value>, found: &mut Vec<Unasked>) {
        for (name, value) in fields {
            let path = dotted(prefix, name);
            if self.taken.contains(&path) {
                continue;
            }
            if !self.asked.contains(&path) {
                let is_unused = value.is_null() || self.unused.contains(&path);
                found.push(Unasked { path, name: name.clone(), is_unused });
            } else if self.opened.contains(&path) {
                if let Some(object) = object(value) {
                    self.collect_unasked(&path, object, found);
                }
                let items = value.as_array().into_iter().flatten().enumerate();
                for (i, object) in items.filter_map(|(i, item)| Some((i, object(item)?))) {
                    self.collect_unasked(&format!("{path}[{i}]"), object, found);
                }
            }
        }
    }
}

fn dotted(prefix: &str, name: &str) -> String {
    let name = visible(name);
    if prefix.is_empty() { name } else { format!("{prefix}.{name}") }
}

/// The object that `value` is; what stands for one of Python's literals is none.
fn object(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object().filter(|_| json::literal(value).is_none())
}

/// Whether Python takes two values for equal: `False` is `0`, and `0.0` is `0`.
pub(super) fn equal_in_python(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        other => other.as_f64(),
    };
    a == b || number(a).is_some_and(|a| number(b) == Some(a))
}

/// A JSON value in backticks, cut where it is long.
pub(super) fn show(value: &Value) -> String {
    let text = visible(&json::show(value));
    let short: String = text.chars().take(80).collect();
    if short.len() < text.len() { format!("`{short}…`") } else { format!("`{text}`") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unasked(fields: &Fields<'_>) -> Vec<String> {
        fields.take_unasked().into_iter().map(|field| field.path).collect()
    }

    #[test]
    fn what_nobody_asked_for_is_found_at_any_depth_and_once() {
        let value = json!({
            "a": 1, "b": { "c": 1, "d": { "e": 1 } }, "f": [{ "g": 1, "h": 2 }, { "i": null }], "j": { "k": 1 }
        });
        let root = Fields::root(Path::new("x.json"), &value).unwrap();
        root.size("a").unwrap();
        let b = root.child("b").unwrap().unwrap();
        b.child("d").unwrap().unwrap().size("e").unwrap();
        root.children("f").unwrap().unwrap()[0].size("g").unwrap();
        assert_eq!(unasked(&b), ["b.c"]);
        assert_eq!(unasked(&root), ["f[0].h", "f[1].i", "j"]);
        assert_eq!(unasked(&root), Vec::<String>::new());
        root.unused("a");
        assert_eq!(unasked(&root), ["a"]);
    }

    #[test]
    fn pythons_equality_is_wider_than_jsons() {
        for (a, b, equal) in [
            (json!(false), json!(0), true),
            (json!(1.0), json!(true), true),
            (json!("0"), json!(0), false),
            (json!(2), json!(true), false),
            (json!([]), json!(0), false),
        ] {
            assert_eq!(equal_in_python(&a, &b), equal, "{a} {b}");
        }
    }
}
