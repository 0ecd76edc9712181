//! Reads what Python code would do, without running any of it.
//!
//! The code is parsed by ruff's parser. What an analysis cannot follow it says so of: no value is guessed.

mod constants;
mod defaults;
mod image_processing;
mod modeling;
mod patch_generator;
mod syntax;
mod walk;

pub(crate) use defaults::{ClassDefaults, class_defaults};
pub(crate) use image_processing::upscale_factor;
pub(crate) use modeling::{conditioner, modeling};
pub(crate) use patch_generator::align_corners;

use syntax::Module;

/// What an analysis says of one behaviour.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judgement<T> {
    /// The code does this.
    Found {
        /// What.
        value: T,
        /// Where, counted from 1.
        line: usize,
        /// What is there.
        detail: String,
    },
    /// The code does something that this program cannot compute.
    Unsupported {
        /// Where.
        line: usize,
        /// What is supported.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The analysis cannot tell.
    Unknown {
        /// Where, if it is at one place.
        line: Option<usize>,
        /// Why not.
        reason: String,
    },
}

impl<T> Judgement<T> {
    fn unknown(line: impl Into<Option<usize>>, reason: impl Into<String>) -> Self {
        Self::Unknown { line: line.into(), reason: reason.into() }
    }
}

/// Longer files are not read: the real ones have a few hundred lines.
const MAX_BYTES: usize = 1 << 18;
/// More nested brackets are not read: the real files have about ten, and ruff's lexer takes time that grows with
/// the square for replacement fields of f-strings inside each other.
const MAX_NESTING: usize = 200;
/// Room for the recursion of parser and walkers over the longest file; only what is used is taken.
const STACK_BYTES: usize = 1 << 28;

/// Parses `text` and gives the module to `analyse`; on a thread of its own, whose stack hostile code cannot exhaust.
fn with_module<T: Send>(text: &[u8], analyse: impl FnOnce(&Module<'_>) -> T + Send) -> Result<T, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it has {} bytes, more than {MAX_BYTES}", text.len()));
    }
    if nesting(text) > MAX_NESTING {
        return Err(format!("it has more than {MAX_NESTING} nested brackets"));
    }
    let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_string())?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let work = move || Module::parse(text, analyse);
        let running =
            thread.spawn_scoped(scope, work).map_err(|error| format!("no thread to read it on: {error}"))?;
        running.join().map_err(|_| "the parser failed".to_string())?
    })
}

/// How many brackets are open at once, at most. Those in texts and comments count, too: there they are few.
fn nesting(text: &[u8]) -> usize {
    let (mut open, mut most) = (0usize, 0);
    for byte in text {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Analyses `text` for one behaviour.
fn judge<T: Send>(text: &[u8], analyse: impl FnOnce(&Module<'_>) -> Judgement<T> + Send) -> Judgement<T> {
    with_module(text, analyse).unwrap_or_else(|reason| Judgement::unknown(None, reason))
}
