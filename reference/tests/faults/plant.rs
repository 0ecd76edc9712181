//! A mistake, and where it is planted.

use converter::normalized::TorchDtype;
use reference::mistakes as bank;
use validate::diagnosis::DiagnosisKind;

use crate::edit::Edit;

/// Where a mistake is planted.
#[derive(Clone, Copy)]
pub enum Plant {
    /// In the computation of the reference runtime.
    Code(bank::Mistake),
    /// In the converted checkpoint.
    Checkpoint(fn(&mut Edit)),
    /// In what the model is given.
    Given(fn(&mut Given)),
    /// In what the model is given for this picture, of a request that the runtime itself has answered before.
    Pictures { file: &'static str, change: fn(&mut Edit) },
    /// In what is recorded: the numbers of this golden in float32.
    Recorded { run: &'static str },
    /// In the dtype in which pixels reach the tower, which was another when the runtime itself answered the request before; held
    /// to every bit, since it changes no more than the last.
    Pixels { golden: TorchDtype, candidate: TorchDtype },
    /// In the computation, of a request that the runtime itself has answered before on a checkpoint so changed.
    CodeOn { checkpoint: fn(&mut Edit), mistake: bank::Mistake },
}

/// What a golden gives to the model.
pub struct Given {
    pub pixels: Vec<f32>,
    pub shape: Vec<usize>,
    pub ids: Vec<i64>,
    pub prompt: String,
}

pub struct Planted {
    pub what: &'static str,
    pub plant: Plant,
    pub golden: &'static str,
    pub site: String,
    /// The mistake that must be told first; none where no pattern is known: then none may be told.
    pub mistake: Option<DiagnosisKind>,
}
