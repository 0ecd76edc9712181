//! Mistakes in what sites give, by what others gave before them.

use tch::Tensor;

use super::mistake::{AtWork, Change, Mistake};
use crate::error::Result;
use crate::model::llama::rms_norm;
use crate::model::observer::{Observer, Operation, Site};

const IM_TO_PATCHES: &str = "Im2Patches";
const CLS_TOKEN: &str = "ClsToken";
const LLAMA_MODEL: &str = "LlamaModel";

/// Each patch is flattened with its colours last.
pub const COLOURS_LAST: Mistake = Mistake {
    name: "colours-last",
    what: "patches are flattened with their colours last",
    change: Change::Outputs(|| Box::new(ColoursLast { colours: 0 })),
};

struct ColoursLast {
    colours: i64,
}

impl AtWork for ColoursLast {
    fn output(&mut self, site: Site<'_>, mut output: Tensor, next: &mut dyn Observer) -> Result<Tensor> {
        match site.module {
            "InputConditioner" => self.colours = output.size()[1],
            IM_TO_PATCHES => {
                let patches = output.f_unflatten(-1, [self.colours, -1])?;
                output = patches.f_transpose(-1, -2)?.f_flatten(-2, -1)?;
            }
            _ => {}
        }
        next.output(site, output)
    }
}

/// Class tokens and registers are put behind the patches.
pub const PREFIX_BEHIND: Mistake = Mistake {
    name: "prefix-behind",
    what: "class tokens and registers stand behind the patches",
    change: Change::Outputs(|| Box::new(PrefixBehind { patches: 0 })),
};

struct PrefixBehind {
    patches: i64,
}

impl AtWork for PrefixBehind {
    fn output(&mut self, site: Site<'_>, mut output: Tensor, next: &mut dyn Observer) -> Result<Tensor> {
        match site.module {
            IM_TO_PATCHES => self.patches = output.size()[1],
            CLS_TOKEN => output = output.f_roll(self.patches, 1)?,
            _ => {}
        }
        next.output(site, output)
    }
}

/// The registers are taken for the first patches.
pub const REGISTERS_KEPT: Mistake = Mistake {
    name: "registers-kept",
    what: "registers are kept among the features",
    change: Change::Outputs(|| Box::new(RegistersKept { hidden_states: Tensor::new() })),
};

struct RegistersKept {
    hidden_states: Tensor,
}

impl AtWork for RegistersKept {
    fn output(&mut self, site: Site<'_>, mut output: Tensor, next: &mut dyn Observer) -> Result<Tensor> {
        match site.module {
            "RADIOModel" => {
                let patches = output.size()[1];
                let prefix = self.hidden_states.size()[1] - patches;
                output = self.hidden_states.f_narrow(1, prefix / 2, patches)?;
            }
            // The last of them is what the features are cut from.
            "Block" => self.hidden_states = output.shallow_clone(),
            "LayerNorm" if site.name.ends_with("model.norm") => self.hidden_states = output.shallow_clone(),
            _ => {}
        }
        next.output(site, output)
    }
}

/// The decoder's final norm is applied twice.
pub const NORM_TWICE: Mistake = Mistake {
    name: "norm-twice",
    what: "the final norm is applied twice",
    change: Change::Outputs(|| Box::new(NormTwice { weight: Tensor::new(), eps: 0.0 })),
};

struct NormTwice {
    weight: Tensor,
    eps: f64,
}

impl AtWork for NormTwice {
    fn operation(&mut self, _site: Site<'_>, operation: Operation<'_>) -> Result<Option<Tensor>> {
        if let Operation::RmsNorm { weight, eps, .. } = operation {
            // The last of them is the final one.
            (self.weight, self.eps) = (weight.shallow_clone(), eps);
        }
        Ok(None)
    }

    fn output(&mut self, site: Site<'_>, output: Tensor, next: &mut dyn Observer) -> Result<Tensor> {
        if site.module == LLAMA_MODEL {
            return next.output(site, rms_norm(&output, &self.weight, self.eps)?);
        }
        next.output(site, output)
    }
}

/// Logits are those of the last token but one.
pub const LAST_BUT_ONE: Mistake = Mistake {
    name: "last-but-one",
    what: "logits of the last token but one",
    change: Change::Outputs(|| Box::new(LastButOne { hidden_states: Tensor::new() })),
};

struct LastButOne {
    hidden_states: Tensor,
}

impl AtWork for LastButOne {
    fn operation(&mut self, site: Site<'_>, operation: Operation<'_>) -> Result<Option<Tensor>> {
        let Operation::Linear { weight, bias, .. } = operation else { return Ok(None) };
        if !site.name.ends_with(".lm_head") {
            return Ok(None);
        }
        let last_but_one = (self.hidden_states.size()[1] - 2).max(0);
        let token = self.hidden_states.f_narrow(1, last_but_one, 1)?.f_reshape([1, -1])?.f_unsqueeze(1)?;
        Ok(Some(token.f_linear(weight, bias)?))
    }

    fn output(&mut self, site: Site<'_>, output: Tensor, next: &mut dyn Observer) -> Result<Tensor> {
        if site.module == LLAMA_MODEL {
            self.hidden_states = output.shallow_clone();
        }
        next.output(site, output)
    }
}
