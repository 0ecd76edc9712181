//! What libtorch's results depend on, beside the model: threads, and the instruction set of its kernels.

use tch::Device;

use crate::device::device_name;
use crate::model::NemotronVl;

/// libtorch's release, which tch is bound to.
pub const TORCH_VERSION: &str = "2.11.0";

/// The environment variables by which ATen, oneDNN and MKL choose their kernels, and their values for each of the
/// capabilities that ATen names. Each library looks at the processor for itself: without the last two, the exact GELU
/// of a machine with AVX-512 differs in the last bits from that of one without.
const KERNEL_CHOICE: [(&str, [&str; 3]); 4] = [
    ("", ["DEFAULT", "AVX2", "AVX512"]),
    ("ATEN_CPU_CAPABILITY", ["default", "avx2", "avx512"]),
    ("ONEDNN_MAX_CPU_ISA", ["SSE41", "AVX2", "AVX512_CORE"]),
    ("MKL_ENABLE_INSTRUCTIONS", ["SSE4_2", "AVX2", "AVX512"]),
];

/// The settings that a run's bits depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Threads of an operation; libtorch's own choice where none.
    pub threads: Option<u64>,
    /// The kernels: `DEFAULT`, `AVX2` or `AVX512`, as ATen names them; the best of the machine where none, or where the
    /// name is another.
    pub cpu_capability: Option<String>,
}

impl Settings {
    /// The settings that a dump was recorded with.
    pub fn of(producer: &golden::manifest::Producer) -> Self {
        let on_cpu = producer.device.as_deref().is_none_or(|device| device == "cpu");
        Self {
            threads: producer.threads.filter(|_| on_cpu),
            cpu_capability: producer.cpu_capability.clone().filter(|_| on_cpu),
        }
    }

    /// Applies them to this process. To be called before the first operation of libtorch, from the only thread.
    pub fn apply(&self) {
        let [(_, names), libraries @ ..] = KERNEL_CHOICE;
        let chosen = self.cpu_capability.as_deref().and_then(|name| names.iter().position(|&known| known == name));
        if let Some(chosen) = chosen {
            for (variable, values) in libraries {
                // SAFETY: the programs call this first thing in `main`, when no other thread runs that could read the
                // environment at the same time.
                unsafe { std::env::set_var(variable, values[chosen]) };
            }
        }
        if let Some(threads) = self.threads {
            tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        }
    }
}

/// Describes this program and its settings, for a manifest.
pub fn producer(model: &NemotronVl, settings: &Settings) -> golden::manifest::Producer {
    let mut producer = golden::manifest::Producer::new("nvl-reference", model.dtype().as_str());
    producer.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    producer.torch = Some(TORCH_VERSION.to_owned());
    producer.device = Some(device_name(model.device()));
    producer.attention = Some(golden::manifest::AttentionImplementations {
        vision: Some("sdpa".to_owned()),
        text: Some("eager".to_owned()),
    });
    if model.device() == Device::Cpu {
        producer.threads = u64::try_from(tch::get_num_threads()).ok();
        producer.cpu_capability = settings.cpu_capability.clone();
    }
    producer
}
