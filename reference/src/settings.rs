//! What libtorch's results depend on, beside the model: threads, and the instruction set of its kernels.

use converter::normalized::TorchDtype;
use golden::manifest::{AttentionImplementations, Producer};
use tch::Device;

use crate::device::device_name;
use crate::generate::ModelInputs;
use crate::math;
use crate::model::{LANGUAGE_MODEL, NemotronVl, PROJECTOR, VISION_MODEL};

/// libtorch's release, which tch is bound to.
pub const TORCH_VERSION: &str = "2.11.0";

/// How each of libtorch's libraries is told which kernels to use, for a capability that ATen names. Each looks at the
/// processor for itself: limiting ATen alone leaves oneDNN's exact GELU with other last bits.
struct Kernels {
    capability: &'static str,
    environment: [(&'static str, &'static str); 3],
}

const KERNELS: [Kernels; 3] = [
    Kernels {
        capability: "DEFAULT",
        environment: [
            ("ATEN_CPU_CAPABILITY", "default"),
            ("ONEDNN_MAX_CPU_ISA", "SSE41"),
            ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"),
        ],
    },
    Kernels {
        capability: "AVX2",
        environment: [
            ("ATEN_CPU_CAPABILITY", "avx2"),
            ("ONEDNN_MAX_CPU_ISA", "AVX2"),
            ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
        ],
    },
    Kernels {
        capability: "AVX512",
        environment: [
            ("ATEN_CPU_CAPABILITY", "avx512"),
            ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE"),
            ("MKL_ENABLE_INSTRUCTIONS", "AVX512"),
        ],
    },
];

/// Intel's processors, as they say themselves.
const INTEL: &str = "GenuineIntel";

/// Tells oneMKL in which order to sum, by the name of the kernels that sum so.
const MKL_CBWR: &str = "MKL_CBWR";

/// The order in which oneMKL sums with AVX2 on processors of other makers than Intel. On Intel's it has
/// other kernels for small products, which sum in another order unless this is said.
const AVX2_OF_ALL: &str = "AVX2,STRICT";

/// Lets libtorch ask for large pages: a third of the time of preprocessing a small picture went into small ones. It is read
/// when libtorch first takes memory; a user's own value stays.
///
/// # Source
/// PyTorch 2.11, `c10/core/impl/alloc_cpu.cpp`
const LARGE_PAGES: &str = "THP_MEM_ALLOC_ENABLE";

/// The most threads that a dump's manifest can ask for: more than any machine's cores, and few enough to be started on one
/// of two.
pub const MAX_THREADS: u64 = 1024;

/// The settings that a run's bits depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Threads of an operation, and of the pictures' preprocessing; the libraries' own choice where none.
    pub threads: Option<u64>,
    /// The kernels: `DEFAULT`, `AVX2` or `AVX512`, as ATen names them; the best of the machine where none, or where the
    /// name is another.
    pub cpu_capability: Option<String>,
    /// What `MKL_CBWR` is set to, which tells oneMKL in which order to sum; not set where none. A value that the user has set
    /// stays.
    pub mkl_cbwr: Option<String>,
}

impl Settings {
    /// The settings that a dump was recorded with; of threads no more than [`MAX_THREADS`].
    pub fn of(producer: &Producer) -> Self {
        let on_cpu = producer.device.as_deref().is_none_or(|device| device == "cpu");
        Self {
            threads: producer.threads.filter(|_| on_cpu).map(|threads| threads.clamp(1, MAX_THREADS)),
            cpu_capability: producer.cpu_capability.clone().filter(|_| on_cpu),
            mkl_cbwr: mkl_cbwr(producer, golden::cpu_vendor().as_deref()).filter(|_| on_cpu),
        }
    }

    /// Whether the kernels are limited to instructions without those for bfloat16 that this processor has: ATen's name of a
    /// capability does not tell whether oneDNN had them.
    pub fn hides_bfloat16_instructions(&self) -> bool {
        let limited = self.cpu_capability.as_deref() == Some("AVX512");
        limited && cfg!(target_arch = "x86_64") && math::processor_has_bfloat16_instructions()
    }

    /// What differs from the settings that a dump was recorded with, in words.
    pub fn difference(&self, producer: &Producer) -> Option<String> {
        let (recorded, used) = (producer.threads?, Self::of(producer).threads?);
        (self.threads == Some(used) && recorded != used).then(|| {
            format!(
                "`producer.threads`: expected 1 to {MAX_THREADS}, found {recorded}: this run has {used}, and sums may \
                 differ in their last bits"
            )
        })
    }

    /// Applies them to this process. To be called before the first operation of libtorch, from the only thread.
    pub fn apply(&self) {
        let kernels =
            KERNELS.iter().find(|kernels| Some(kernels.capability) == self.cpu_capability.as_deref());
        let large_pages = std::env::var_os(LARGE_PAGES).is_none().then_some((LARGE_PAGES, "1"));
        let kernels = kernels.into_iter().flat_map(|kernels| kernels.environment);
        let cbwr = self.mkl_cbwr.as_deref().filter(|_| std::env::var_os(MKL_CBWR).is_none());
        for (variable, value) in kernels.chain(large_pages).chain(cbwr.map(|value| (MKL_CBWR, value))) {
            // SAFETY: the programs call this first thing in a command, when no other thread runs that could read the
            // environment at the same time.
            unsafe { std::env::set_var(variable, value) };
        }
        if let Some(threads) = self.threads {
            tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
            // Pictures are enlarged by rayon's threads. An error says that they run already, as in a second call: then it
            // is too late to bound them, and no result depends on it.
            let _ = rayon::ThreadPoolBuilder::new()
                .num_threads(usize::try_from(threads).unwrap_or(usize::MAX))
                .build_global();
        }
    }
}

/// What `MKL_CBWR` has to be on a processor of this maker for a run's float32 products to have the bits that they were
/// recorded with, where that can be had.
///
/// Earlier manifests do not tell the maker: what was recorded with AVX2 is taken for another maker's than Intel.
fn mkl_cbwr(producer: &Producer, vendor: Option<&str>) -> Option<String> {
    // Nothing else is given to the environment, whoever wrote the manifest.
    let is_name = |name: &String| {
        name.len() <= 32
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b',' || byte == b'_')
    };
    let recorded = producer.mkl_cbwr.clone().filter(is_name);
    // One order of sums for the processors of every maker, by oneMKL's documentation.
    let is_of_all = recorded.as_deref() == Some("COMPATIBLE");
    let is_set_here = recorded.is_some() && vendor == Some(INTEL);
    if is_of_all || is_set_here || producer.cpu_vendor.as_deref() == vendor {
        return recorded;
    }
    let is_avx2 = producer.cpu_capability.as_deref() == Some("AVX2");
    (is_avx2 && vendor == Some(INTEL)).then(|| AVX2_OF_ALL.to_owned())
}

/// Describes this program, its settings and what ran, for a manifest: without pictures the tower does not.
pub fn producer(model: &NemotronVl, settings: &Settings, inputs: &ModelInputs) -> Producer {
    let has_pictures = inputs.pixel_values.is_some();
    let mut producer = Producer::new("nvl-reference", model.dtype().as_str());
    producer.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    producer.commit = cli::COMMIT.map(str::to_owned);
    producer.torch = Some(TORCH_VERSION.to_owned());
    producer.device = Some(device_name(model.device()));
    producer.attention = Some(AttentionImplementations {
        vision: has_pictures.then(|| "sdpa".to_owned()),
        text: Some(model.attention().as_str().to_owned()),
    });
    let dtype = |dtype: TorchDtype| dtype.as_str().to_owned();
    if has_pictures {
        producer.pixel_values_dtype = Some(dtype(model.pixel_values_dtype()));
        producer.dtypes.insert(VISION_MODEL.to_owned(), dtype(model.vision_dtype()));
        producer.dtypes.insert(PROJECTOR.to_owned(), dtype(model.dtype()));
    }
    producer.dtypes.insert(LANGUAGE_MODEL.to_owned(), dtype(model.dtype()));
    if model.device() == Device::Cpu {
        producer.threads = u64::try_from(tch::get_num_threads()).ok();
        producer.cpu_capability.clone_from(&settings.cpu_capability);
        producer.cpu_vendor = golden::cpu_vendor();
        producer.mkl_cbwr = std::env::var(MKL_CBWR).ok();
    }
    producer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_sum_as_on_the_processor_that_they_were_recorded_on() {
        let told = |vendor: Option<&str>, cbwr: Option<&str>, capability: &str, own: &str| {
            let mut producer = Producer::new("any", "float32");
            producer.cpu_vendor = vendor.map(str::to_owned);
            producer.mkl_cbwr = cbwr.map(str::to_owned);
            producer.cpu_capability = Some(capability.to_owned());
            mkl_cbwr(&producer, Some(own))
        };
        let amd = "AuthenticAMD";
        for vendor in [None, Some(amd)] {
            assert_eq!(told(vendor, None, "AVX2", INTEL).as_deref(), Some("AVX2,STRICT"));
            assert_eq!(told(vendor, None, "AVX512", INTEL), None);
            assert_eq!(told(vendor, None, "AVX2", amd), None);
        }
        assert_eq!(told(Some(INTEL), None, "AVX2", INTEL), None);
        assert_eq!(told(Some(INTEL), Some("COMPATIBLE"), "AVX2", INTEL).as_deref(), Some("COMPATIBLE"));
        assert_eq!(told(Some(amd), Some("COMPATIBLE"), "AVX2", amd).as_deref(), Some("COMPATIBLE"));
        assert_eq!(told(Some(INTEL), Some("COMPATIBLE"), "AVX2", amd).as_deref(), Some("COMPATIBLE"));
        assert_eq!(told(Some(INTEL), Some("AVX2,STRICT"), "AVX2", amd), None);
        assert_eq!(told(Some(INTEL), Some("a=b\n"), "AVX2", INTEL), None);
    }
}
