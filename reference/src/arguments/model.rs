//! Which model, and where and how it runs, on the command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use converter::normalized::TorchDtype;

use crate::Math;
use crate::device::DeviceChoice;

/// Which model, and where and how it runs.
#[derive(Debug, Args)]
pub struct ModelArguments {
    /// Folder of a normalized checkpoint, made by `nvl-convert convert`
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// dtype to compute in [default: the checkpoint's own; in `replay` the golden's; in `isolate` that of each run]
    #[arg(long, value_enum)]
    pub dtype: Option<DtypeArgument>,
    /// Where to compute: `auto`, `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// How to compute: `exact` has the public code's own operations in their order, `fast` has fused attention and, on a
    /// CPU without bfloat16 instructions, products in float32 [default: fast; in `replay` and with `--record` exact; in
    /// `isolate` a module may have taken either]
    #[arg(long, value_name = "exact|fast")]
    pub math: Option<Math>,
    /// Threads of an operation on the CPU [default: libtorch's choice; in `replay` and `isolate` the golden's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub threads: Option<u64>,
}

/// A dtype on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeArgument {
    /// IEEE 754 binary32
    Float32,
    /// 8 exponent and 7 fraction bits
    Bfloat16,
    /// IEEE 754 binary16
    Float16,
}

impl From<DtypeArgument> for TorchDtype {
    fn from(dtype: DtypeArgument) -> Self {
        match dtype {
            DtypeArgument::Float32 => Self::Float32,
            DtypeArgument::Bfloat16 => Self::Bfloat16,
            DtypeArgument::Float16 => Self::Float16,
        }
    }
}
