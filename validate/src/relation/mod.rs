//! Two runs of one engine that must agree in a known way: which tokens of one are those of the other.
//!
//! The golden dump is the *plain* run here: one request, alone, its prompt in one forward pass. A file for each relation finds out
//! which tokens of the candidate's passes are the plain run's (`pieces`, `batched`). From that and from shapes alone follows what
//! belongs together of each entry (`axes`, `entries`), which is then compared as always.

mod alignment;
mod axes;
mod batched;
mod decoding;
mod entries;
mod fact;
mod kind;
mod pair;
mod pieces;
mod rows;
mod sides;
mod tiles;
mod tokens;

use std::collections::HashMap;

use golden::Dump;

use crate::error::Result;
use crate::names::Pairing;
use entries::Related;
use sides::Sides;
use tokens::Given;

pub use alignment::{AlignedStep, Alignment, Pass};
pub use fact::Fact;
pub use kind::Relation;

pub(crate) use pair::words_of;
pub(crate) use rows::restore;

/// Finds what belongs together.
///
/// # Errors
///
/// [`crate::Error::Relation`] if the candidate's tokens are not those of the plain run in this way.
pub(crate) fn relate<'a>(relation: Relation, plain: &'a Dump, candidate: &'a Dump) -> Result<Related<'a>> {
    let sides = Sides { relation, plain, candidate };
    let alignment = match relation {
        Relation::Same => return repeated(&sides),
        Relation::Chunked | Relation::PrefixCache => pieces::align(&sides)?,
        Relation::Batched => batched::align(&sides)?,
    };
    Ok(entries::relate(&sides, alignment))
}

/// A repeat: every entry with the one of the same key.
fn repeated<'a>(sides: &Sides<'a>) -> Result<Related<'a>> {
    let &Sides { plain, candidate, .. } = sides;
    let ids = [plain, candidate].map(|dump| Given::of(dump, 0).map(|given| given.ids));
    if let [Some(plain), Some(candidate)] = &ids
        && plain != candidate
    {
        let agreeing = plain.iter().zip(candidate).take_while(|(a, b)| a == b).count();
        return Err(sides.refusal(
            format!("the {} tokens of the plain run", plain.len()),
            format!("{} tokens, of which the first {agreeing} agree", candidate.len()),
        ));
    }
    let alignment = Alignment { tokens: ids[0].as_ref().map_or(0, Vec::len), ..Alignment::default() };
    Ok(Related { pairing: Pairing::new(plain, candidate, None)?, alignment, starts: HashMap::new() })
}
