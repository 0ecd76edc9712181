//! What a request takes of memory, found out before it is taken.
//!
//! Linux promises more memory than there is, and ends a program that uses what is missing, in the middle of a run.

use std::fs;
use std::path::Path;

use converter::normalized::Config;
use tch::Device;

use crate::error::{EAGER_SCORES, Error, Result};
use crate::math::AttnImplementation;

/// What a request asks of the model.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// Tiles of its pictures.
    pub tiles: usize,
    /// Tokens of its prompt.
    pub tokens: usize,
    /// Bytes of a number in the language model.
    pub elem_bytes: usize,
    /// Bytes of a number in the tower.
    pub vision_elem_bytes: usize,
    /// The attention of the language model.
    pub attention: AttnImplementation,
}

/// What takes the most, and how much it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    /// In words.
    pub what: &'static str,
    /// Bytes that are needed at the same time: no fewer, perhaps more.
    pub bytes: u64,
}

impl Demand {
    /// The most that is needed at one time beside the weights.
    pub fn peak(&self, config: &Config) -> Peak {
        let of = |what, factors: &[u64]| Peak {
            what,
            bytes: factors.iter().fold(1, |product, &factor| product.saturating_mul(factor)),
        };
        let (text, vision) = (&config.text_config, &config.vision_config);
        let (tiles, tokens) = (self.tiles as u64, self.tokens as u64);
        let patches = (vision.image_size / vision.patch_size).pow(2) + vision.num_prefix_tokens();
        // Into the tower's MLP, out of its first layer, and out of its GELU.
        let widths = vision.hidden_size as f64 * (1.0 + 2.0 * vision.mlp_ratio);
        let tower =
            of("the vision tower", &[tiles, patches as u64, widths as u64, self.vision_elem_bytes as u64]);
        // The residual, the gate and what goes up.
        let widths = 2 * text.hidden_size + 2 * text.intermediate_size;
        let mlp = of("the language model's MLP", &[tokens, widths as u64, self.elem_bytes as u64]);
        let caches = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim;
        let cache = of("keys and values", &[tokens, caches as u64, self.elem_bytes as u64]);
        // The scores before and after scaling; later the weights, which are float32 first.
        let scores = match self.attention {
            AttnImplementation::Eager => of(
                EAGER_SCORES,
                &[tokens, tokens, text.num_attention_heads as u64, 2 * self.elem_bytes as u64],
            ),
            AttnImplementation::Sdpa => of("attention", &[0]),
        };
        let largest = [tower, mlp, scores].into_iter().max_by_key(|peak| peak.bytes).unwrap_or(tower);
        Peak { bytes: largest.bytes.saturating_add(cache.bytes), ..largest }
    }
}

/// Refuses what cannot be had. On a GPU libtorch itself says so.
///
/// # Errors
/// [`Error::Memory`]
pub fn check(peak: Peak, device: Device) -> Result<()> {
    match too_few_bytes(peak.bytes) {
        Some(available) if device == Device::Cpu => {
            Err(Error::Memory { what: peak.what, needed: peak.bytes, available })
        }
        _ => Ok(()),
    }
}

/// The bytes that this process can still take, where that is less than `needed`.
pub fn too_few_bytes(needed: u64) -> Option<u64> {
    available_bytes().filter(|&available| available < needed)
}

/// Bytes that this process can still take: what the machine has and the limits of its group and its own leave. Linux alone
/// tells.
fn available_bytes() -> Option<u64> {
    let machine = of_machine(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let limits = [of_control_group(), of_address_space()];
    Some(limits.into_iter().flatten().fold(machine, u64::min))
}

/// The most memory this process had, mapped weights included; Linux alone tells.
pub fn peak_resident_bytes() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// What `/proc/meminfo` says can be taken without taking it from others: swap counts.
fn of_machine(meminfo: &str) -> Option<u64> {
    Some(field(meminfo, "MemAvailable:")? + field(meminfo, "SwapFree:").unwrap_or(0))
}

/// A field of kibibytes, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// What the limits of a container leave; none where there are none.
fn of_control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    // The limit of each group holds for those within.
    let groups = root.join(own);
    let within_root = groups.ancestors().take_while(|group| group.starts_with(root));
    within_root.filter_map(|group| left_in(group, &|path| fs::read_to_string(path).ok())).min()
}

fn left_in(group: &Path, read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let number = |file: &str| read(&group.join(file))?.trim().parse::<u64>().ok();
    let (limit, used) = (number("memory.max")?, number("memory.current")?);
    // Files that are read are counted, and given up when memory is short.
    let stat = read(&group.join("memory.stat")).unwrap_or_default();
    let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let files = files.and_then(|files| files.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

/// What `ulimit -v` leaves; none where there is no limit.
fn of_address_space() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the limit to the address that it is given, and nothing else.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    if status != 0 || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    let used = field(&fs::read_to_string("/proc/self/status").ok()?, "VmSize:")?;
    Some(limit.rlim_cur.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_has_is_read() {
        let meminfo = "MemTotal:       8 kB\nMemAvailable:   5 kB\nSwapFree:       2 kB\n";
        assert_eq!(of_machine(meminfo), Some(7 * 1024));
        assert_eq!(of_machine("MemTotal: 8 kB\n"), None);
    }

    #[test]
    fn a_group_has_what_its_limit_leaves_and_the_files_that_it_read() {
        let read = |path: &Path| match path.to_str()? {
            "/g/memory.max" => Some("1000\n".to_owned()),
            "/g/memory.current" => Some("700\n".to_owned()),
            "/g/memory.stat" => Some("active_file 5\ninactive_file 100\n".to_owned()),
            "/free/memory.max" => Some("max\n".to_owned()),
            _ => None,
        };
        assert_eq!(left_in(Path::new("/g"), &read), Some(400));
        assert_eq!(left_in(Path::new("/free"), &read), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn more_than_there_is_is_refused_and_less_is_not() {
        let peak = |bytes| Peak { what: "it", bytes };
        assert!(check(peak(1), Device::Cpu).is_ok());
        assert!(check(peak(u64::MAX), Device::Cuda(0)).is_ok());
        let error = check(peak(1 << 60), Device::Cpu).unwrap_err().to_string();
        assert!(error.starts_with("it would take 1152921504.6 GB of memory: expected at most "), "{error}");
    }
}
