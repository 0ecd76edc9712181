//! How two related runs belong together, in sentences.

use cli::counted;
use std::ops::Range;

use crate::relation::{Fact, words_of};

/// How many names or pieces a sentence has.
const SHOWN: usize = 4;

/// A fact of an alignment.
pub(super) fn fact(fact: &Fact) -> String {
    match fact {
        Fact::Pieces(pieces) => {
            let shown = pieces
                .iter()
                .take(SHOWN)
                .map(|(step, tokens)| format!("{} in step {step}", words_of("token", tokens)));
            let shown: Vec<String> = shown.collect();
            let rest = rest(pieces.len());
            format!(
                "the candidate took the prompt in {}: {}{rest}",
                counted(pieces.len(), "piece"),
                shown.join(", ")
            )
        }
        Fact::Cached(tokens) if tokens.is_empty() => {
            "nothing came from the cache: all tokens are compared".to_owned()
        }
        Fact::Cached(tokens) => {
            let are = if tokens.len() == 1 { "is" } else { "are" };
            format!("{} came from the cache and {are} not compared", words_of("token", tokens))
        }
        Fact::Sequence { row, of } => {
            format!(
                "the request is sequence {row} of {of} in the candidate's batch; the others are not compared"
            )
        }
        Fact::Padding { step: 0, columns } => {
            format!("of the request's sequence in the candidate {} padding: not compared", all(columns))
        }
        Fact::Padding { step, columns } => {
            format!("in step {step} of the candidate {} padding: not compared", all(columns))
        }
        Fact::Others { columns } => {
            format!("of the candidate's sequence {} other requests': not compared", all(columns))
        }
        Fact::Several { count } => {
            format!("the request stands in the candidate's batch {count} times; the first is compared")
        }
        Fact::Decoding { first } => {
            format!("step {first} of the candidate is compared with step 1, and so on")
        }
        Fact::Lost { step, of } => format!(
            "which of the {} in step {step} of the candidate are the request's is not recorded: not compared",
            counted(*of, "token")
        ),
        Fact::LastPiece { names } => {
            format!(
                "of {} the last piece's is compared: there is one in each piece, for no token alone",
                some(names)
            )
        }
        Fact::LastToken { names } => format!("of {} both runs have the last token alone", some(names)),
        Fact::NotComparable { reason, names } => {
            format!("{} not comparable, {}: {reason}", counted(names.len(), "entry"), some(names))
        }
    }
}

/// Ranges of tokens, with a verb.
fn all(columns: &[Range<usize>]) -> String {
    let count: usize = columns.iter().map(Range::len).sum();
    let words: Vec<String> = columns.iter().map(|range| words_of("token", range)).collect();
    format!("{} {}", words.join(" and "), if count == 1 { "is" } else { "are" })
}

/// The first names, and how many more there are.
fn some(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    format!("{}{}", shown.join(", "), rest(names.len()))
}

fn rest(count: usize) -> String {
    let more = count.saturating_sub(SHOWN);
    if more > 0 { format!(" and {more} more") } else { String::new() }
}
