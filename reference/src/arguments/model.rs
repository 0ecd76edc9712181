//! Which model, and where and how it runs, on the command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use converter::normalized::TorchDtype;

use crate::device::DeviceChoice;
use crate::{AttnImplementation, Math};

/// Which model, and where and how it runs.
#[derive(Debug, Args)]
pub struct ModelArguments {
    /// The folder of a normalized checkpoint, made by `nvl-convert convert`
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// The dtype to compute in [default: the checkpoint's; in `replay` the golden's; in `isolate` that of each run]
    #[arg(long, value_enum)]
    pub dtype: Option<TorchDtype>,
    /// Where to compute: `auto`, `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// How to compute: `exact` runs the public code's operations in their order; `fast` uses fused attention, on a CPU a
    /// faster product for one row, and without bfloat16 instructions float32 products for many rows [default: fast; in
    /// `replay` and with `--record` exact; in `isolate` either]
    #[arg(long, value_name = "exact|fast")]
    pub math: Option<Math>,
    /// The attention of the language model; the public code runs either, as it is loaded [default: in an exact `replay` the
    /// golden's and in `isolate` that of each run, if known; else eager with `exact`, sdpa with `fast`]
    #[arg(long, value_enum, value_name = "eager|sdpa", hide_possible_values = true)]
    pub attention: Option<AttnImplementation>,
    /// The dtype in which pixels reach the vision tower: float32, as the image processor gives them, or the model's
    /// [default: in `replay` the golden's and in `isolate` that of each run, if known; else float32]
    #[arg(long, value_enum, value_name = "float32|model", hide_possible_values = true)]
    pub pixel_values_dtype: Option<PixelValuesArgument>,
    /// The threads of an operation on the CPU [default: libtorch's choice; in `replay` and `isolate` the golden's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub threads: Option<u64>,
}

impl ModelArguments {
    /// The attention that is to run, where `math` is the way to compute unless the user says another.
    pub fn attention_with(&self, math: Math) -> AttnImplementation {
        self.attention.unwrap_or(self.math.unwrap_or(math).attention())
    }
}

/// The dtype of `pixel_values` on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PixelValuesArgument {
    /// As the image processor gives them
    Float32,
    /// Rounded to the model's dtype
    Model,
}

impl PixelValuesArgument {
    /// The dtype, in a model of this one.
    pub fn dtype(self, model: TorchDtype) -> TorchDtype {
        match self {
            Self::Float32 => TorchDtype::Float32,
            Self::Model => model,
        }
    }
}
