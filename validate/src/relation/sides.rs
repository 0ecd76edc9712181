//! Both dumps, and how they belong together.

use golden::Dump;

use super::kind::Relation;
use super::tokens::Given;
use crate::error::{Error, Result};

/// Both dumps, and how they belong together.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    pub(super) relation: Relation,
    pub(super) plain: &'a Dump,
    pub(super) candidate: &'a Dump,
}

impl Sides<'_> {
    /// The prompt of the plain run.
    pub(super) fn prompt(&self) -> Result<Given> {
        let refusal = |found: String| Error::Relation {
            path: self.plain.path().to_owned(),
            relation: self.relation.name(),
            expected: "`input_ids` of one request in the plain run".to_owned(),
            found,
        };
        let given = Given::of(self.plain, 0).ok_or_else(|| refusal("none".to_owned()))?;
        if given.batch != 1 || given.ids.is_empty() {
            return Err(refusal(format!("[{}, {}]", given.batch, given.width)));
        }
        Ok(given)
    }

    /// The candidate's tokens are not those of the plain run.
    pub(super) fn refusal(&self, expected: String, found: String) -> Error {
        Error::Relation {
            path: self.candidate.path().to_owned(),
            relation: self.relation.name(),
            expected,
            found,
        }
    }
}
