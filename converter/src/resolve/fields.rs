//! Reads the fields of a JSON object by name and remembers which were asked for.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::Error;
use crate::error::without_controls;

/// A JSON object of a source file.
///
/// A `null` counts as absent, as it does in Hugging Face's configurations.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    path: &'a Path,
    prefix: String,
    object: &'a Map<String, Value>,
    asked: RefCell<HashSet<String>>,
}

impl<'a> Fields<'a> {
    /// The object that is the whole file at `path`.
    pub(super) fn root(path: &'a Path, value: &'a Value) -> Result<Self, Error> {
        match value {
            Value::Object(object) => Ok(Self::new(path, String::new(), object)),
            other => Err(Error::field(path, ".", "an object", show(other))),
        }
    }

    fn new(path: &'a Path, prefix: String, object: &'a Map<String, Value>) -> Self {
        Self { path, prefix, object, asked: RefCell::default() }
    }

    /// The file.
    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// The dotted path of the field `name`.
    pub(super) fn name(&self, name: &str) -> String {
        let name = without_controls(name);
        if self.prefix.is_empty() { name } else { format!("{}.{name}", self.prefix) }
    }

    /// Whether the field is written at all, be it as `null`.
    pub(super) fn is_written(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// The value of a field that is there and not `null`.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(name.to_string());
        self.object.get(name).filter(|value| !value.is_null())
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

    /// A number.
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

    /// A list of numbers.
    pub(super) fn numbers(&self, name: &str) -> Result<Option<Vec<f64>>, Error> {
        self.typed(name, "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }

    /// An object inside this one.
    pub(super) fn child(&self, name: &str) -> Result<Option<Fields<'a>>, Error> {
        let object = self.typed(name, "an object", Value::as_object)?;
        Ok(object.map(|object| Fields::new(self.path, self.name(name), object)))
    }

    /// A list of objects inside this one.
    pub(super) fn children(&self, name: &str) -> Result<Option<Vec<Fields<'a>>>, Error> {
        let items: Option<Vec<&Map<String, Value>>> = self.typed(name, "a list of objects", |value| {
            value.as_array()?.iter().map(Value::as_object).collect()
        })?;
        Ok(items.map(|items| {
            let fields = |(i, object)| Fields::new(self.path, format!("{}[{i}]", self.name(name)), object);
            items.into_iter().enumerate().map(fields).collect()
        }))
    }

    /// `value`, or the failure that the field is not there.
    pub(super) fn required<T>(&self, name: &str, expected: &str, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| self.wrong(name, expected, "none"))
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

    /// Refuses any value but `null`, an empty list or object, and those in `harmless`.
    pub(super) fn refuse(&self, name: &str, harmless: &[Value], reason: &str) -> Result<(), Error> {
        match self.value(name) {
            None => Ok(()),
            Some(Value::Array(items)) if items.is_empty() => Ok(()),
            Some(Value::Object(entries)) if entries.is_empty() => Ok(()),
            Some(value) if harmless.contains(value) => Ok(()),
            Some(_) => {
                let allowed: Vec<String> =
                    ["`null`".into()].into_iter().chain(harmless.iter().map(show)).collect();
                Err(self.unsupported(name, &allowed.join(" or "), reason))
            }
        }
    }

    /// The fields that nobody asked for and that are not `null`.
    pub(super) fn unasked(&self) -> Vec<&'a str> {
        let asked = self.asked.borrow();
        self.object
            .iter()
            .filter(|(name, value)| !value.is_null() && !asked.contains(*name))
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

/// A JSON value in backticks, cut where it is long.
pub(super) fn show(value: &Value) -> String {
    let text = without_controls(&value.to_string());
    let short: String = text.chars().take(80).collect();
    if short.len() < text.len() { format!("`{short}…`") } else { format!("`{text}`") }
}
