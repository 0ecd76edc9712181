//! Counts the passes of a run, for mistakes that begin behind the prefill.

use super::mistake::{AtWork, Pass, Wrong};
use crate::error::Result;
use crate::model::observer::{AttentionInputs, Counter, Site};

/// A mistake at work, which counts passes.
pub(super) struct Decoding {
    wrong: Wrong,
    pass: Pass,
    has_begun: bool,
}

impl Decoding {
    pub(super) fn new(wrong: Wrong) -> Self {
        Self { wrong, pass: Pass::default(), has_begun: false }
    }
}

impl AtWork for Decoding {
    fn attention(&mut self, site: Site<'_>, inputs: &mut AttentionInputs) -> Result<()> {
        match self.wrong {
            Wrong::Cache(change) if self.pass.step > 0 => change(self.pass, site, inputs),
            _ => Ok(()),
        }
    }

    fn count(&mut self, counter: Counter, count: i64) -> i64 {
        if counter == Counter::FirstPosition {
            // A pass begins: the first is the prefill, and the second knows how long that was.
            match (self.has_begun, self.pass.step) {
                (false, _) => self.has_begun = true,
                (true, 0) => self.pass = Pass { step: 1, prompt: count },
                (true, _) => self.pass.step += 1,
            }
        }
        match (self.wrong, counter) {
            (Wrong::Position(position), Counter::FirstPosition) if self.pass.step > 0 => {
                position(self.pass, count)
            }
            (Wrong::Slot(slot), Counter::CacheSlot) if self.pass.step > 0 => slot(self.pass, count),
            _ => count,
        }
    }
}
