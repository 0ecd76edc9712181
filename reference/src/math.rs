//! Ways to compute the same model.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Device, Kind};

use crate::error::{Error, Result};

/// How the model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Math {
    /// The public code's own operations, dtypes and order: what a golden is.
    Exact,
    /// Fewer and faster operations that round differently: on a CPU a product of one row that keeps up with memory, and on one
    /// without bfloat16 instructions products of many rows in float32.
    Fast,
}

/// The decoder's attention, by transformers' name of it (`attn_implementation`). Both are the public code's: which one runs
/// depends on how its caller loads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AttnImplementation {
    /// Operation by operation: scores, softmax, weighted sum.
    Eager,
    /// libtorch's `scaled_dot_product_attention`.
    Sdpa,
}

impl AttnImplementation {
    /// The name, as transformers has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Sdpa => "sdpa",
        }
    }

    /// The implementation of this name; none where there is no such one here.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Eager, Self::Sdpa].into_iter().find(|attention| attention.as_str() == name)
    }

    /// Whether it returns its weights, for whoever wants to record them.
    ///
    /// # Errors
    /// [`Error::AttnWeights`]
    pub fn check_attn_weights(self) -> Result<()> {
        match self {
            Self::Eager => Ok(()),
            Self::Sdpa => Err(Error::AttnWeights { attention: self.as_str() }),
        }
    }
}

impl Math {
    /// `exact` or `fast`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
        }
    }

    /// The decoder's attention where nothing is said of it.
    pub fn attention(self) -> AttnImplementation {
        match self {
            Self::Exact => AttnImplementation::Eager,
            Self::Fast => AttnImplementation::Sdpa,
        }
    }

    /// Whether products of many rows are computed in float32: without bfloat16 instructions libtorch's own bfloat16
    /// product is several times slower than casting the weights first, and further from the truth.
    pub fn upcasts_products(self, kind: Kind, device: Device) -> bool {
        self == Self::Fast && kind == Kind::BFloat16 && device == Device::Cpu && !has_bfloat16_instructions()
    }
}

/// How the modules of one model compute: all of them hold the same, so that it is set for all at once.
#[derive(Debug, Clone)]
pub(crate) struct SharedMath {
    is_fast: Arc<AtomicBool>,
    is_sdpa: Arc<AtomicBool>,
}

// Nothing else is told by either, and they change only while no module runs: the order of memory does not matter.
impl SharedMath {
    pub(crate) fn new(math: Math, attention: AttnImplementation) -> Self {
        let shared = Self { is_fast: Arc::default(), is_sdpa: Arc::default() };
        shared.set(math);
        shared.set_attention(attention);
        shared
    }

    pub(crate) fn get(&self) -> Math {
        if self.is_fast.load(Ordering::Relaxed) { Math::Fast } else { Math::Exact }
    }

    pub(crate) fn set(&self, math: Math) {
        self.is_fast.store(math == Math::Fast, Ordering::Relaxed);
    }

    pub(crate) fn attention(&self) -> AttnImplementation {
        if self.is_sdpa.load(Ordering::Relaxed) {
            AttnImplementation::Sdpa
        } else {
            AttnImplementation::Eager
        }
    }

    pub(crate) fn set_attention(&self, attention: AttnImplementation) {
        self.is_sdpa.store(attention == AttnImplementation::Sdpa, Ordering::Relaxed);
    }
}

impl FromStr for Math {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "exact" => Ok(Self::Exact),
            "fast" => Ok(Self::Fast),
            _ => Err(Error::Math(text.to_owned())),
        }
    }
}

/// Whether the processor multiplies bfloat16 numbers itself, and libtorch is allowed to let it.
fn has_bfloat16_instructions() -> bool {
    let limited = std::env::var_os("ONEDNN_MAX_CPU_ISA")
        .is_some_and(|isa| !isa.to_string_lossy().contains("AVX512_CORE_BF16"));
    !limited && processor_has_bfloat16_instructions()
}

/// Whether the processor multiplies bfloat16 numbers itself.
pub(crate) fn processor_has_bfloat16_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return true;
}
