//! Where a model runs, and with how many threads.

use std::fmt;
use std::str::FromStr;

use tch::{Cuda, Device};

use crate::error::{Error, Result};

/// A device as the user names it: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU where there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this index.
    Cuda(usize),
}

impl DeviceChoice {
    /// The libtorch device, if it is there.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`] where libtorch does not see the GPU.
    pub fn resolve(self) -> Result<Device> {
        self.resolve_among(Cuda::device_count())
    }

    fn resolve_among(self, gpus: i64) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto if gpus == 0 => Ok(Device::Cpu),
            Self::Auto => Ok(Device::Cuda(0)),
            Self::Cuda(index) if (index as i64) < gpus => Ok(Device::Cuda(index)),
            Self::Cuda(_) => Err(Error::NoSuchDevice { device: self.to_string(), found: gpus }),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| Error::Device(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// The name of a libtorch device, as PyTorch prints it.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Cpu => "cpu".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_printed() {
        for name in ["auto", "cpu", "cuda:0", "cuda:7"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            let error = name.parse::<DeviceChoice>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("device `{name}`: expected `auto`, `cpu`, `cuda` or `cuda:N`")
            );
        }
    }

    #[test]
    fn a_device_is_resolved_among_those_that_are_there() {
        assert_eq!(DeviceChoice::Auto.resolve_among(0).unwrap(), Device::Cpu);
        assert_eq!(DeviceChoice::Auto.resolve_among(2).unwrap(), Device::Cuda(0));
        assert_eq!(DeviceChoice::Cpu.resolve_among(2).unwrap(), Device::Cpu);
        assert_eq!(DeviceChoice::Cuda(1).resolve_among(2).unwrap(), Device::Cuda(1));
        let error = DeviceChoice::Cuda(2).resolve_among(2).unwrap_err();
        assert_eq!(error.to_string(), "device `cuda:2`: libtorch sees 2 CUDA devices");
    }
}
