//! The template engine, set up as transformers sets up Jinja.

use std::collections::HashSet;

use minijinja::filters;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State};
use minijinja_contrib::pycompat;

use super::super::python::{BYTES_PER_STEP, is_space, pay_for, str_of};
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
    // Errors would hold the values of variables, whatever their size.
    environment.set_debug(false);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(|out: &mut Output, state: &mut State, value: &Value| {
        out.write_str(&str_of(value, state)?).map_err(Error::from)
    });
    environment.set_unknown_method_callback(python_method);
    environment.add_filter("tojson", tojson);
    environment.add_filter("trim", trim);
    environment.add_filter("pprint", |state: &State, value: &Value| {
        // Its indents make lines of all lengths up to the depth.
        pay_for(value, state, 2, 4)?;
        Ok::<_, Error>(filters::pprint(value))
    });
    environment.add_filter("string", |state: &State, value: &Value| str_of(value, state));
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", strftime_now);
    Ok(environment)
}

/// The methods of Python's `str`, `list` and `dict`. The engine pays for what they give; here for what they read, which may be
/// as much each time.
fn python_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    for value in [value].into_iter().chain(args) {
        match value.as_str() {
            Some(text) => state.consume_fuel((text.len() / BYTES_PER_STEP) as u64)?,
            None => state.consume_fuel(value.len().unwrap_or(0) as u64)?,
        }
    }
    match (method, value.as_str(), args) {
        ("strip" | "lstrip" | "rstrip", Some(text), [characters]) => {
            let Some(characters) = characters.as_str() else {
                return pycompat::unknown_method_callback(state, value, method, args);
            };
            let characters: HashSet<char> = characters.chars().collect();
            let is_among = |character| characters.contains(&character);
            Ok(Value::from(match method {
                "strip" => text.trim_matches(is_among),
                "lstrip" => text.trim_start_matches(is_among),
                _ => text.trim_end_matches(is_among),
            }))
        }
        ("join", Some(separator), [values]) => {
            let mut joined = String::new();
            for (index, value) in values.try_iter()?.enumerate() {
                if index > 0 {
                    joined.push_str(separator);
                }
                let text = str_of(&value, state)?;
                state.consume_fuel(1 + ((separator.len() + text.len()) / BYTES_PER_STEP) as u64)?;
                joined.push_str(&text);
            }
            Ok(Value::from(joined))
        }
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// Removes white space, or the given characters, from both ends.
fn trim(state: &State, value: &Value, characters: Option<String>) -> Result<String, Error> {
    let text = str_of(value, state)?;
    Ok(match characters {
        Some(characters) => {
            let characters: HashSet<char> = characters.chars().collect();
            text.trim_matches(|character| characters.contains(&character)).to_owned()
        }
        None => text.trim_matches(is_space).to_owned(),
    })
}

/// The longest format of `strftime_now`: each of its letters may become hundreds.
const MAX_FORMAT_BYTES: usize = 1000;

/// The local date and time, in `strftime`'s notation.
fn strftime_now(format: String) -> Result<String, Error> {
    let refuse = |problem: String| Error::new(ErrorKind::InvalidOperation, format!("strftime_now({problem}"));
    if format.len() > MAX_FORMAT_BYTES {
        return Err(refuse(format!(
            "…): expected a format of at most {MAX_FORMAT_BYTES} bytes, found {}",
            format.len()
        )));
    }
    jiff::fmt::strtime::format(&format, &jiff::Zoned::now())
        .map_err(|error| refuse(format!("`{format}`): {error}")))
}
