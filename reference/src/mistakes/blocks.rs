//! Mistakes in the order of what a block of the tower does.

use tch::Tensor;

use super::mistake::{AtWork, Change, Mistake};
use crate::error::Result;
use crate::model::observer::{Observer, Operation, Site};

/// Norms of the tower's blocks stand behind the branches.
pub const NORM_AFTER: Mistake = Mistake {
    name: "norm-after",
    what: "norms stand behind the branches, and not in front of them",
    change: Change::Outputs(|| Box::new(NormAfter { norm: None })),
};

/// Skips a norm of a block, and applies it behind its branch.
struct NormAfter {
    norm: Option<(String, Norm)>,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl Norm {
    fn apply(&self, input: &Tensor) -> Result<Tensor> {
        let shape = self.weight.size();
        Ok(input.f_layer_norm(shape, Some(&self.weight), Some(&self.bias), self.eps, true)?)
    }
}

impl AtWork for NormAfter {
    fn operation(&mut self, site: Site<'_>, operation: Operation<'_>) -> Result<Option<Tensor>> {
        let Operation::LayerNorm { input, weight, bias, eps } = operation else { return Ok(None) };
        if !site.name.contains(".blocks.") {
            return Ok(None);
        }
        let norm = Norm { weight: weight.shallow_clone(), bias: bias.shallow_clone(), eps };
        self.norm = Some((site.name.to_owned(), norm));
        Ok(Some(input.shallow_clone()))
    }

    fn output(&mut self, site: Site<'_>, output: Tensor, next: &mut dyn Observer) -> Result<Tensor> {
        if self.norm.as_ref().is_some_and(|(name, _)| name == site.name) {
            return Ok(output);
        }
        let output = next.output(site, output)?;
        if !matches!(site.module, "Attention" | "Mlp") {
            return Ok(output);
        }
        match self.norm.take() {
            Some((name, norm)) => next.output(Site::new(&name, "LayerNorm"), norm.apply(&output)?),
            None => Ok(output),
        }
    }
}

/// A block's attention branch has no residual around it.
pub const RESIDUAL_LOST: Mistake = Mistake {
    name: "residual-lost",
    what: "a residual is forgotten",
    change: Change::Outputs(|| Box::<ResidualLost>::default()),
};

/// Takes the output of a block's attention, or of the scale behind it, for the sum with the block's input.
#[derive(Default)]
struct ResidualLost {
    attention: Option<Tensor>,
    mlp: Option<Tensor>,
}

impl AtWork for ResidualLost {
    fn operation(&mut self, site: Site<'_>, operation: Operation<'_>) -> Result<Option<Tensor>> {
        match (operation, &self.attention) {
            (Operation::LayerNorm { weight, bias, eps, .. }, Some(attention))
                if site.name.ends_with(".norm2") =>
            {
                Ok(Some(attention.f_layer_norm(weight.size(), Some(weight), Some(bias), eps, true)?))
            }
            _ => Ok(None),
        }
    }

    fn output(&mut self, site: Site<'_>, mut output: Tensor, next: &mut dyn Observer) -> Result<Tensor> {
        if site.module == "Block"
            && let (Some(attention), Some(mlp)) = (self.attention.take(), self.mlp.take())
        {
            output = attention.f_add(&mlp)?;
        }
        let output = next.output(site, output)?;
        let last = site.name.rsplit('.').next();
        match (site.module, last) {
            ("Attention", _) | ("LayerScale", Some("ls1")) => self.attention = Some(output.shallow_clone()),
            ("Mlp", _) | ("LayerScale", Some("ls2")) => self.mlp = Some(output.shallow_clone()),
            _ => {}
        }
        Ok(output)
    }
}
