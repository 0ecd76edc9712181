//! Two ways to compute the same model.

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
    /// Fewer and faster operations that round differently: fused attention in the decoder, on a CPU a product of one row that
    /// keeps up with memory, and on one without bfloat16 instructions products of many rows in float32.
    Fast,
}

impl Math {
    /// `exact` or `fast`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
        }
    }

    /// The name of the decoder's attention, as transformers has it.
    pub fn text_attention(self) -> &'static str {
        match self {
            Self::Exact => "eager",
            Self::Fast => "sdpa",
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
}

impl SharedMath {
    pub(crate) fn new(math: Math) -> Self {
        Self { is_fast: Arc::new(AtomicBool::new(math == Math::Fast)) }
    }

    pub(crate) fn get(&self) -> Math {
        // Nothing else is told by it, and it changes only while no module runs.
        if self.is_fast.load(Ordering::Relaxed) { Math::Fast } else { Math::Exact }
    }

    pub(crate) fn set(&self, math: Math) {
        self.is_fast.store(math == Math::Fast, Ordering::Relaxed);
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
    #[cfg(target_arch = "x86_64")]
    return !limited && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return !limited;
}
