//! `torch.nn.Linear`, `LayerNorm` and `Embedding`, each with the name that its activation is recorded under.

use tch::{Kind, Tensor};

use super::one_row;
use crate::error::Result;
use crate::math::{Math, SharedMath};
use crate::model::observer::{Observer, Operation, Site};
use crate::weights::Weights;

/// Rows from which casting the weights to float32 pays, where products of many rows are computed so: measured on a CPU with
/// AVX2 alone, where one row of bfloat16 is as fast as memory gives.
const MANY_ROWS: usize = 8;

/// `y = x Wᵀ + b`, as the one libtorch operation that PyTorch's own module calls: `linear` and `matmul` differ in the
/// last bits.
pub struct Linear {
    site: String,
    module: &'static str,
    weight: Tensor,
    bias: Option<Tensor>,
    math: SharedMath,
    /// Whether [`Math::Fast`] computes products of many rows in float32.
    upcasts: bool,
}

impl Linear {
    /// Loads `weight` ([out, in]) and, where `bias`, `bias` ([out]).
    pub fn load(weights: &Weights, bias: bool, site: impl Into<String>) -> Result<Self> {
        let bias = if bias { Some(weights.get("bias")?) } else { None };
        Ok(Self::new(weights, weights.get("weight")?, bias, site))
    }

    /// A layer of these tensors, that computes as others of `weights` do.
    pub fn new(weights: &Weights, weight: Tensor, bias: Option<Tensor>, site: impl Into<String>) -> Self {
        let upcasts = Math::Fast.upcasts_products(weight.kind(), weight.device());
        Self { site: site.into(), module: "Linear", weight, bias, math: weights.math(), upcasts }
    }

    /// The same layer, recorded as an instance of a subclass.
    pub fn with_module(mut self, module: &'static str) -> Self {
        self.module = module;
        self
    }

    /// # Shapes
    /// [.., in] → [.., out]
    pub fn forward(&self, input: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let operation = Operation::Linear { input, weight: &self.weight, bias: self.bias.as_ref() };
        observer.module(Site::new(&self.site, self.module), operation, || self.product(input))
    }

    fn product(&self, input: &Tensor) -> Result<Tensor> {
        let rows = input.numel() / input.size().last().map_or(1, |&width| width.max(1) as usize);
        let math = self.math.get();
        let one_row = match math {
            Math::Fast if rows == 1 => one_row::linear(input, &self.weight, self.bias.as_ref())?,
            _ => None,
        };
        if let Some(output) = one_row {
            return Ok(output);
        }
        if math == Math::Fast && self.upcasts && rows >= MANY_ROWS {
            let weight = self.weight.f_to_kind(Kind::Float)?;
            let bias = self.bias.as_ref().map(|bias| bias.f_to_kind(Kind::Float)).transpose()?;
            return Ok(input.f_to_kind(Kind::Float)?.f_linear(&weight, bias)?.f_to_kind(input.kind())?);
        }
        Ok(input.f_linear(&self.weight, self.bias.as_ref())?)
    }
}

/// `torch.nn.LayerNorm` over the last dimension.
pub struct LayerNorm {
    site: String,
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, both [width].
    pub fn load(weights: &Weights, eps: f64, site: impl Into<String>) -> Result<Self> {
        Ok(Self { site: site.into(), weight: weights.get("weight")?, bias: weights.get("bias")?, eps })
    }

    /// # Shapes
    /// [.., width] → the same
    pub fn forward(&self, input: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let (weight, bias, eps) = (&self.weight, &self.bias, self.eps);
        observer.module(
            Site::new(&self.site, "LayerNorm"),
            Operation::LayerNorm { input, weight, bias, eps },
            || Ok(input.f_layer_norm(weight.size(), Some(weight), Some(bias), eps, true)?),
        )
    }
}

/// `torch.nn.Embedding`.
pub struct Embedding {
    site: String,
    pub(super) weight: Tensor,
}

impl Embedding {
    /// Loads `weight` ([vocab, width]).
    pub fn load(weights: &Weights, site: impl Into<String>) -> Result<Self> {
        Ok(Self { site: site.into(), weight: weights.get("weight")? })
    }

    /// # Shapes
    /// [.., s] int64 → [.., s, width]
    pub fn forward(&self, input_ids: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let output = Tensor::f_embedding(&self.weight, input_ids, -1, false, false)?;
        observer.output(Site::new(&self.site, "Embedding"), output)
    }
}

/// `torch.nn.GELU()`: the exact one, by the error function.
pub fn gelu(input: &Tensor, site: &str, observer: &mut dyn Observer) -> Result<Tensor> {
    observer.module(Site::new(site, "GELU"), Operation::Gelu { input }, || Ok(input.f_gelu("none")?))
}

/// The most negative finite number of a dtype, as `torch.finfo(dtype).min`.
pub fn lowest(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => f64::from(half::bf16::MIN.to_f32()),
        Kind::Half => f64::from(half::f16::MIN.to_f32()),
        Kind::Double => f64::MIN,
        _ => f64::from(f32::MIN),
    }
}
