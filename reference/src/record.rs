//! Keeps what each site computes, for a dump.

use globset::{Glob, GlobSet, GlobSetBuilder};
use golden::{DumpWriter, Role};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::isolate::Isolation;

/// What the weights of an attention are called, behind its own name.
pub(crate) const ATTN_WEIGHTS: &str = "attn_weights";

/// Receives each activation as it is computed; writes the chosen ones to a dump, or none.
pub struct Recorder {
    target: Option<Target>,
    /// Whether the user has asked to stop: a prefill can take minutes, and gives no token before its end.
    is_stopped: Option<fn() -> bool>,
}

enum Target {
    /// Keeps what is computed.
    Dump(Box<Sites>),
    /// Compares it with another run's, and lets the model go on from that.
    Isolation(Box<Isolation>),
}

struct Sites {
    writer: DumpWriter,
    sites: Option<GlobSet>,
    attn_weights: bool,
    /// The seed of the sketches that stand for the tensors; none keeps the tensors.
    sketch_seed: Option<u64>,
    /// Off while decoding: the activations of a dump are those of the prefill.
    active: bool,
}

impl Recorder {
    /// A recorder that keeps nothing, at no cost.
    pub fn off() -> Self {
        Self { target: None, is_stopped: None }
    }

    /// A recorder that writes each site whose name one of the globs matches; every site where there are none.
    ///
    /// # Errors
    /// [`Error::Sites`] where a glob is malformed.
    pub fn new(writer: DumpWriter, sites: &[String]) -> Result<Self> {
        let sites = if sites.is_empty() { None } else { Some(glob_set(sites)?) };
        let sites = Sites { writer, sites, attn_weights: false, sketch_seed: None, active: true };
        Ok(Self { target: Some(Target::Dump(Box::new(sites))), is_stopped: None })
    }

    /// The same recorder, which also writes the attention weights of the decoder, or does not: they are as large as the square
    /// of the prompt.
    pub fn with_attn_weights(mut self, wanted: bool) -> Self {
        if let Some(Target::Dump(sites)) = &mut self.target {
            sites.attn_weights = wanted;
        }
        self
    }

    /// The same recorder, which writes [sketches](golden::Sketch) of this seed in place of tensors.
    pub fn with_sketches(mut self, seed: Option<u64>) -> Self {
        if let Some(Target::Dump(sites)) = &mut self.target {
            sites.sketch_seed = seed;
        }
        self
    }

    /// A recorder that compares each site with another run's, and sets it to that.
    pub(crate) fn isolating(isolation: Isolation) -> Self {
        Self { target: Some(Target::Isolation(Box::new(isolation))), is_stopped: None }
    }

    /// The same recorder, which ends the computation at the next module once `is_stopped` says so.
    pub fn stopping(self, is_stopped: fn() -> bool) -> Self {
        Self { is_stopped: Some(is_stopped), ..self }
    }

    /// Records the output of a module: `name` is its path in `modeling.py`, `module` its class there.
    ///
    /// # Errors
    /// Where the dump cannot be written, or cannot hold the tensor's dtype; [`Error::Interrupted`] where the user has asked
    /// to stop.
    pub fn activation(&mut self, name: &str, module: &str, tensor: &Tensor) -> Result<()> {
        if self.is_stopped.is_some_and(|is_stopped| is_stopped()) {
            return Err(Error::Interrupted);
        }
        match &mut self.target {
            Some(Target::Dump(sites)) if sites.active => sites.push(name, Role::Activation, module, tensor),
            Some(Target::Isolation(isolation)) => isolation.activation(name, tensor),
            _ => Ok(()),
        }
    }

    /// Records the weights of an attention, where they are wanted: `name` is the attention's path, `module` its class.
    ///
    /// # Errors
    /// As [`Recorder::activation`].
    pub fn attn_weights(&mut self, name: &str, module: &str, tensor: &Tensor) -> Result<()> {
        if matches!(&self.target, Some(Target::Dump(sites)) if !sites.attn_weights) {
            return Ok(());
        }
        self.activation(&format!("{name}.{ATTN_WEIGHTS}"), &format!("{module} {ATTN_WEIGHTS}"), tensor)
    }

    /// Records what the model is given.
    ///
    /// # Errors
    /// As [`Recorder::activation`].
    pub fn input(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        self.given(name, Role::Input, tensor)
    }

    /// Records what the whole run gives.
    ///
    /// # Errors
    /// As [`Recorder::activation`].
    pub fn output(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        self.given(name, Role::Output, tensor)
    }

    fn given(&mut self, name: &str, role: Role, tensor: &Tensor) -> Result<()> {
        match &mut self.target {
            Some(Target::Dump(sites)) => sites.push(name, role, "", tensor),
            _ => Ok(()),
        }
    }

    /// Ends the prefill: no activation is kept from here on.
    pub fn end_of_prefill(&mut self) {
        if let Some(Target::Dump(sites)) = &mut self.target {
            sites.active = false;
        }
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.target.is_some()
    }

    /// The dump's writer, to be finished with a manifest.
    pub fn into_writer(self) -> Option<DumpWriter> {
        match self.target {
            Some(Target::Dump(sites)) => Some(sites.writer),
            _ => None,
        }
    }

    /// What was compared.
    pub(crate) fn into_isolation(self) -> Option<Isolation> {
        match self.target {
            Some(Target::Isolation(isolation)) => Some(*isolation),
            _ => None,
        }
    }
}

impl Sites {
    fn push(&mut self, name: &str, role: Role, module: &str, tensor: &Tensor) -> Result<()> {
        if self.sites.as_ref().is_some_and(|sites| !sites.is_match(name)) {
            return Ok(());
        }
        let dtype = dtype_of(tensor.kind())
            .ok_or_else(|| Error::RecordDtype { name: name.to_owned(), found: tensor.kind() })?;
        with_bytes(tensor, |shape, data| {
            match self.sketch_seed {
                Some(seed) => self.writer.push_sketch(name, role, module, dtype, shape, data, seed)?,
                None => self.writer.push(name, role, module, dtype, shape, data)?,
            }
            Ok(())
        })
    }
}

/// A dump's name of a dtype of libtorch; none where it cannot hold it.
pub(crate) fn dtype_of(kind: Kind) -> Option<golden::Dtype> {
    Some(match kind {
        Kind::Float => golden::Dtype::Float32,
        Kind::BFloat16 => golden::Dtype::BFloat16,
        Kind::Half => golden::Dtype::Float16,
        Kind::Double => golden::Dtype::Float64,
        Kind::Int64 => golden::Dtype::Int64,
        Kind::Int => golden::Dtype::Int32,
        Kind::Uint8 => golden::Dtype::UInt8,
        Kind::Bool => golden::Dtype::Bool,
        _ => return None,
    })
}

/// Calls a function with the shape and the bytes of a tensor.
pub(crate) fn with_bytes<T>(tensor: &Tensor, call: impl FnOnce(&[usize], &[u8]) -> Result<T>) -> Result<T> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let shape: Vec<usize> = tensor.size().iter().map(|&dim| dim as usize).collect();
    let len_bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
    let data: &[u8] = if len_bytes == 0 {
        &[]
    } else {
        // SAFETY: `tensor` is contiguous and on the CPU, holds exactly `len_bytes` bytes from `data_ptr` on, and
        // outlives the slice; nothing writes to it meanwhile.
        unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), len_bytes) }
    };
    call(&shape, data)
}

fn glob_set(patterns: &[String]) -> Result<GlobSet> {
    let fail = |pattern: &str, error: &globset::Error| Error::Sites {
        pattern: pattern.to_owned(),
        problem: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| fail(pattern, &error))?);
    }
    set.build().map_err(|error| fail("", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_stop_ends_the_computation_at_the_next_module() {
        let tensor = Tensor::from_slice(&[1.0_f32]);
        let at_a_module = |mut recorder: Recorder| recorder.activation("mlp1", "Sequential", &tensor);
        assert!(at_a_module(Recorder::off()).is_ok());
        assert!(at_a_module(Recorder::off().stopping(|| false)).is_ok());
        assert!(matches!(at_a_module(Recorder::off().stopping(|| true)), Err(Error::Interrupted)));
    }
}
