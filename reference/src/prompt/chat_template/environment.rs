//! The template engine, set up as transformers sets up Jinja.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State};

use super::super::python::{is_space, str_of};
use super::tojson::tojson;

/// What the message of an error begins with that the template raised itself.
pub const RAISED: &str = "raise_exception: ";

/// An engine with transformers' options, filters and functions.
///
/// # Source
/// transformers, `chat_template_utils.py`, `_compile_jinja_template`
pub fn like_transformers() -> Result<Environment<'static>, Error> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(|out: &mut Output, _: &mut State, value: &Value| {
        out.write_str(&str_of(value)).map_err(Error::from)
    });
    // The methods of Python's str, list and dict.
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson);
    environment.add_filter("trim", trim);
    environment.add_filter("string", |value: &Value| str_of(value));
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", strftime_now);
    Ok(environment)
}

/// Removes white space, or the given characters, from both ends.
fn trim(value: &Value, characters: Option<String>) -> String {
    let text = str_of(value);
    match characters {
        Some(characters) => text.trim_matches(|character| characters.contains(character)).to_owned(),
        None => text.trim_matches(is_space).to_owned(),
    }
}

/// The local date and time, in `strftime`'s notation.
fn strftime_now(format: String) -> Result<String, Error> {
    jiff::fmt::strtime::format(&format, &jiff::Zoned::now()).map_err(|error| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now(`{format}`): {error}"))
    })
}

/// The template with its `generation` blocks, which mark the assistant's answers for training, as plain blocks.
pub fn without_generation_tags(source: &str) -> String {
    let mut rest = source;
    let mut result = String::with_capacity(source.len());
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + length];
        let word = tag.trim_matches(|character: char| character.is_whitespace() || "+-".contains(character));
        let replacement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        result.push_str(&rest[..start + 2]);
        match replacement {
            Some(replacement) => result.push_str(&tag.replace(word, replacement)),
            None => result.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    result.push_str(rest);
    result
}
